//! The sheet of a feature: its texts, its spread, what it promotes; as a picture and as a page.

use std::fs;

use arrakis_core::{Answer, Axis, Grid, Part, PlotSpec, Ranking, Series};
use arrakis_graph::{Backend as _, Html, Page, plot_parts, render_svg};

use super::browser::Browser;
use super::shapes::{refusal, svg};
use super::svg::Svg;
use super::{STYLE, grid};
use crate::fixtures::say;

/// What tools answer about a feature: two texts, the second at the end of its window, counts, a ranking, a number.
pub(super) fn feature() -> Vec<Part> {
    let offsets = Axis::new("offset", ["-1", "0", "1"]);
    let values = vec![0.5, 2.0, -1.0, 1.0, 1.5, f64::NAN];
    let tokens = [" very", " big", "<i>", "\n", " red", ""].map(str::to_owned).to_vec();
    let rows = Axis::new("rank", ["1: big", "2: red"]);
    let texts = Grid::new("N7", "activation", rows, offsets, values).unwrap().with_cells(tokens).unwrap();
    let bins = Axis::new("activation", ["-1.000", "-0.500", "0.000", "0.500"]);
    let counts = Series::new("Spread", "tokens", bins, [("tokens", vec![1.0, 900.0, 0.0, 3.0])]).unwrap();
    let promoted = Ranking::new("promoted", "logit", [(" huge", 3.0), (" tiny", -1.5)]);
    vec![
        Ranking::new("N7", "activation", [("«big»", 2.0)]).into(),
        texts.into(),
        counts.into(),
        promoted.into(),
        Part::Number(0.25),
    ]
}

#[test]
fn a_feature_is_its_texts_its_spread_and_what_it_promotes() {
    let picture = svg("feature", &feature());
    let tokens: Vec<_> = picture.cells().into_iter().filter(|cell| cell.height == 17.0).collect();
    let fills: Vec<&str> = tokens.iter().map(|cell| cell.fill.as_str()).collect();
    // Diverging colours over ±2; there is no sixth token.
    assert_eq!(fills, ["#FBCEB6", "#67001F", "#6BACD1", "#E58368", "#BB2A34"]);
    let middle = |place: usize| tokens[place].x + tokens[place].width / 2.0;
    assert!((middle(1) - middle(4)).abs() < 0.1, "the strongest tokens stand below each other");
    assert!((tokens[0].x + tokens[0].width - tokens[1].x).abs() < 0.1, "tokens follow one another");
    for text in ["·very", "·big", "&lt;i&gt;", "↵", "2.00", "1.50", "tokens (log)", "·huge", "−1.50"] {
        assert!(picture.has(text), "`{text}` is missing");
    }
    assert!(!picture.has("«big»") && picture.has("part 0.250"), "the ranking of the texts says nothing new");
    let long = Ranking::new("promoted", "logit", (0..11).map(|rank| (rank.to_string(), 1.0)));
    let long = svg("feature", &[feature().swap_remove(1), long.into()]);
    assert!(long.has("the first 10 entries of each ranking") && long.has("9") && !long.has("10"));
    let Part::Grid(mut short) = feature().swap_remove(1) else { panic!("the texts") };
    short.values.pop();
    assert!(refusal("feature", &[short.into()]).contains("wants 6 values and has 5"));
    let one = grid(1, 3, vec![0.0; 3]).with_cells(vec![String::new(); 3]).unwrap();
    assert!(refusal("feature", &[one.into()]).contains("a grid of tokens by `offset`"));
    let offsets = Axis::new("offset", ["-1", "0"]);
    let past = Grid::new("N7", "activation", Axis::indices("rank", 1), offsets, vec![1.0, f64::NAN]).unwrap();
    let past = past.with_cells(vec![" a".into(), String::new()]).unwrap();
    assert!(refusal("feature", &[past.into()]).contains("without a token at the offset 0"));
}

#[test]
fn an_answer_about_a_feature_is_a_sheet_on_its_page() {
    let answer = feature()
        .into_iter()
        .enumerate()
        .fold(Answer::new(), |answer, (place, part)| answer.with(format!("part{place}"), part));
    let page = Page::new("N7", &STYLE).unwrap().answer(&answer).unwrap().html().unwrap();
    assert!(page.contains("\"kind\":\"feature\"") && page.matches("class=\"widget\"").count() == 1);
    let more = Page::new("N7", &STYLE).unwrap().answer(&answer.with("heads", grid(1, 1, vec![0.0]))).unwrap();
    assert!(!more.html().unwrap().contains("\"kind\":\"feature\""), "nothing of an answer is left out");
    let other =
        Page::new("By head", &STYLE).unwrap().answer(&Answer::new().with("heads", grid(1, 1, vec![0.0]))).unwrap();
    assert!(other.html().unwrap().contains("\"kind\":\"grid\""));
}

#[test]
fn counts_over_equal_bins_are_bars() {
    let Some(Part::Series(counts)) = feature().into_iter().find(|part| matches!(part, Part::Series(_))) else {
        panic!()
    };
    let bars = |part: Part| {
        let picture = Svg::of(&render_svg(&part, &STYLE).unwrap());
        let bars = picture.rects.iter().filter(|rect| rect.fill == "#0072B2").count();
        (bars, picture.strokes)
    };
    assert_eq!(bars(counts.clone().into()), (3, 0), "an empty bin has none");
    let mut shares = counts.clone();
    shares.lines[0].values[0] = 0.5;
    assert_eq!(bars(shares.into()).0, 0, "shares are no counts");
    let mut apart = counts;
    apart.axis.labels[3] = "9.000".into();
    assert_eq!(bars(apart.into()), (0, 1), "bins of other widths are a line");
}

#[test]
fn a_feature_is_read_by_pointer_and_keyboard() {
    let Some(mut browser) = Browser::start() else {
        say("a feature in a browser: skipped, no Chromium is installed");
        return;
    };
    let parts = feature();
    let parts: Vec<(&str, &Part)> = parts.iter().map(|part| ("part", part)).collect();
    let picture = plot_parts(&PlotSpec::new("feature"), &parts).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("feature.html");
    fs::write(&path, Html.render(picture.as_ref(), &STYLE).unwrap()).unwrap();
    browser.open_file(&path, "document.querySelector('.widget')?.dataset.ready === 'true'");
    browser.hover(".tokens span:nth-of-type(3)", (0.5, 0.5));
    assert_eq!(browser.text(".read"), "“<i>”: activation −1");
    // The strongest token of each text is where the keyboard comes in; arrows lead on.
    browser.eval("document.querySelectorAll('.tokens')[1].querySelector('[tabindex=\"0\"]').focus()");
    assert_eq!(browser.text(".read"), "“·red”: activation 1.5");
    browser.press("ArrowLeft");
    assert_eq!(browser.text(".read"), "“↵”: activation 1");
    browser.eval("document.querySelector('.bars span').focus()");
    browser.press("ArrowRight");
    assert_eq!(browser.text(".read"), "activation −0.5 to 0: 900 tokens");
    let heights = browser.eval("[...document.querySelectorAll('.bars i')].map((bar) => parseFloat(bar.style.height))");
    let heights: Vec<f64> = heights.as_array().unwrap().iter().map(|height| height.as_f64().unwrap()).collect();
    assert!(heights[1] == 100.0 && heights[2] == 0.0 && heights[0] < heights[3], "{heights:?}");
    let ranked = browser.eval("[...document.querySelectorAll('.ranking tr')].map((row) => row.textContent)");
    assert_eq!(ranked, serde_json::json!(["·huge3", "·tiny−1.5"]));
    assert_eq!(browser.text("dl"), "part0.250");
    browser.keep_screenshot("feature");
    assert_eq!(browser.requests.len(), 1, "the page alone: {:?}", browser.requests);
}

//! Pages of HTML: what they hold, what they weigh, and how they answer pointer and keyboard.

use std::fs;

use arrakis_core::{Answer, Axis, Grid, Part, PlotSpec, Ranking, Series, Stack};
use arrakis_graph::{Backend as _, Cell, Html, Page, draw_answer, picture_of, plot_parts};
use tch::{Device, Kind, Tensor};

use super::STYLE;
use super::browser::Browser;
use crate::fixtures::say;

const HOSTILE: &str = "<script>alert(1)</script>";

/// Patterns whose head `h` looks `h` places back, or as far as there are places.
fn patterns(layers: i64, heads: i64, tokens: &[String]) -> Part {
    let len = tokens.len() as i64;
    let shift = |head: i64| {
        let keys: Vec<i64> = (0..len).map(|query| (query - head).max(0)).collect();
        Tensor::from_slice(&keys).one_hot(len).to_kind(Kind::Float)
    };
    let maps: Vec<Tensor> = (0..heads).map(shift).collect();
    let values = Tensor::stack(&maps, 0).unsqueeze(0).repeat([layers, 1, 1, 1]);
    let axes = vec![
        Axis::indices("layer", layers as usize),
        Axis::indices("head", heads as usize),
        Axis::new("query", tokens),
        Axis::new("key", tokens),
    ];
    Stack::new("Patterns", "attention", axes, values).unwrap().into()
}

fn tokens(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|&text| text.to_owned()).collect()
}

fn page(part: &Part) -> String {
    String::from_utf8(Html.render(picture_of(part).unwrap(), &STYLE).unwrap()).unwrap()
}

fn lens() -> Grid {
    let (rows, columns) = (Axis::indices("layer", 3), Axis::new("position", [" The", HOSTILE]));
    let cells = [" a", HOSTILE, "\n", "\u{202E}", "é", "北"].map(str::to_owned).to_vec();
    Grid::new("Lens", "probability", rows, columns, vec![0.0, 0.25, f64::NAN, 0.5, 0.75, 1.0])
        .unwrap()
        .with_cells(cells)
        .unwrap()
}

#[test]
fn a_page_holds_everything_and_no_text_is_markup() {
    let answer = Answer::new()
        .with("gap", 1.5e-9)
        .with("note", HOSTILE)
        .with("lens", lens())
        .with("best", Ranking::new(HOSTILE, "logit", [(HOSTILE, 1.0), (" the", -2.0)]))
        .with("patterns", patterns(2, 2, &tokens(&["a", HOSTILE])));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.html");
    assert_eq!(draw_answer(&answer, &path, &STYLE).unwrap(), std::slice::from_ref(&path));
    let text = fs::read_to_string(&path).unwrap();
    assert_eq!(text.matches("<script>alert").count(), 0);
    assert!(text.contains("&lt;script&gt;alert(1)&lt;/script&gt;") && text.contains("\\u003cscript>alert(1)"));
    assert!(
        !text.contains("http://")
            || text.matches("http://").count() == text.matches("http://www.w3.org/2000/svg").count()
    );
    assert!(!text.contains("https://") && text.contains("default-src 'none'") && text.contains("1.5e−9"));
    assert_eq!(text, fs::read_to_string(&path).unwrap());
    let again = Page::new("x", &STYLE).unwrap().answer(&answer).unwrap().html().unwrap();
    assert_eq!(text, again, "the same answer makes the same bytes");
    assert!(text.contains("var(--ink)") && !text.contains("\"#222226\""), "pictures follow light and dark");
}

#[test]
fn a_large_model_makes_a_small_page_that_says_what_it_left_out() {
    let names: Vec<String> = (0..192).map(|place| format!(" t{place}")).collect();
    let Part::Stack(stack) = patterns(20, 12, &names) else { unreachable!() };
    // A tenth of all attention is spread evenly.
    let even = Tensor::ones([192, 192], (Kind::Float, Device::Cpu)) / 192.0;
    let stack = Stack { values: &stack.values * 0.9 + even * 0.1, ..stack };
    let text = page(&stack.into());
    assert!(text.len() < 3_000_000, "{} bytes", text.len());
    // 20 × 12 × 192 queries of 192 keys are more than 8 MB.
    let note = "it holds the 32 strongest keys of each query, ";
    assert!(text.contains(note), "the page says so");
    let share = text.split_once(note).unwrap().1.split_once('%').unwrap().0.parse::<f64>().unwrap();
    assert!((share - 100.0 * (0.9 + 0.1 * 32.0 / 192.0)).abs() < 0.1, "{share}%");
}

#[test]
fn pages_answer_pointer_and_keyboard() {
    let Some(mut browser) = Browser::start() else {
        say("pages in a browser: skipped, no Chromium is installed");
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("attention.html");
    fs::write(&path, page(&patterns(3, 4, &tokens(&["When", " Mary", HOSTILE, "\n", " gave"])))).unwrap();
    browser.open_file(&path, "document.querySelector('.widget')?.dataset.ready === '0'");

    // Hovering a token colours where it looks, and what looks at it.
    browser.hover(".tokens span:nth-of-type(3)", (0.5, 0.5));
    assert_eq!(browser.text(".read"), format!("“{HOSTILE}” (2) looks at “{HOSTILE}” (2) 1"));
    let shown = |row: u8, place: u8| {
        format!("document.querySelectorAll('.tokens')[{row}].querySelectorAll('span')[{place}].title")
    };
    // Head 2 looks two places back: token 4 looks at 2, token 2 at 0.
    browser.eval("document.querySelectorAll('.heads button')[2].click()");
    assert_eq!(browser.eval(&shown(0, 0)), "1");
    assert_eq!(browser.eval(&shown(1, 4)), "1");
    assert_eq!(browser.eval("document.querySelectorAll('[aria-checked=true]').length"), 1);
    // The map reads out the cell under the pointer: query 3, key 1.
    browser.hover(".map", (0.3, 0.7));
    assert_eq!(browser.text(".read"), "“↵” (3) looks at “·Mary” (1): 1");
    browser.keep_screenshot("attention");
    // Arrows go along tokens, heads and layers.
    browser.eval("document.querySelector('.tokens span').focus()");
    browser.press("ArrowRight");
    assert_eq!(browser.eval("document.activeElement.textContent"), "·Mary");
    browser.eval("document.querySelectorAll('.heads button')[2].focus()");
    browser.press("ArrowRight");
    assert_eq!(browser.eval("document.activeElement.getAttribute('aria-label')"), "head 3");
    browser.eval("document.querySelector('input[type=range]').focus()");
    browser.press("ArrowRight");
    browser.wait("document.querySelector('.widget').dataset.ready === '1'");
    assert_eq!(browser.text("output"), "1");
    browser.eval(
        "[...document.querySelectorAll('.controls button')].find((b) => b.textContent.startsWith('mean')).click()",
    );
    assert!(browser.text(".read").contains("the mean over heads"));
    browser.hover(".map", (0.9, 0.9));
    assert_eq!(browser.text(".read"), "“·gave” (4) looks at “·gave” (4): 0.252", "one head of four, in a byte");
    browser.eval(
        "[...document.querySelectorAll('.controls button')].find((b) => b.textContent.startsWith('max')).click()",
    );
    browser.hover(".map", (0.7, 0.9));
    assert_eq!(browser.text(".read"), "“·gave” (4) looks at “↵” (3): 1", "the greatest over heads");
    let beside =
        browser.eval("[...document.querySelectorAll('.labelled .queries li')].map((label) => label.textContent)");
    assert_eq!(beside, serde_json::json!(["When", "·Mary", HOSTILE, "↵", "·gave"]));
    browser.eval(
        "[...document.querySelectorAll('.controls button')].find((b) => b.textContent.startsWith('mean')).click()",
    );
    browser.hover(".map", (0.1, 0.9));
    assert_eq!(browser.text(".read"), "“·gave” (4) looks at “When” (0): 0", "no head looks four places back");
    assert_eq!(browser.requests.len(), 1, "the page alone: {:?}", browser.requests);

    // A page that holds the strongest keys alone says so of the others: they are not 0.
    let names: Vec<String> = (0..512).map(|place| format!(" t{place}")).collect();
    let path = folder.path().join("large.html");
    fs::write(&path, page(&patterns(4, 8, &names))).unwrap();
    browser.open_file(&path, "document.querySelector('.widget')?.dataset.ready === '0'");
    browser.hover(".map", (0.5, 0.999));
    assert_eq!(browser.text(".read"), "“·t511” (511) looks at “·t256” (256): not kept");
    browser.eval("document.querySelectorAll('.heads button')[3].click()");
    for (query, key) in [(511, 508), (200, 197), (258, 255), (259, 256)] {
        browser.eval(&format!("document.querySelector('.tokens').querySelectorAll('span')[{query}].focus()"));
        let looks = format!("“·t{query}” ({query}) looks at “·t{key}” ({key}) 1");
        assert_eq!(browser.text(".read"), looks, "a key is two bytes");
    }
    browser.eval("document.querySelectorAll('.controls button')[2].click()");
    browser.eval("document.querySelector('.tokens').querySelectorAll('span')[300].focus()");
    let most = "“·t300” (300) looks at “·t293” (293) 1, “·t294” (294) 1, “·t295” (295) 1";
    assert_eq!(browser.text(".read"), most, "eight heads look at eight keys, each with all its weight");

    // A grid is read by clicks and arrows, as a table or as text; in the dark and in print too.
    let path = folder.path().join("lens.html");
    fs::write(&path, page(&lens().into())).unwrap();
    browser.emulate("dark", "screen");
    browser.open_file(&path, "document.querySelector('.widget')?.dataset.ready === 'true'");
    browser.eval("document.querySelectorAll('td')[1].click()");
    assert_eq!(browser.text(".read"), format!("layer 0, position {HOSTILE}: “{HOSTILE}”, probability 0.25"));
    browser.press("ArrowDown");
    assert_eq!(browser.text(".read"), format!("layer 1, position {HOSTILE}: “\\u{{202E}}”, probability 0.5"));
    assert_eq!(browser.eval("document.querySelectorAll('td')[2].className"), "odd");
    browser.wait("getComputedStyle(document.body).backgroundColor === 'rgb(22, 24, 29)'");
    browser.keep_screenshot("lens-dark");
    browser.eval("[...document.querySelectorAll('.controls button')].find((b) => b.textContent === 'text').click()");
    assert_eq!(browser.eval("document.querySelectorAll('.tokens').length"), 3);
    browser.emulate("light", "print");
    browser.wait("getComputedStyle(document.querySelector('.controls')).display === 'none'");
    assert_eq!(browser.eval("document.querySelectorAll('script').length"), 3, "no token became a script");
    assert_eq!(browser.requests.len(), 1, "the page alone: {:?}", browser.requests);
}

#[test]
fn a_text_is_read_token_by_token_and_a_table_filtered_by_words() {
    let Some(mut browser) = Browser::start() else {
        say("texts and tables in a browser: skipped, no Chromium is installed");
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("text.html");
    let line = [("", vec![0.5, -1.0, f64::NAN])];
    let series: Part =
        Series::new("Neuron", "activation", Axis::new("token", [" The", HOSTILE, "\n"]), line).unwrap().into();
    let text = plot_parts(&PlotSpec::new("text"), &[("neuron", &series)]).unwrap();
    fs::write(&path, Html.render(text.as_ref(), &STYLE).unwrap()).unwrap();
    browser.open_file(&path, "document.querySelector('.widget')?.dataset.ready === 'true'");
    browser.hover(".tokens span:nth-of-type(2)", (0.5, 0.5));
    assert_eq!(browser.text(".read"), format!("“{HOSTILE}” (1): activation −1"));
    browser.eval("document.querySelector('.tokens span').focus()");
    browser.press("ArrowRight");
    browser.press("ArrowRight");
    assert_eq!(browser.text(".read"), "“↵” (2): activation NaN");
    let colours = browser
        .eval("[...document.querySelectorAll('.tokens span')].map((span) => span.style.background || span.className)");
    assert_eq!(colours, serde_json::json!(["rgb(229, 131, 104)", "rgb(5, 48, 97)", "odd"]));
    browser.keep_screenshot("text");

    let rows: Vec<Vec<Cell>> = (0..8)
        .map(|row| vec![format!("run {row}").into(), if row % 2 == 0 { "even" } else { HOSTILE }.to_owned().into()])
        .collect();
    let table = Page::new("Runs", &STYLE).unwrap().table(&["run", "what"], &rows).html().unwrap();
    let path = folder.path().join("table.html");
    fs::write(&path, table).unwrap();
    browser.open_file(&path, "document.querySelector('input[type=search]') !== null");
    let filter = |words: &str| {
        format!(
            "(() => {{ const filter = document.querySelector('input[type=search]'); filter.value = '{words}'; \
             filter.dispatchEvent(new Event('input')); \
             return [...document.querySelectorAll('tbody tr')].filter((row) => !row.hidden).map((row) => row.cells[0].textContent); }})()"
        )
    };
    assert_eq!(browser.eval(&filter("EVEN run")), serde_json::json!(["run 0", "run 2", "run 4", "run 6"]));
    assert_eq!(browser.eval(&filter("script 3")), serde_json::json!(["run 3"]));
    assert_eq!(browser.eval(&filter("none")), serde_json::json!([]));
    assert_eq!(browser.eval(&filter("")).as_array().unwrap().len(), 8);
    browser.keep_screenshot("table");
    assert_eq!(browser.requests.len(), 1, "the page alone: {:?}", browser.requests);
}

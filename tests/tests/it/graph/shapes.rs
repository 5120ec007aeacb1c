//! The kinds of plots over parts of answers, and how shapes are laid out.

use arrakis_core::{Axis, Grid, Part, PlotSpec, Ranking, Series, Stack};
use arrakis_graph::{Backend as _, Html, Png, Svg as SvgBackend, kinds, plot_parts};
use tch::Tensor;

use super::feature::feature;
use super::svg::{Image, Svg};
use super::{STYLE, grid, stack};

pub(super) fn svg(kind: &str, parts: &[Part]) -> Svg {
    let parts: Vec<(&str, &Part)> = parts.iter().map(|part| ("part", part)).collect();
    let picture = plot_parts(&PlotSpec::new(kind), &parts).unwrap();
    Svg::of(&String::from_utf8(SvgBackend.render(picture.as_ref(), &STYLE).unwrap()).unwrap())
}

pub(super) fn refusal(kind: &str, parts: &[Part]) -> String {
    let parts: Vec<(&str, &Part)> = parts.iter().map(|part| ("part", part)).collect();
    plot_parts(&PlotSpec::new(kind), &parts).err().unwrap().to_string()
}

fn ranking() -> Part {
    Ranking::new("Parts", "logit", [("embed", 1.0), ("head 3.1", 2.5), ("mlp 4", -0.5)]).into()
}

fn curves() -> Part {
    let lines = [
        ("diagonal, seed 0", vec![3.0, 2.0, 1.0]),
        ("diagonal, seed 1", vec![3.0, 1.0, 0.5]),
        ("plain", vec![3.0, 2.5, 2.0]),
    ];
    Series::new("Loss", "nats", Axis::indices("step", 3), lines).unwrap().into()
}

fn intervals() -> Part {
    let columns = Axis::new("number", ["estimate", "low", "high"]);
    let rows = Axis::new("metric", ["loss", "accuracy"]);
    Grid::new("Differences", "difference", rows, columns, vec![0.5, 0.2, 0.8, 0.1, -0.3, 0.5]).unwrap().into()
}

fn composition() -> Part {
    let axes = ["earlier layer", "head", "later layer", "head"].map(|name| Axis::indices(name, 2)).to_vec();
    let values =
        Tensor::from_slice(&[0.0_f32, 0.0, 0.3, 0.1, 0.0, 0.0, 0.2, 0.9, 5.0, 5.0, 5.0, 5.0, 5.0, 5.0, 5.0, 5.0]);
    Stack::new("K-composition", "score", axes, values.reshape([2, 2, 2, 2])).unwrap().into()
}

fn lens() -> Part {
    grid(2, 2, vec![0.1, 0.2, 0.3, 0.9])
        .with_cells(["a", " b", "\n", "<i>"].map(str::to_owned).to_vec())
        .unwrap()
        .into()
}

fn heads() -> Part {
    let (rows, columns) = (Axis::indices("layer", 2), Axis::indices("head", 3));
    Grid::new("By head", "logit", rows, columns, vec![0.0, 1.0, -2.0, 0.0, 0.5, 0.0]).unwrap().into()
}

/// Parts that each kind over answers can show.
fn shown_by(kind: &str) -> Vec<Part> {
    match kind {
        "logit_lens" => vec![lens()],
        "patching" | "head_layer" | "histogram" => vec![heads()],
        "waterfall" | "profile" => vec![ranking()],
        "training_curves" | "text" => vec![curves()],
        "intervals" | "scatter" => vec![intervals()],
        "composition" => vec![composition()],
        "difference" => vec![heads(), heads()],
        "feature" => feature(),
        kind => panic!("no parts for `{kind}`"),
    }
}

#[test]
fn every_kind_over_answers_draws_and_says_what_it_wants() {
    for kind in kinds().iter().filter(|kind| !kind.reads_points()) {
        let picture = svg(kind.name(), &shown_by(kind.name()));
        assert!(picture.texts.len() > 3, "{}", kind.name());
        let error = refusal(kind.name(), &[Part::Number(1.0)]);
        assert!(error.contains("is drawn from") && error.contains("`part` (number)"), "{error}");
        let parts = shown_by(kind.name());
        let parts: Vec<(&str, &Part)> = parts.iter().map(|part| ("part", part)).collect();
        let picture = plot_parts(&PlotSpec::new(kind.name()).titled("Mine"), &parts).unwrap();
        let page = Html.render(picture.as_ref(), &STYLE).unwrap();
        assert!(String::from_utf8(page).unwrap().contains("<title>Mine</title>"), "{}", kind.name());
        let image = Image::of(&Png.render(picture.as_ref(), &STYLE).unwrap());
        assert_eq!(image.hex(0, 0), "#FFFFFF");
    }
}

#[test]
fn a_picture_of_each_kind_is_made_of_what_it_was() {
    let outlines: Vec<String> = kinds()
        .iter()
        .filter(|kind| !kind.reads_points())
        .map(|kind| format!("{}: {}", kind.name(), svg(kind.name(), &shown_by(kind.name())).outline()))
        .collect();
    insta::assert_snapshot!(outlines.join("\n\n"));
}

#[test]
fn a_lens_may_be_coloured_by_another_grid_of_its_cells() {
    let mut entropy = grid(2, 2, vec![4.0, 3.0, 2.0, 1.0]);
    entropy.value = "nats".into();
    let [own, other] = [svg("logit_lens", &[lens()]), svg("logit_lens", &[lens(), entropy.clone().into()])];
    assert!(other.has("&lt;i&gt;") && other.has("nats") && !own.has("nats"));
    let fills = |picture: &Svg| picture.cells().into_iter().map(|cell| cell.fill).collect::<Vec<_>>();
    assert_eq!((&*fills(&own)[3], &*fills(&other)[3], &*fills(&other)[0]), ("#FDE725", "#440154", "#FDE725"));
    let several = svg("logit_lens", &[lens(), entropy.clone().into(), entropy.into()]);
    assert_eq!(fills(&several), fills(&own), "of several others none is meant");
}

#[test]
fn a_histogram_counts_every_number() {
    let values: Vec<f64> = [vec![0.0; 30], vec![10.0; 10], vec![f64::NAN, f64::INFINITY]].concat();
    let picture = svg("histogram", &[grid(6, 7, values).into()]);
    let bars: Vec<_> = picture.rects.iter().filter(|rect| rect.fill == "#0072B2").collect();
    let [zeros, tens] = bars.as_slice() else { panic!("{} bars", bars.len()) };
    assert!((zeros.height / tens.height - 3.0).abs() < 0.05 && zeros.x < tens.x, "30 and 10");
    assert!(picture.has("left out: 1 × NaN") && picture.has("left out: 1 × ∞"));
}

#[test]
fn dots_lie_where_their_pairs_say() {
    let columns = Axis::new("number", ["along", "up"]);
    let values = vec![0.0, 0.0, 1.0, 4.0, 2.0, 2.0, f64::NAN, 1.0];
    let part = Grid::new("Pairs", "v", Axis::new("head", ["a", "b", "c", "d"]), columns, values).unwrap();
    let picture = svg("scatter", &[part.into()]);
    assert_eq!(picture.disks, 3, "one pair has no place");
    let number = |line: &str, name: &str| {
        let rest = line.split_once(&format!(" {name}=\"")).unwrap().1;
        rest.split_once('"').unwrap().0.parse::<f64>().unwrap()
    };
    let dots = picture.text.lines().filter(|line| line.starts_with("<circle"));
    let dots: Vec<(f64, f64)> = dots.map(|line| (number(line, "cx"), number(line, "cy"))).collect();
    let along = (dots[1].0 - dots[0].0, dots[2].0 - dots[0].0);
    let up = (dots[0].1 - dots[1].1, dots[0].1 - dots[2].1);
    assert!((along.1 / along.0 - 2.0).abs() < 0.01 && (up.0 / up.1 - 2.0).abs() < 0.01, "{dots:?}");
    assert!(picture.has("along") && picture.has("up") && picture.has("b"));
}

#[test]
fn a_profile_says_what_share_each_part_has() {
    let picture = svg("profile", &[Ranking::new("Time", "ms", [("norm", 1.0), ("mlp", 3.0)]).into()]);
    let bars: Vec<_> = picture.rects.iter().filter(|rect| rect.height == 13.0).collect();
    assert!((bars[0].width / bars[1].width - 3.0).abs() < 0.05 && bars[0].y < bars[1].y, "the longest comes first");
    assert!(picture.has("mlp (75%)") && picture.has("norm (25%)"));
}

#[test]
fn a_waterfall_ends_at_the_sum() {
    let picture = svg("waterfall", &[ranking()]);
    let bars: Vec<_> = picture.rects.iter().filter(|rect| rect.height == 13.0).collect();
    let [embed, head, mlp, sum] = bars.as_slice() else { panic!("{} bars", bars.len()) };
    assert!((embed.x + embed.width - head.x).abs() < 0.1, "each begins where the last one ended");
    assert!((head.x + head.width - (mlp.x + mlp.width)).abs() < 0.1, "a negative part leads back");
    assert!((sum.width - (mlp.x - embed.x)).abs() < 0.1 && (sum.x - embed.x).abs() < 0.1);
    assert!(picture.has("3.00") && picture.has("−0.50") && mlp.fill != head.fill);
}

#[test]
fn seeds_are_one_curve_with_a_band() {
    let picture = svg("training_curves", &[curves()]);
    assert!(picture.has("diagonal (2 seeds)") && picture.has("plain"));
    assert_eq!(picture.areas, 1);
    let other = Series::new("Other", "nats", Axis::indices("step", 2), [("a", vec![1.0, 2.0])]).unwrap();
    assert!(refusal("training_curves", &[curves(), other.into()]).contains("have different ones"));
}

#[test]
fn intervals_that_leave_out_zero_stand_out() {
    let picture = svg("intervals", &[intervals()]);
    assert_eq!(picture.text.matches("stroke=\"#C03A3A\"").count(), 3, "one interval and its two ends");
    assert_eq!(picture.disks, 2);
    assert!(picture.has("red: the interval leaves out 0"));
}

#[test]
fn two_grids_share_a_scale_and_their_difference_has_its_own() {
    let (a, b) = (grid(1, 2, vec![0.0, 1.0]), grid(1, 2, vec![0.0, 3.0]));
    let picture = svg("difference", &[a.into(), b.into()]);
    let fills: Vec<String> =
        picture.cells().into_iter().map(|cell| cell.fill).filter(|fill| fill != "#FFFFFF").collect();
    assert_eq!(fills.iter().filter(|fill| *fill == "#FDE725").count(), 1, "3 is the greatest of both");
    assert_eq!(fills.last().map(String::as_str), Some("#67001F"), "2 more");
    let error = {
        let (a, b): (Part, Part) = (heads(), grid(1, 2, vec![0.0, 3.0]).into());
        let parts = [("a", &a), ("b", &b)];
        let picture = plot_parts(&PlotSpec::new("difference"), &parts).unwrap();
        SvgBackend.render(picture.as_ref(), &STYLE).unwrap_err().to_string()
    };
    assert!(error.contains("same labels"), "{error}");
}

#[test]
fn a_graph_of_heads_links_earlier_layers_to_later_ones() {
    let picture = svg("composition", &[composition()]);
    assert_eq!(picture.strokes, 4, "scores of a layer with itself or a later one are none");
    assert!(!picture.text.contains("strongest of"));
}

#[test]
fn text_is_coloured_token_by_token() {
    let line = [("", vec![0.0, 1.0, f64::NAN])];
    let series = Series::new("Neuron", "activation", Axis::new("token", ["<b>", " the", "\n"]), line).unwrap();
    let picture = svg("text", &[series.into()]);
    let cells = picture.cells();
    let fills: Vec<&str> = cells[..3].iter().map(|cell| cell.fill.as_str()).collect();
    assert_eq!(fills[..2], ["#440154", "#FDE725"]);
    assert!(picture.has("&lt;b&gt;") && picture.has("·the") && picture.has("↵") && picture.has("grey: 1 × NaN"));
}

#[test]
fn axes_of_one_entry_are_named_in_the_title() {
    let flat = Svg::of(&arrakis_graph::render_svg(&stack(&[1, 3, 4]).into(), &STYLE).unwrap());
    assert!(flat.has("A stack (head 0)") && flat.cells().len() == 12);
    // Twelve panels of a row each are one grid with a row for each.
    let rows = Svg::of(&arrakis_graph::render_svg(&stack(&[12, 1, 5]).into(), &STYLE).unwrap());
    assert_eq!(rows.cells().len(), 60);
    assert!(rows.cells()[0].height >= 20.0 && rows.has("A stack (query 0)"));
}

#[test]
fn long_labels_keep_both_ends_and_decimals_lose_their_zeros() {
    let points = ["blocks.0.attn.hook_attn_scores_of_a_long_name", "blocks.11.attn.hook_attn_scores_of_a_long_end"];
    let rows = Axis::new("point", points);
    let steps = Axis::new("step", ["0.000", "0.125", "1.000"]);
    let part: Part = Grid::new("Long", "v", rows, steps, vec![0.0; 6]).unwrap().into();
    let picture = Svg::of(&arrakis_graph::render_svg(&part, &STYLE).unwrap());
    let texts: Vec<&str> = picture.texts.iter().map(|text| text.written.as_str()).collect();
    assert!(
        texts.iter().any(|text| text.starts_with("blocks.0") && text.ends_with("_name") && text.contains('…')),
        "{texts:?}"
    );
    assert!(texts.iter().any(|text| text.starts_with("blocks.11") && text.ends_with("_end")), "{texts:?}");
    assert!(picture.has("0") && picture.has("0.125") && picture.has("1") && !picture.has("0.000"));
}

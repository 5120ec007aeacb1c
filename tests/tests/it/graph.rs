//! Pictures: what is drawn where, in which colour, and what is refused.

mod axes;
pub(crate) mod browser;
mod feature;
mod files;
mod kinds;
mod pages;
mod shapes;
mod svg;

use arrakis_core::{Axis, Grid, Part, Ranking, Series, Stack};
use arrakis_graph::{Style, render_png, render_svg};
use proptest::prelude::*;
use tch::{Kind, Tensor};

use svg::{Image, Svg};

const STYLE: Style = Style { width: 720.0, scale: 1.0, dark: false };

fn grid(rows: usize, columns: usize, values: Vec<f64>) -> Grid {
    Grid::new("A grid", "value", Axis::indices("row", rows), Axis::indices("column", columns), values).unwrap()
}

fn series(lines: &[(&str, Vec<f64>)]) -> Part {
    let axis = Axis::indices("step", lines[0].1.len());
    Series::new("Lines", "loss", axis, lines.iter().cloned()).unwrap().into()
}

fn stack(shape: &[i64]) -> Stack {
    let axes = ["batch", "layer", "head", "query", "key"];
    let axes = axes[5 - shape.len()..].iter().zip(shape).map(|(name, &len)| Axis::indices(*name, len as usize));
    let values = Tensor::arange(shape.iter().product::<i64>(), (Kind::Float, tch::Device::Cpu)).reshape(shape);
    Stack::new("A stack", "attention", axes.collect(), values).unwrap()
}

fn svg(part: impl Into<Part>) -> Svg {
    Svg::of(&render_svg(&part.into(), &STYLE).unwrap())
}

/// One part of each shape, with awkward labels.
fn every_shape() -> Vec<Part> {
    let tokens = [" supercalifragilistic", "\n", "\t", "  ", "<b>&\"'", "北京", "\0", "é", "a b", ""];
    let values: Vec<f64> = (0..100).map(|i| f64::from(i) - 30.0).collect();
    let axis = || Axis::new("token", tokens);
    let lens = Grid::new("Lens <&>", "p", axis(), axis(), values.clone()).unwrap().diverging();
    let cells = tokens.iter().cycle().take(100).map(|&token| token.to_owned()).collect();
    vec![
        lens.clone().into(),
        lens.with_cells(cells).unwrap().into(),
        Series::new("Lines", "loss", axis(), [("a", values[..10].to_vec()), ("b", values[50..60].to_vec())])
            .unwrap()
            .into(),
        Ranking::new("Ranking", "logit", tokens.iter().zip(&values).map(|(&token, &value)| (token, value))).into(),
        stack(&[2, 3, 4, 4]).into(),
    ]
}

#[test]
fn a_heatmap_has_a_cell_for_each_number_in_place_and_colour() {
    let picture = svg(grid(3, 4, (0..12).map(f64::from).collect()));
    let cells = picture.cells();
    assert_eq!(cells.len(), 12);
    assert_eq!((cells[0].fill.as_str(), cells[11].fill.as_str()), ("#440154", "#FDE725"));
    assert!(cells[1].x > cells[0].x && cells[1].y == cells[0].y, "columns run to the right");
    assert!(cells[4].y > cells[0].y && cells[4].x == cells[0].x, "rows run down");
    for text in ["A grid", "row", "column", "value", "0", "3", "10"] {
        assert!(picture.texts.iter().any(|found| found.written == text), "`{text}` is missing");
    }
}

#[test]
fn a_diverging_scale_is_white_at_zero_and_as_long_on_both_sides() {
    let cells = svg(grid(1, 4, vec![-1.0, 0.0, 2.0, -2.0]).diverging()).cells();
    let fills: Vec<&str> = cells.iter().map(|cell| cell.fill.as_str()).collect();
    assert_eq!(fills[1..], ["#FFFFFF", "#67001F", "#053061"]);
    assert_ne!(fills[0], fills[3]);
}

#[test]
fn png_and_svg_show_the_same_colours_in_the_same_places() {
    for scale in [1.0, 2.0] {
        let part: Part = grid(5, 6, (0..30).map(|i| (f64::from(i) * 1.7).sin()).collect()).diverging().into();
        let image = Image::of(&render_png(&part, &Style { scale, ..STYLE }).unwrap());
        for cell in svg(part.clone()).cells() {
            let middle = ((cell.x + cell.width / 2.0) * scale, (cell.y + cell.height / 2.0) * scale);
            assert_eq!(image.hex(middle.0 as usize, middle.1 as usize), cell.fill);
        }
    }
}

#[test]
fn texts_in_cells_stand_out() {
    let lens = grid(1, 2, vec![0.0, 1.0]).with_cells(vec!["dark".into(), "light".into()]).unwrap();
    let picture = svg(lens);
    let fill = |text: &str| picture.texts.iter().find(|found| found.written == text).unwrap().fill.clone();
    assert_eq!((fill("dark").as_str(), fill("light").as_str()), ("#FFFFFF", "#141414"));
}

#[test]
fn whitespace_and_what_the_font_lacks_can_be_seen() {
    let labels = [" Paris", "a b", "a  b", " ", "\n", "\t", "<b>&\"", "北", "\0", "\u{AD}", "\u{200B}"];
    let ranking = Ranking::new("Tokens", "p", labels.map(|label| (label, 1.0)));
    let picture = svg(ranking);
    let shown: Vec<&str> = picture.texts.iter().map(|text| text.written.as_str()).collect();
    let wanted = [
        "·Paris",
        "a b",
        "a··b",
        "·",
        "↵",
        "→",
        "&lt;b&gt;&amp;&quot;",
        "\\u{5317}",
        "\\u{0000}",
        "\\u{00AD}",
        "\\u{200B}",
    ];
    for text in wanted {
        assert!(shown.contains(&text), "`{text}` is missing among {shown:?}");
    }
}

#[test]
fn nothing_is_cut_off_at_the_edges() {
    for part in every_shape() {
        for width in [240.0, 720.0] {
            let image = Image::of(&render_png(&part, &Style { width, ..STYLE }).unwrap());
            let edge = |x: usize, y: usize| x < 2 || y < 2 || x + 2 >= image.width || y + 2 >= image.height;
            let places = (0..image.height).flat_map(|y| (0..image.width).map(move |x| (x, y)));
            let touched = places.filter(|&(x, y)| edge(x, y)).any(|(x, y)| image.hex(x, y) != "#FFFFFF");
            assert!(!touched, "something reaches the edge of {part:?}");
        }
    }
}

#[test]
fn long_labels_are_turned_thinned_and_never_overlap() {
    let tokens = (0..200).map(|i| format!(" token{i}"));
    let values = vec![0.5; 400];
    let grid = Grid::new("Long", "p", Axis::indices("layer", 2), Axis::new("token", tokens), values).unwrap();
    let picture = svg(grid);
    let turned: Vec<_> = picture.texts.iter().filter(|text| text.turned && text.written.starts_with('·')).collect();
    assert!((20..200).contains(&turned.len()), "{} labels", turned.len());
    for pair in turned.windows(2) {
        assert!(pair[1].x - pair[0].x >= pair[0].size, "{pair:?}");
    }
}

#[test]
fn odd_numbers_are_drawn_and_counted() {
    let odd = vec![f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 1.0, 2.0, f64::NAN];
    let picture = svg(grid(2, 3, odd.clone()));
    assert_eq!(picture.cells().len(), 6);
    assert!(picture.strokes > 0, "NaN is hatched");
    assert!(picture.has("hatched: 2 × NaN") && picture.has("drawn as the end of the scale: 1 × ∞, 1 × −∞"));
    assert!(svg(series(&[("a", odd.clone())])).has("left out: 2 × NaN"));
    assert!(svg(Ranking::new("Odd", "v", odd.into_iter().map(|value| ("x", value)))).has("without a bar: 2 × NaN"));
    for constant in [0.0, -3.0, 1e300, f64::MIN_POSITIVE, f64::NAN, f64::INFINITY] {
        assert_eq!(svg(grid(2, 2, vec![constant; 4])).cells().len(), 4);
    }
}

#[test]
fn a_million_cells_are_drawn_in_blocks_that_keep_the_greatest() {
    let mut values = vec![0.0; 1_000_000];
    values[123_456] = 1.0;
    let text = render_svg(&grid(1000, 1000, values).into(), &STYLE).unwrap();
    assert!(text.contains("1000 × 1000 cells drawn in blocks of"));
    assert!(text.len() < 200_000, "{} bytes", text.len());
    let picture = Svg::of(&text);
    let [image] = picture.images.as_slice() else { panic!("{} images", picture.images.len()) };
    assert_eq!((image.count("#FDE725"), image.count("#440154")), (1, image.width * image.height - 1));
}

#[test]
fn lines_break_at_missing_numbers_and_have_a_legend() {
    let picture = svg(series(&[("train", vec![3.0, 2.0, 1.0, 0.5]), ("valid", vec![3.0, 2.5, f64::NAN, 2.0])]));
    assert!(picture.has("train") && picture.has("valid") && picture.has("loss") && picture.has("step"));
    // Two samples in the legend, one whole line, one line broken before a single point.
    assert_eq!(picture.strokes, 4);
    assert!(picture.text.contains("#0072B2") && picture.text.contains("#D55E00"));
}

#[test]
fn bars_are_as_long_as_their_numbers_on_their_side_of_zero() {
    let picture = svg(Ranking::new("Heads", "logit", [("a", 2.0), ("b", 1.0), ("c", -1.0)]));
    let bars: Vec<_> = picture.rects.iter().filter(|rect| rect.height == 13.0).collect();
    let [a, b, c] = bars.as_slice() else { panic!("{} bars", bars.len()) };
    assert!((a.width - 2.0 * b.width).abs() < 2.0 && (b.width - c.width).abs() < 2.0);
    assert!((c.x + c.width - a.x).abs() < 0.1, "they meet at zero");
    assert!(a.fill == b.fill && a.fill != c.fill);
    assert!(picture.has("2.00") && picture.has("−1.00"));
}

#[test]
fn a_stack_is_small_multiples_in_one_scale() {
    let picture = svg(stack(&[2, 3, 4, 4]));
    assert_eq!(picture.cells().len(), 2 * 3 * 16);
    for text in ["layer 0", "layer 1", "head 0", "head 2", "query", "key", "attention"] {
        assert!(picture.has(text), "`{text}` is missing");
    }
    let cells = picture.cells();
    assert_eq!(cells.iter().filter(|cell| cell.fill == "#440154").count(), 1, "one least number in all panels");
    let many = svg(stack(&[70, 9, 2, 2]));
    assert!(many.has("layer: 40 of 70 are shown, evenly spread") && many.has("layer 69"));
    for shape in [&[5][..], &[3, 4], &[7, 2, 2], &[2, 2, 2, 2, 2]] {
        svg(stack(shape));
    }
}

#[test]
fn the_same_input_gives_the_same_bytes() {
    for part in every_shape() {
        assert_eq!(render_svg(&part, &STYLE).unwrap(), render_svg(&part, &STYLE).unwrap());
        assert_eq!(render_png(&part, &STYLE).unwrap(), render_png(&part, &STYLE).unwrap());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_numbers_and_labels_make_a_picture(
        values in prop::collection::vec(prop::num::f64::ANY, 12),
        labels in prop::collection::vec(".{0,12}", 12),
        title in ".{0,80}",
        diverging: bool,
    ) {
        let (rows, columns) = (Axis::new(&*labels[0], labels[..3].to_vec()), Axis::new(&*title, labels[3..7].to_vec()));
        let mut grid = Grid::new(&*title, &*labels[1], rows, columns, values.clone()).unwrap();
        if diverging {
            grid = grid.diverging();
        }
        let line = [(labels[2].clone(), values.clone())];
        let parts: [Part; 4] = [
            grid.clone().into(),
            grid.with_cells(labels.clone()).unwrap().into(),
            Series::new(&*title, &*title, Axis::new("x", labels.clone()), line).unwrap().into(),
            Ranking::new(&*title, &*title, labels.into_iter().zip(values)).into(),
        ];
        for part in parts {
            let text = render_svg(&part, &STYLE).unwrap();
            prop_assert!(!text.contains("NaN\"") && !text.chars().any(|c| c.is_control() && c != '\n'));
            render_png(&part, &Style { scale: 0.5, ..STYLE }).unwrap();
        }
    }
}

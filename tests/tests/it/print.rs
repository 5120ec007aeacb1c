//! Answers as text.

use arrakis_core::print::{Room, label};
use arrakis_core::{Answer, Axis, Grid, Part, Ranking, Series, Stack};
use tch::{Kind, Tensor};

fn counting(rows: usize, columns: usize) -> Grid {
    let values = (0..rows * columns).map(|place| place as f64 / 8.0).collect();
    Grid::new("Scores", "score", Axis::indices("layer", rows), Axis::indices("head", columns), values).unwrap()
}

#[test]
fn every_shape_has_a_text() {
    let lens = counting(2, 2).with_cells([" Paris", "\n", " the", "naïve"].map(str::to_owned).to_vec()).unwrap();
    let lines = [("mean", vec![0.5, f64::NAN]), ("last", vec![f64::INFINITY, -20.25])];
    let series = Series::new("Loss", "nats", Axis::new("step", ["first", "second"]), lines).unwrap();
    let ranking = Ranking::new("Next token", "probability", [(" Paris", 0.75), (" the", 0.125), (" in", 0.0)]);
    let axes = vec![Axis::indices("layer", 2), Axis::indices("query", 2), Axis::indices("key", 2)];
    let stack =
        Stack::new("Patterns", "weight", axes, Tensor::arange(8, (Kind::Float, tch::Device::Cpu)).view([2, 2, 2]));
    let answer = Answer::new()
        .with("lens", lens)
        .with("loss", series)
        .with("next", ranking)
        .with("patterns", stack.unwrap())
        .with("gap", 1.25e-12)
        .with("count", 12.0)
        .with("note", "as it is");
    insta::assert_snapshot!(answer.text(Room { width: 80, rows: 36 }));
}

#[test]
fn wide_and_long_tables_are_thinned() {
    let text = Part::from(counting(50, 40)).text("scores", Room { width: 60, rows: 12 });
    assert!(text.lines().all(|line| line.chars().count() <= 60), "{text}");
    insta::assert_snapshot!(text);
}

#[test]
fn a_few_rows_too_many_are_shown_and_more_are_marked() {
    let text = |rows: usize| Part::from(counting(rows, 2)).text("scores", Room { width: 60, rows: 36 });
    let lines = |text: &str| text.lines().count();
    assert_eq!((lines(&text(40)), text(40).contains('…')), (42, false));
    assert_eq!(lines(&text(45)), 47);
    // A head, 36 rows, a mark, and how many there are.
    let text = text(46);
    assert_eq!(lines(&text), 40);
    let places: Vec<&str> = text.lines().skip(2).map(|line| line.split(' ').next().unwrap()).collect();
    assert_eq!((&places[17..20], places[36], places[37]), (&["17", "…", "28"][..], "45", "(36"));
    assert!(text.ends_with("\n(36 of 46 rows)"), "{text}");
    let ranking = Ranking::new("Next", "p", (0..50).map(|place| (place.to_string(), 1.0)).collect::<Vec<_>>());
    let text = Part::from(ranking).text("next", Room { width: 60, rows: 4 });
    assert!(text.ends_with("\n(4 of 50 rows)"), "{text}");
}

#[test]
fn labels_stay_on_one_line_and_are_cut() {
    assert_eq!(label(" Mary"), "·Mary");
    assert_eq!(label("\n\t"), "\\n\\t");
    assert_eq!(label("don't"), "don't");
    assert_eq!(label(&"x".repeat(40)), format!("{}…", "x".repeat(23)));
    assert_eq!(label("日本語"), "日本語");
}

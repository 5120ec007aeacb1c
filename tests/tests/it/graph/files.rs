//! Pictures as files, and input that makes none.

use std::fs;
use std::path::Path;

use arrakis_core::{Answer, Axis, Grid, Line, Part, Ranking, Scale, Series};
use arrakis_graph::{Style, draw, draw_answer, drawable, render_png, render_svg};

use super::{grid, stack};

fn ranking() -> Ranking {
    Ranking::new("Heads", "logit", [("a", 2.0)])
}

fn files(folder: &Path) -> Vec<String> {
    let names = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.collect();
    names.sort();
    names
}

#[test]
fn the_ending_says_the_format() {
    let folder = tempfile::tempdir().unwrap();
    let part: Part = ranking().into();
    for (name, start) in [("a.svg", &b"<svg"[..]), ("b.png", b"\x89PNG"), ("c.PNG", b"\x89PNG")] {
        let path = folder.path().join(name);
        draw(&part, &path, &Style::default()).unwrap();
        draw(&part, &path, &Style::default()).unwrap();
        assert!(fs::read(path).unwrap().starts_with(start));
    }
    for name in ["a.pdf", "a", "svg"] {
        let error = draw(&part, &folder.path().join(name), &Style::default()).unwrap_err().to_string();
        assert!(error.contains(name) && error.contains("`.svg`, `.png` or `.html`"), "{error}");
    }
    assert_eq!(files(folder.path()), ["a.svg", "b.png", "c.PNG"]);
}

#[test]
fn a_path_that_cannot_be_written_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("missing").join("a.svg");
    let error = draw(&ranking().into(), &missing, &Style::default()).unwrap_err().to_string();
    assert!(error.contains("a.svg") && error.contains("there is no folder `"), "{error}");
    let taken = folder.path().join("taken.png");
    fs::create_dir(&taken).unwrap();
    let error = draw(&ranking().into(), &taken, &Style::default()).unwrap_err().to_string();
    assert!(error.contains("taken.png"), "{error}");
    assert_eq!(files(folder.path()), ["taken.png"]);
}

#[test]
fn every_drawable_part_of_an_answer_is_drawn() {
    let folder = tempfile::tempdir().unwrap();
    let answer = Answer::new()
        .with("gap", 0.0)
        .with("by head", grid(2, 2, vec![1.0; 4]))
        .with("best", ranking())
        .with("patterns", stack(&[2, 2, 2]));
    let drawn = draw_answer(&answer, folder.path(), &Style::default()).unwrap();
    let names = |paths: &[std::path::PathBuf]| -> Vec<String> {
        paths.iter().map(|path| path.file_name().unwrap().to_str().unwrap().to_owned()).collect()
    };
    assert_eq!(names(&drawn), ["by_head.png", "best.png", "patterns.png"]);
    let drawn = draw_answer(&answer, &folder.path().join("out.svg"), &Style::default()).unwrap();
    assert_eq!(names(&drawn), ["out.by_head.svg", "out.best.svg", "out.patterns.svg"]);
    let only = Answer::new().with("gap", 0.0).with("best", ranking());
    let drawn = draw_answer(&only, &folder.path().join("only.svg"), &Style::default()).unwrap();
    assert_eq!(names(&drawn), ["only.svg"]);
    assert!(drawn.iter().all(|path| path.is_file()));
}

#[test]
fn an_answer_that_cannot_be_drawn_whole_leaves_no_file() {
    let folder = tempfile::tempdir().unwrap();
    let empty = Answer::new().with("best", ranking()).with("empty", grid(0, 3, vec![]));
    let twins = Answer::new().with("a b", ranking()).with("a_b", ranking());
    let words = Answer::new().with("gap", 0.0).with("text", "words");
    for (answer, wanted) in [(empty, "has no rows"), (twins, "a_b.png"), (words, "cannot be drawn")] {
        let error = draw_answer(&answer, folder.path(), &Style::default()).unwrap_err().to_string();
        assert!(error.contains(wanted), "{error}");
    }
    assert!(files(folder.path()).is_empty());
}

#[test]
fn a_picture_of_nothing_is_refused() {
    let axis = || Axis::new("token", Vec::<String>::new());
    let empty: Vec<Part> = vec![
        grid(0, 0, vec![]).into(),
        grid(2, 0, vec![]).into(),
        Series::new("A series", "v", axis(), [("a", vec![])]).unwrap().into(),
        Series::new("A series", "v", Axis::indices("x", 2), Vec::<(String, Vec<f64>)>::new()).unwrap().into(),
        Ranking::new("A ranking", "v", Vec::<(String, f64)>::new()).into(),
        stack(&[2, 0, 3, 3]).into(),
        stack(&[]).into(),
    ];
    for part in empty {
        let error = render_svg(&part, &Style::default()).unwrap_err().to_string();
        assert!(error.starts_with("`A ") && error.contains("has nothing to draw"), "{error}");
        assert!(render_png(&part, &Style::default()).is_err());
    }
    for part in [Part::Number(1.0), Part::from("words")] {
        assert!(!drawable(&part) && render_svg(&part, &Style::default()).is_err());
    }
}

#[test]
fn numbers_and_labels_must_match() {
    let (title, value) = ("T".to_owned(), "v".to_owned());
    let axis = || Axis::indices("x", 3);
    let mut short = Grid {
        title: title.clone(),
        rows: axis(),
        columns: axis(),
        value: value.clone(),
        values: vec![0.0; 8],
        cells: None,
        scale: Scale::Sequential,
    };
    let error = |part: Part| render_svg(&part, &Style::default()).unwrap_err().to_string();
    assert_eq!(error(short.clone().into()), "`T` wants 9 values and has 8");
    short.values.push(0.0);
    short.cells = Some(vec![String::new()]);
    assert_eq!(error(short.into()), "`T` wants 9 cell texts and has 1");
    let line = Line { name: "a".into(), values: vec![0.0] };
    assert_eq!(
        error(Series { title, axis: axis(), value, lines: vec![line] }.into()),
        "`T` wants 3 values in each line and has 1"
    );
}

#[test]
fn a_style_out_of_bounds_is_refused() {
    let style = Style::default();
    for style in [Style { width: 0.0, ..style }, Style { scale: f64::NAN, ..style }, Style { scale: 100.0, ..style }] {
        let error = render_svg(&ranking().into(), &style).unwrap_err().to_string();
        assert!(error.contains("must lie between"), "{error}");
    }
    let dark = render_png(&ranking().into(), &Style { dark: true, ..style }).unwrap();
    assert_ne!(super::Image::of(&dark).hex(0, 0), "#FFFFFF");
}

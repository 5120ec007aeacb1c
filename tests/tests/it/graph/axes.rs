//! Labels of axes: which are shown, and how they are written.

use arrakis_core::{Axis, Grid, Part, Series};
use arrakis_graph::render_svg;

use super::STYLE;
use super::svg::Svg;

fn svg(part: impl Into<Part>) -> Svg {
    Svg::of(&render_svg(&part.into(), &STYLE).unwrap())
}

/// The texts of a line over an axis.
fn texts(axis: Axis) -> Vec<String> {
    let values = vec![1.0; axis.len()];
    let picture = svg(Series::new("S", "v", axis, [("", values)]).unwrap());
    picture.texts.into_iter().map(|text| text.written).collect()
}

#[test]
fn hook_points_of_one_site_are_layers() {
    let points = Axis::new("point", (0..40).map(|layer| format!("blocks.{layer}.hook_resid_post")));
    let picture = texts(points.clone());
    assert!(picture.contains(&"blocks.*.hook_resid_post".to_owned()) && picture.contains(&"20".to_owned()));
    let picture = svg(Grid::new("G", "v", points, Axis::indices("x", 1), vec![0.0; 40]).unwrap());
    assert!(picture.has("blocks.*.hook_resid_post") && picture.has("39"));
    let two = texts(Axis::new("point", ["blocks.0.hook_mlp_out", "blocks.0.hook_attn_out"]));
    assert!(two.contains(&"blocks.0.hook_mlp_out".to_owned()), "points of two sites keep their names: {two:?}");
}

#[test]
fn labels_that_are_left_out_leave_round_ones() {
    let ranks = texts(Axis::new("rank", (1..=64).map(|rank| rank.to_string())));
    let has = |text: &str| ranks.iter().any(|rank| rank == text);
    assert!(has("10") && !has("1") && !has("11"), "{ranks:?}");
}

#[test]
fn numbers_in_no_order_are_names_and_all_are_shown() {
    let ids = texts(Axis::new("feature", ["1981", "1313", "355", "518"].repeat(8)));
    assert_eq!(ids.iter().filter(|text| *text == "1313").count(), 8);
    let signed = texts(Axis::new("multiple", ["-1", "0.5"]));
    assert!(signed.contains(&"−1".to_owned()), "a minus is one: {signed:?}");
}

//! Anti-aliased lines, areas and circles, pixel by pixel.

use ab_glyph_rasterizer::{Point, Rasterizer, point};

/// How far a line may run before what there is of it is filled, in pixels: filling takes the time of the rectangle around.
const REACH: f64 = 80.0;

/// Calls `dot(x, y, coverage)` for the pixels of a line with round joins; each once if the line is not `opaque`.
pub(crate) fn stroke(points: &[(f64, f64)], width: f64, opaque: bool, mut dot: impl FnMut(i32, i32, f32)) {
    let half = width / 2.0;
    let reach = if opaque { REACH } else { f64::INFINITY };
    let mut shapes = Vec::new();
    let mut start = points.first().copied().unwrap_or_default();
    for (index, &point) in points.iter().enumerate() {
        shapes.push(polygon(point, half, 12));
        if let Some(&next) = points.get(index + 1) {
            shapes.extend(segment(point, next, half));
        }
        if (point.0 - start.0).hypot(point.1 - start.1) > reach || index + 1 == points.len() {
            fill(&shapes, &mut dot);
            shapes.clear();
            start = point;
        }
    }
}

/// Calls `dot(x, y, coverage)` for the pixels of an area.
pub(crate) fn area(points: &[(f64, f64)], mut dot: impl FnMut(i32, i32, f32)) {
    fill(&[points.to_vec()], &mut dot);
}

/// Calls `dot(x, y, coverage)` for the pixels of a circle.
pub(crate) fn disk(middle: (f64, f64), radius: f64, mut dot: impl FnMut(i32, i32, f32)) {
    fill(&[polygon(middle, radius, 32)], &mut dot);
}

/// The corners of a line from `a` to `b`, unless they are one point.
fn segment(a: (f64, f64), b: (f64, f64), half: f64) -> Option<Vec<(f64, f64)>> {
    let (dx, dy) = (b.0 - a.0, b.1 - a.1);
    let length = dx.hypot(dy);
    let (nx, ny) = (-dy / length * half, dx / length * half);
    let corners = || vec![(a.0 + nx, a.1 + ny), (a.0 - nx, a.1 - ny), (b.0 - nx, b.1 - ny), (b.0 + nx, b.1 + ny)];
    (length > 0.0).then(corners)
}

/// The corners of a circle, in the sense of rotation of a stroke's rectangles.
fn polygon(centre: (f64, f64), radius: f64, corners: u32) -> Vec<(f64, f64)> {
    let corner = |index| {
        let (sin, cos) = (std::f64::consts::TAU * f64::from(index) / f64::from(corners)).sin_cos();
        (centre.0 + radius * cos, centre.1 + radius * sin)
    };
    (0..corners).map(corner).collect()
}

/// Fills the union of polygons that all turn the same way.
fn fill(shapes: &[Vec<(f64, f64)>], dot: &mut impl FnMut(i32, i32, f32)) {
    let corners = || shapes.iter().flatten();
    let (left, right) = corners().fold((f64::MAX, f64::MIN), |(a, b), corner| (a.min(corner.0), b.max(corner.0)));
    let (top, bottom) = corners().fold((f64::MAX, f64::MIN), |(a, b), corner| (a.min(corner.1), b.max(corner.1)));
    if left > right {
        return;
    }
    let (left, top) = (left.floor() - 1.0, top.floor() - 1.0);
    let mut raster = Rasterizer::new((right - left) as usize + 3, (bottom - top) as usize + 3);
    let place = |corner: &(f64, f64)| -> Point { point((corner.0 - left) as f32, (corner.1 - top) as f32) };
    for shape in shapes {
        for (a, b) in shape.iter().zip(shape.iter().cycle().skip(1)) {
            raster.draw_line(place(a), place(b));
        }
    }
    raster.for_each_pixel_2d(|x, y, coverage| {
        if coverage > 0.0 {
            dot(left as i32 + x as i32, top as i32 + y as i32, coverage.min(1.0));
        }
    });
}

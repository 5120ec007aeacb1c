//! Labels and names along the sides of cells.

use crate::label::{self, Labels};
use crate::scene::{Anchor, Scene};
use crate::theme::Theme;

/// The room for the name of the rows.
pub(crate) fn name_room(name: &str) -> f64 {
    if name.is_empty() { 0.0 } else { 19.0 }
}

/// Draws labels to the left of rows `pitch` apart, which begin at `corner`.
pub(crate) fn row_labels(scene: &mut Scene, labels: &Labels, corner: (f64, f64), pitch: f64, theme: &Theme) {
    for (row, text) in labels.shown() {
        let y = corner.1 + (row as f64 + 0.5) * pitch;
        if labels.step > 1 {
            scene.rule((corner.0 - 3.5, y), (corner.0 - 0.5, y), theme.axis);
        }
        scene.text((corner.0 - 6.0, y), Anchor::End, text, labels.size, theme.ink);
    }
}

/// Draws labels below columns `pitch` apart, which begin at `corner`.
pub(crate) fn column_labels(scene: &mut Scene, labels: &Labels, corner: (f64, f64), pitch: f64, theme: &Theme) {
    for (column, text) in labels.shown() {
        let x = corner.0 + (column as f64 + 0.5) * pitch;
        if labels.step > 1 {
            scene.rule((x, corner.1 + 0.5), (x, corner.1 + 3.5), theme.axis);
        }
        if labels.turned {
            scene.turned((x, corner.1 + 6.0), Anchor::End, text, labels.size, theme.ink);
        } else {
            scene.text((x, corner.1 + 6.0 + labels.size / 2.0), Anchor::Middle, text, labels.size, theme.ink);
        }
    }
}

/// Draws the names of the rows and the columns around cells of some size; returns where they end below.
pub(crate) fn axis_names(
    scene: &mut Scene,
    (rows, columns): (&str, &str),
    corner: (f64, f64),
    (width, height): (f64, f64),
    labels: f64,
    theme: &Theme,
) -> f64 {
    let bottom = corner.1 + height + 7.0 + labels;
    let rows = label::cut(&label::visible(rows, &theme.font), Theme::LABEL, height.max(60.0), &theme.font);
    let half = theme.measure(&rows, Theme::LABEL) / 2.0;
    let middle = corner.1 + (height / 2.0).max(half);
    scene.turned((6.0, middle), Anchor::Middle, &rows, Theme::LABEL, theme.muted);
    if columns.is_empty() {
        return bottom;
    }
    let columns = label::cut(&label::visible(columns, &theme.font), Theme::LABEL, width.max(corner.0), &theme.font);
    scene.text((corner.0 + width / 2.0, bottom + 11.0), Anchor::Middle, &columns, Theme::LABEL, theme.muted);
    bottom + 18.0
}

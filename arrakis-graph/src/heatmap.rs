//! A grid as a heatmap: labelled cells, a colour bar, a text in each cell if it has one.

use arrakis_core::{Grid, Scale};

use crate::Result;
use crate::axes::{axis_names, column_labels, name_room, row_labels};
use crate::colour::Ramp;
use crate::colour_bar::ColourBar;
use crate::field::{Field, odd_notes};
use crate::label::{self, Labels};
use crate::page::{self, Widget};
use crate::picture::Picture;
use crate::scene::{Anchor, Scene};
use crate::theme::Theme;

/// The longest a label may be beside the rows and below the columns.
const LONGEST_ROW: f64 = 150.0;
const LONGEST_COLUMN: f64 = 120.0;
/// What the sides of a cell may be, and what a text in it needs.
const SIDE: f64 = 26.0;
const LEAST_SIDE: f64 = 2.0;
const TEXT_WIDTH: (f64, f64) = (34.0, 112.0);
const TEXT_HEIGHT: f64 = 20.0;
/// The greatest height of the cells together.
const TALL: f64 = 640.0;
const TALL_NAMED: f64 = 900.0;
const TALL_TEXT: f64 = 1800.0;

impl Picture for Grid {
    fn title(&self) -> &str {
        &self.title
    }

    fn scene(&self, theme: &Theme) -> Result<Scene> {
        scene_of(self, Ramp::over(self.values.iter().copied(), self.scale), theme)
    }

    fn widget(&self) -> Result<Option<Widget>> {
        page::grid(self).map(Some)
    }
}

/// The heatmap of a grid in the colours of `ramp`.
pub(crate) fn scene_of(grid: &Grid, ramp: Ramp, theme: &Theme) -> Result<Scene> {
    let (rows, columns) = (label::by_layer(&grid.rows), label::by_layer(&grid.columns));
    let whole = Field { rows: rows.labels, columns: columns.labels, ..Field::of(grid)? };
    let mut notes = odd_notes(&whole.values, "hatched", "drawn as the end of the scale");

    let bar = ColourBar::new(ramp, &grid.value, whole.rows.len() as f64 * TEXT_HEIGHT, theme);
    let row_room = label::widest(&whole.rows, Theme::LABEL, LONGEST_ROW, theme);
    let left = name_room(&rows.name) + row_room + 7.0;
    let room = (theme.width - 2.0 * Theme::MARGIN - left - bar.width()).max(60.0);

    let (tall, wide) = (whole.rows.len() as f64, whole.columns.len() as f64);
    let texts = grid.cells.as_ref().map(|cells| visible_cells(cells, theme));
    let text_width = texts.as_ref().map_or(0.0, |(_, widest)| widest.clamp(TEXT_WIDTH.0, TEXT_WIDTH.1));
    let least = TEXT_WIDTH.0.min(text_width) * wide;
    let texts = texts.filter(|_| room >= least && tall * TEXT_HEIGHT <= TALL_TEXT);
    if grid.cells.is_some() && texts.is_none() {
        let width = (least + theme.width - room).ceil();
        let cure = if width <= Theme::WIDEST && tall * TEXT_HEIGHT <= TALL_TEXT {
            format!("a width of {width} has the room")
        } else {
            "a page of HTML tells it of the cell under the pointer".to_owned()
        };
        notes.push(format!("too many cells to write a text in each; {cure}"));
    }

    let most = ((TALL / LEAST_SIDE) as usize, (room / LEAST_SIDE) as usize);
    let (field, thinned) = if texts.is_some() { (whole, None) } else { whole.thinned(most.0, most.1, grid.scale) };
    notes.extend(thinned);
    let least = if texts.is_some() { (text_width, TEXT_HEIGHT) } else { (0.0, 0.0) };
    let (cell_width, cell_height) = cell_sides(&field, room, least, theme);

    let mut scene = Scene::default();
    let (width, height) = (cell_width * field.columns.len() as f64, cell_height * field.rows.len() as f64);
    cells(&mut scene, &field, &ramp, (left, 0.0), (cell_width, cell_height), theme);
    if let Some((texts, _)) = texts {
        cell_texts(&mut scene, &texts, &field, &ramp, (left, 0.0), (cell_width, cell_height), theme);
    }
    let beside = Labels::beside(&field.rows, cell_height, Theme::LABEL, LONGEST_ROW, theme);
    let below = Labels::across(&field.columns, cell_width, Theme::LABEL, LONGEST_COLUMN, theme);
    row_labels(&mut scene, &beside, (left, 0.0), cell_height, theme);
    column_labels(&mut scene, &below, (left, height), cell_width, theme);
    let bottom = axis_names(&mut scene, (&rows.name, &columns.name), (left, 0.0), (width, height), below.extent, theme);
    let end = bar.draw(&mut scene, (left + width + 14.0, 0.0), height.clamp(96.0, 320.0), theme);
    scene.width = left + width + bar.width();
    scene.height = bottom.max(end);
    Ok(scene.framed(&grid.title, &notes, theme))
}

/// Width and height of a cell: near square, wide enough for labels that read along if there is room, at least `least`.
fn cell_sides(field: &Field, room: f64, least: (f64, f64), theme: &Theme) -> (f64, f64) {
    let (tall, wide) = (field.rows.len() as f64, field.columns.len() as f64);
    // Names are not thinned where a somewhat taller picture shows them all.
    let named = (Theme::LABEL * label::LINE).ceil();
    let named = if label::numeric(&field.rows) || tall * named > TALL_NAMED { 0.0 } else { named };
    let height = (TALL / tall).clamp(LEAST_SIDE, SIDE).floor().max(named).max(least.1);
    let square = if wide * SIDE < 160.0 { (160.0 / wide).min(44.0) } else { SIDE.min(height * 1.5) };
    let labels = label::widest(&field.columns, Theme::LABEL, LONGEST_COLUMN, theme) + 8.0;
    let labels = if label::numeric(&field.columns) || labels > 64.0 { 0.0 } else { labels };
    let wanted = square.max(least.0);
    let wanted = if labels * wide <= room { wanted.max(labels) } else { wanted };
    (wanted.min(room / wide).floor().max(LEAST_SIDE), height)
}

/// The texts of the cells and the width that the widest needs.
fn visible_cells(cells: &[String], theme: &Theme) -> (Vec<String>, f64) {
    let texts: Vec<String> = cells.iter().map(|text| label::visible(text, &theme.font)).collect();
    let widest = texts.iter().map(|text| theme.measure(text, Theme::SMALL)).fold(0.0, f64::max);
    (texts, (widest + 10.0).ceil())
}

/// Draws the cells; those without a number are hatched.
pub(crate) fn cells(
    scene: &mut Scene,
    field: &Field,
    ramp: &Ramp,
    corner: (f64, f64),
    cell: (f64, f64),
    theme: &Theme,
) {
    let (rows, columns) = (field.rows.len(), field.columns.len());
    let place =
        |index: usize| (corner.0 + (index % columns) as f64 * cell.0, corner.1 + (index / columns) as f64 * cell.1);
    let colour = |(index, &value): (usize, &f64)| match value {
        // White is a number of a diverging scale.
        _ if field.blank(index) && ramp.scale == Scale::Diverging => theme.faint,
        _ if field.blank(index) => theme.ground,
        value if value.is_nan() => theme.missing,
        value => ramp.colour(value),
    };
    let fills = field.values.iter().enumerate().map(colour).collect();
    let size = (columns as f64 * cell.0, rows as f64 * cell.1);
    scene.cells(corner, size, columns, fills);
    scene.frame(corner, size, theme.border);
    if cell.0.min(cell.1) >= 6.0 {
        let odd = |(index, value): &(usize, &f64)| value.is_nan() && !field.blank(*index);
        for (index, _) in field.values.iter().enumerate().filter(odd) {
            hatch(scene, place(index), cell, theme);
        }
    }
}

/// Slanted lines over a cell.
fn hatch(scene: &mut Scene, (x, y): (f64, f64), (width, height): (f64, f64), theme: &Theme) {
    const GAP: f64 = 6.0;
    let mut along = GAP / 2.0;
    while along < width + height {
        let from = if along <= width { (x + along, y) } else { (x + width, y + along - width) };
        let to = if along <= height { (x, y + along) } else { (x + along - height, y + height) };
        scene.stroke(vec![from, to], 0.8, theme.axis);
        along += GAP;
    }
}

fn cell_texts(
    scene: &mut Scene,
    texts: &[String],
    field: &Field,
    ramp: &Ramp,
    corner: (f64, f64),
    cell: (f64, f64),
    theme: &Theme,
) {
    for (index, (text, &value)) in texts.iter().zip(&field.values).enumerate() {
        let (row, column) = (index / field.columns.len(), index % field.columns.len());
        let middle = (corner.0 + (column as f64 + 0.5) * cell.0, corner.1 + (row as f64 + 0.5) * cell.1);
        let ground = if value.is_nan() { theme.missing } else { ramp.colour(value) };
        let text = label::cut(text, Theme::SMALL, cell.0 - 5.0, &theme.font);
        scene.text(middle, Anchor::Middle, &text, Theme::SMALL, ground.ink());
    }
}

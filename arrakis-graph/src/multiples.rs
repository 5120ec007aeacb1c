//! A stack as small multiples: one heatmap for each matrix of its last two axes, all in one colour scale.

use arrakis_core::answer::numbers;
use arrakis_core::{Axis, Grid, Series, Stack};

use crate::axes::{axis_names, column_labels, name_room, row_labels};
use crate::colour::Ramp;
use crate::colour_bar::ColourBar;
use crate::field::{Field, count, odd_notes, some};
use crate::heatmap::{cells, scale_of};
use crate::label::{self, Labels};
use crate::picture::Picture;
use crate::scene::{Anchor, Scene};
use crate::theme::Theme;
use crate::{Error, Result};

/// The most panels below and beside each other.
const MOST_DOWN: usize = 8;
const MOST_ACROSS: usize = 12;
/// The side of a panel.
const SIDE: (f64, f64) = (44.0, 190.0);
const GAP: f64 = 8.0;
const HEAD: f64 = 15.0;
const LONGEST_LABEL: f64 = 80.0;

impl Picture for Stack {
    fn title(&self) -> &str {
        &self.title
    }

    fn scene(&self, theme: &Theme) -> Result<Scene> {
        for axis in &self.axes {
            some(&self.title, &format!("its axis `{}` has no entries", axis.name), axis.len())?;
        }
        match self.axes.as_slice() {
            [] => Err(Error::Empty { title: self.title.clone(), why: "it has no axes".into() }),
            [axis] => {
                let line = [(String::new(), numbers(&self.values)?)];
                Series::new(self.title.as_str(), self.value.as_str(), axis.clone(), line)?.scene(theme)
            }
            [rows, columns] => {
                let values = numbers(&self.values)?;
                let scale = scale_of(&values);
                let (rows, columns) = (rows.clone(), columns.clone());
                let mut grid = Grid::new(self.title.as_str(), self.value.as_str(), rows, columns, values)?;
                grid.scale = scale;
                grid.scene(theme)
            }
            [before @ .., last, rows, columns] => panels(self, Choice::of(last, before), rows, columns, theme),
        }
    }
}

/// Which of the matrices are drawn, in rows of panels.
struct Choice {
    /// How many panels lie in a row.
    wide: usize,
    /// For each row of panels its label, if rows mean something.
    down: Vec<String>,
    /// The places of the matrices, row by row, each with what stands above it.
    panels: Vec<(usize, String)>,
    notes: Vec<String>,
}

impl Choice {
    /// The only outer axis is wrapped into rows; of several the last runs across and the others down.
    fn of(last: &Axis, before: &[Axis]) -> Self {
        let mut notes = Vec::new();
        if before.is_empty() {
            let shown = spread(last.len(), MOST_DOWN * MOST_DOWN, &last.name, &mut notes);
            let panels: Vec<_> = shown.into_iter().map(|place| (place, titled(last, place))).collect();
            return Self { wide: near_square(panels.len()), down: vec![], panels, notes };
        }
        let rows: usize = before.iter().map(Axis::len).product();
        let name = before.iter().map(|axis| axis.name.as_str()).collect::<Vec<_>>().join(" × ");
        let down = spread(rows, MOST_DOWN, &name, &mut notes);
        let across = spread(last.len(), MOST_ACROSS, &last.name, &mut notes);
        let above = |row: usize, column| if row == down[0] { titled(last, column) } else { String::new() };
        let panel = |row: usize, column: usize| (row * last.len() + column, above(row, column));
        let panels = down.iter().flat_map(|&row| across.iter().map(move |&column| (row, column)));
        let panels = panels.map(|(row, column)| panel(row, column)).collect();
        Self { wide: across.len(), down: down.iter().map(|&row| path(before, row)).collect(), panels, notes }
    }
}

/// At most `most` of `len` places, evenly spread, with a note if that is fewer.
fn spread(len: usize, most: usize, name: &str, notes: &mut Vec<String>) -> Vec<usize> {
    if len <= most {
        return (0..len).collect();
    }
    notes.push(format!("{name}: {most} of {len} are shown, evenly spread"));
    (0..most).map(|index| index * (len - 1) / (most - 1)).collect()
}

/// `layer 3`: the name of an axis and a label of it.
fn titled(axis: &Axis, place: usize) -> String {
    let label = axis.labels.get(place).map_or("", String::as_str);
    if label.parse::<i64>().is_ok() { format!("{} {label}", axis.name) } else { label.to_owned() }
}

/// The labels of one place of several axes.
fn path(axes: &[Axis], mut place: usize) -> String {
    let mut parts: Vec<String> = Vec::new();
    for axis in axes.iter().rev() {
        parts.push(titled(axis, place % axis.len()));
        place /= axis.len();
    }
    parts.reverse();
    parts.join(", ")
}

fn panels(stack: &Stack, mut choice: Choice, rows: &Axis, columns: &Axis, theme: &Theme) -> Result<Scene> {
    let wide = choice.wide;
    let tall = choice.panels.len().div_ceil(wide);
    let whole = matrices(stack, &choice, rows, columns)?;
    let values = || whole.iter().flat_map(|field| &field.values);
    let scale = scale_of(&values().copied().collect::<Vec<_>>());
    let ramp = Ramp::over(values().copied(), scale);
    let bar = ColourBar::new(ramp, &stack.value, tall as f64 * SIDE.1, theme);
    let mut notes = odd_notes(values(), "hatched or grey", "drawn as the end of the scale");
    notes.append(&mut choice.notes);

    let down_room = label::widest(&choice.down, Theme::LABEL, LONGEST_LABEL, theme);
    let down_room = if choice.down.is_empty() { 0.0 } else { down_room + 10.0 };
    let row_room = label::widest(&rows.labels, Theme::SMALL, LONGEST_LABEL, theme) + 8.0;
    let left = down_room + name_room(&rows.name) + row_room;
    let room = theme.width - 2.0 * Theme::MARGIN - left - bar.width();
    let side = ((room + GAP) / wide as f64 - GAP).clamp(SIDE.0, SIDE.1);

    let mut fields = Vec::with_capacity(whole.len());
    let mut thinned = None;
    for field in whole {
        let (field, note) = field.thinned(side as usize, side as usize, scale);
        thinned = thinned.or(note);
        fields.push(field);
    }
    notes.extend(thinned.map(|note| format!("in each panel {note}")));
    let Some(first) = fields.first() else {
        return Err(Error::Empty { title: stack.title.clone(), why: "it has no panels".into() });
    };
    let (n_rows, n_columns) = (first.rows.len() as f64, first.columns.len() as f64);
    let fitted = side / n_rows.max(n_columns);
    let cell = if fitted >= 3.0 { fitted.floor() } else { fitted };
    let (cell_width, cell_height) = (cell.max(side / n_columns / 4.0), cell.max(side / n_rows / 4.0));
    let (width, height) = (cell_width * n_columns, cell_height * n_rows);
    let beside = Labels::beside(&first.rows, cell_height, small(cell_height), LONGEST_LABEL, theme);
    let below = Labels::across(&first.columns, cell_width, small(cell_width), LONGEST_LABEL, theme);

    let mut scene = Scene::default();
    let between = if choice.down.is_empty() { GAP + HEAD } else { GAP };
    let corner = |index: usize| {
        let (row, column) = (index / wide, index % wide);
        (left + column as f64 * (width + GAP), HEAD + row as f64 * (height + between))
    };
    let head = |text: &str| label::cut(&label::visible(text, &theme.font), Theme::SMALL, width, &theme.font);
    for (index, (field, (_, label))) in fields.iter().zip(&choice.panels).enumerate() {
        let (x, y) = corner(index);
        cells(&mut scene, field, &ramp, (x, y), (cell_width, cell_height), theme);
        scene.text((x + width / 2.0, y - 8.0), Anchor::Middle, &head(label), Theme::SMALL, theme.ink);
        if index % wide == 0 {
            row_labels(&mut scene, &beside, (x, y), cell_height, theme);
        }
        if index + wide >= fields.len() {
            column_labels(&mut scene, &below, (x, y + height), cell_width, theme);
        }
    }
    for (row, label) in choice.down.iter().enumerate() {
        let y = corner(row * wide).1 + height / 2.0;
        let label = label::cut(&label::visible(label, &theme.font), Theme::LABEL, LONGEST_LABEL, &theme.font);
        scene.text((0.0, y), Anchor::Start, &label, Theme::LABEL, theme.ink);
    }
    let (end, bottom) = corner(tall * wide - 1);
    let (total_width, total_height) = (end + width - left, bottom + height - HEAD);
    let mut named = Scene::default();
    let corner = (left - down_room, HEAD);
    let bottom =
        axis_names(&mut named, (&rows.name, &columns.name), corner, (total_width, total_height), below.extent, theme);
    scene.append(named, (down_room, 0.0));
    let bar_end = bar.draw(&mut scene, (left + total_width + 14.0, HEAD), total_height.clamp(96.0, 320.0), theme);
    scene.width = left + total_width + bar.width();
    scene.height = bottom.max(bar_end);
    Ok(scene.framed(&stack.title, &notes, theme))
}

/// The size of a label beside cells of some side: smaller ones are better than every other one.
fn small(side: f64) -> f64 {
    (side / label::LINE).clamp(7.2, Theme::SMALL)
}

/// How many panels lie in a row when only their number is known.
fn near_square(panels: usize) -> usize {
    let mut wide = 1;
    while wide * wide < panels {
        wide += 1;
    }
    wide.max(panels.min(4))
}

/// The chosen matrices of a stack.
fn matrices(stack: &Stack, choice: &Choice, rows: &Axis, columns: &Axis) -> Result<Vec<Field>> {
    let core = |error| Error::from(arrakis_core::Error::from(error));
    let flat = stack.values.f_reshape([-1, rows.len() as i64, columns.len() as i64]).map_err(core)?;
    choice
        .panels
        .iter()
        .map(|&(place, _)| {
            let values = numbers(&flat.f_select(0, place as i64).map_err(core)?)?;
            count(&stack.title, "values in each panel", rows.len() * columns.len(), values.len())?;
            Ok(Field { rows: rows.labels.clone(), columns: columns.labels.clone(), values })
        })
        .collect()
}

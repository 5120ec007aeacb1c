//! A stack as small multiples: one heatmap for each matrix of its last two axes, all in one colour scale.

mod choice;
mod headings;

use arrakis_core::answer::numbers;
use arrakis_core::{Axis, Grid, Series, Stack};

use crate::axes::{axis_names, column_labels, name_room, row_labels};
use crate::colour::{POSITIVE, Ramp, scale_of};
use crate::colour_bar::ColourBar;
use crate::field::{Field, count, odd_notes, some};
use crate::heatmap::cells;
use crate::label::{self, Labels};
use crate::page::{self, Widget};
use crate::picture::Picture;
use crate::scene::{Anchor, Scene};
use crate::theme::Theme;
use crate::{Error, Result};

use choice::{Choice, titled};
use headings::headings;

/// The side of a panel, and the greatest height of the panels together.
const SIDE: (f64, f64) = (14.0, 190.0);
const TALL: f64 = 1400.0;
const HEAD: f64 = 15.0;
const LONGEST_LABEL: f64 = 80.0;
/// The least side of a panel whose rows and columns are labelled.
const LABELLED: f64 = 44.0;

/// A stack with what is to be said of its panels.
#[derive(Debug)]
pub(crate) struct Panels {
    pub(crate) stack: Stack,
    /// Whether there is nothing right of the diagonal of each panel.
    pub(crate) causal: bool,
    /// The panels that are framed in colour, counted over all outer axes.
    pub(crate) framed: Vec<usize>,
    pub(crate) notes: Vec<String>,
}

impl Panels {
    /// The panels of a stack; of attention that no later key gets any of, nothing is drawn right of the diagonal.
    pub(crate) fn of(stack: Stack) -> Self {
        let causal = looks_back(&stack).unwrap_or(false);
        Self { stack, causal, framed: vec![], notes: vec![] }
    }
}

/// Whether a stack is of queries by keys, and 0 wherever the key comes after the query.
fn looks_back(stack: &Stack) -> Result<bool> {
    let [.., queries, keys] = &stack.axes[..] else { return Ok(false) };
    if (queries.name.as_str(), keys.name.as_str()) != ("query", "key") || queries.labels != keys.labels {
        return Ok(false);
    }
    let later = stack.values.f_triu(1)?.f_abs()?.f_max()?;
    Ok(numbers(&later)?.first().is_some_and(|most| *most == 0.0))
}

impl Picture for Panels {
    fn title(&self) -> &str {
        &self.stack.title
    }

    fn scene(&self, theme: &Theme) -> Result<Scene> {
        let stack = squeezed(&self.stack)?;
        for axis in &stack.axes {
            some(&stack.title, &format!("its axis `{}` has no entries", axis.name), axis.len())?;
        }
        match stack.axes.as_slice() {
            [] => Err(Error::Empty { title: stack.title, why: "it has no axes".into() }),
            [axis] => {
                let line = [(String::new(), numbers(&stack.values)?)];
                Series::new(stack.title.as_str(), stack.value.as_str(), axis.clone(), line)?.scene(theme)
            }
            [rows, columns] if !self.causal => {
                let values = numbers(&stack.values)?;
                let scale = scale_of(&values);
                let (rows, columns) = (rows.clone(), columns.clone());
                let mut grid = Grid::new(stack.title.as_str(), stack.value.as_str(), rows, columns, values)?;
                grid.scale = scale;
                grid.scene(theme)
            }
            [rows, columns] => panels(self, &stack, Choice::only(), rows, columns, theme),
            [before @ .., last, rows, columns] => panels(self, &stack, Choice::of(last, before), rows, columns, theme),
        }
    }

    fn widget(&self) -> Result<Option<Widget>> {
        page::attention(&self.stack, self.causal, &self.notes)
    }
}

impl Picture for Stack {
    fn title(&self) -> &str {
        &self.title
    }

    fn scene(&self, theme: &Theme) -> Result<Scene> {
        Panels::of(self.clone()).scene(theme)
    }

    fn widget(&self) -> Result<Option<Widget>> {
        page::attention(self, looks_back(self)?, &[])
    }
}

/// A stack without the axes of one entry, which its title names.
fn squeezed(stack: &Stack) -> Result<Stack> {
    let (lone, kept): (Vec<Axis>, Vec<Axis>) = stack.axes.iter().cloned().partition(|axis| axis.len() == 1);
    if lone.is_empty() || kept.is_empty() {
        return Ok(stack.clone());
    }
    let lengths: Vec<i64> = kept.iter().map(|axis| axis.len() as i64).collect();
    let values = stack.values.f_reshape(lengths)?;
    let names: Vec<String> = lone.iter().map(|axis| titled(axis, 0)).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).filter(|name| !stack.title.contains(name)).collect();
    let title = if names.is_empty() { stack.title.clone() } else { format!("{} ({})", stack.title, names.join(", ")) };
    Ok(Stack::new(title, stack.value.as_str(), kept, values)?)
}

fn panels(
    shown: &Panels,
    stack: &Stack,
    mut choice: Choice,
    rows: &Axis,
    columns: &Axis,
    theme: &Theme,
) -> Result<Scene> {
    let wide = choice.wide;
    let tall = choice.panels.len().div_ceil(wide);
    let whole = matrices(stack, &choice, rows, columns, shown.causal)?;
    let values = || whole.iter().flat_map(Field::shown);
    let scale = scale_of(values());
    let ramp = Ramp::over(values().copied(), scale);
    let bar = ColourBar::new(ramp, &stack.value, tall as f64 * SIDE.1, theme);
    let mut notes = shown.notes.clone();
    notes.extend(odd_notes(values(), "hatched or grey", "drawn as the end of the scale"));
    notes.append(&mut choice.notes);

    let (down, down_room) = label::prepared(&choice.down, Theme::LABEL, LONGEST_LABEL, theme);
    let down_room = if down.is_empty() { 0.0 } else { down_room + 10.0 };
    let row_room = label::widest(&rows.labels, Theme::SMALL, LONGEST_LABEL, theme) + 8.0;
    let width_of = |row_room: f64| {
        let left = down_room + name_room(&rows.name) + row_room;
        let room = theme.width - 2.0 * Theme::MARGIN - left - bar.width();
        let gap = if room / (wide as f64) < LABELLED { 3.0 } else { 8.0 };
        let most = (TALL / tall as f64).clamp(LABELLED + 6.0, SIDE.1);
        (left, gap, ((room + gap) / wide as f64 - gap).clamp(SIDE.0, most))
    };
    // Where panels are too small for labels of their own cells, they get the room.
    let labelled = width_of(row_room).2 >= LABELLED;
    let (left, gap, side) = width_of(if labelled { row_room } else { 2.0 });

    let pixels = (side * theme.scale.max(1.0)) as usize;
    let mut fields = Vec::with_capacity(whole.len());
    let mut thinned = None;
    for field in whole {
        let (field, note) = field.thinned(pixels, pixels, scale);
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
    let between = if down.is_empty() { gap + HEAD } else { gap };
    let corner = |index: usize| {
        let (row, column) = (index / wide, index % wide);
        (left + column as f64 * (width + gap), HEAD + row as f64 * (height + between))
    };
    let heads = headings(&choice, width, theme);
    if let Some(name) = &heads.name {
        scene.text((left - 8.0, HEAD - 8.0), Anchor::End, name, Theme::SMALL, theme.muted);
    }
    for (index, (field, head)) in fields.iter().zip(&heads.texts).enumerate() {
        let (x, y) = corner(index);
        cells(&mut scene, field, &ramp, (x, y), (cell_width, cell_height), theme);
        if shown.framed.contains(&choice.panels[index].0) {
            let around = vec![(x, y), (x + width, y), (x + width, y + height), (x, y + height), (x, y)];
            scene.stroke(around, 2.0, POSITIVE);
        }
        scene.text((x + width / 2.0, y - 8.0), Anchor::Middle, head, Theme::SMALL, theme.ink);
        if labelled && index % wide == 0 {
            row_labels(&mut scene, &beside, (x, y), cell_height, theme);
        }
        if labelled && index + wide >= fields.len() {
            column_labels(&mut scene, &below, (x, y + height), cell_width, theme);
        }
    }
    for (row, label) in down.iter().enumerate() {
        let y = corner(row * wide).1 + height / 2.0;
        scene.text((0.0, y), Anchor::Start, label, Theme::LABEL, theme.ink);
    }
    let (end, bottom) = corner(tall * wide - 1);
    let (total_width, total_height) = (end + width - left, bottom + height - HEAD);
    let mut named = Scene::default();
    let corner = (left - down_room, HEAD);
    let extent = if labelled { below.extent } else { -4.0 };
    let bottom =
        axis_names(&mut named, (&rows.name, &columns.name), corner, (total_width, total_height), extent, theme);
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

/// The chosen matrices of a stack.
fn matrices(stack: &Stack, choice: &Choice, rows: &Axis, columns: &Axis, causal: bool) -> Result<Vec<Field>> {
    let flat = stack.values.f_reshape([-1, rows.len() as i64, columns.len() as i64])?;
    choice
        .panels
        .iter()
        .map(|&(place, _)| {
            let values = numbers(&flat.f_select(0, place as i64)?)?;
            count(&stack.title, "values in each panel", rows.len() * columns.len(), values.len())?;
            Ok(Field { rows: rows.labels.clone(), columns: columns.labels.clone(), values, causal })
        })
        .collect()
}

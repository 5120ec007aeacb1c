//! Which panels of a stack are drawn, and in which rows.

use arrakis_core::Axis;

/// The most panels below and beside each other.
const MOST_DOWN: usize = 40;
const MOST_ACROSS: usize = 32;
/// The most panels of a single outer axis.
const MOST: usize = 16 * 16;

/// Which of the matrices are drawn, in rows of panels.
pub(super) struct Choice {
    /// How many panels lie in a row.
    pub(super) wide: usize,
    /// For each row of panels its label, if rows mean something.
    pub(super) down: Vec<String>,
    /// The places of the matrices, row by row, each with what stands above it.
    pub(super) panels: Vec<(usize, String)>,
    pub(super) notes: Vec<String>,
}

impl Choice {
    /// The only panel.
    pub(super) fn only() -> Self {
        Self { wide: 1, down: vec![], panels: vec![(0, String::new())], notes: vec![] }
    }

    /// The only outer axis is wrapped into rows; of several the last runs across and the others down.
    pub(super) fn of(last: &Axis, before: &[Axis]) -> Self {
        let mut notes = Vec::new();
        if before.is_empty() {
            let shown = spread(last.len(), MOST, &last.name, &mut notes);
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
pub(super) fn titled(axis: &Axis, place: usize) -> String {
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

/// How many panels lie in a row when only their number is known.
fn near_square(panels: usize) -> usize {
    let mut wide = 1;
    while wide * wide < panels {
        wide += 1;
    }
    wide.max(panels.min(4))
}

//! A matrix as it is drawn: checked, its odd numbers counted, large ones thinned.

use arrakis_core::{Grid, Scale};

use crate::{Error, Result};

/// Numbers with a label for each row and column.
#[derive(Debug, Clone)]
pub(crate) struct Field {
    pub(crate) rows: Vec<String>,
    pub(crate) columns: Vec<String>,
    /// Row by row.
    pub(crate) values: Vec<f64>,
    /// Whether there is nothing right of the diagonal: a query does not see later keys.
    pub(crate) causal: bool,
}

impl Field {
    /// The numbers of a grid, which must have some, each with its labels.
    pub(crate) fn of(grid: &Grid) -> Result<Self> {
        let (rows, columns) = (grid.rows.labels.clone(), grid.columns.labels.clone());
        some(&grid.title, "it has no rows", rows.len())?;
        some(&grid.title, "it has no columns", columns.len())?;
        count(&grid.title, "values", rows.len() * columns.len(), grid.values.len())?;
        if let Some(cells) = &grid.cells {
            count(&grid.title, "cell texts", grid.values.len(), cells.len())?;
        }
        Ok(Self { rows, columns, values: grid.values.clone(), causal: false })
    }

    /// Whether nothing is drawn at a place.
    pub(crate) fn blank(&self, index: usize) -> bool {
        self.causal && index % self.columns.len() > index / self.columns.len()
    }

    /// The numbers that are drawn.
    pub(crate) fn shown(&self) -> impl Iterator<Item = &f64> {
        self.values.iter().enumerate().filter(|(index, _)| !self.blank(*index)).map(|(_, value)| value)
    }

    /// At most `rows` by `columns` blocks, each by its most extreme number, and a note if that is fewer than there are.
    ///
    /// Extreme is the greatest, or the farthest from 0 of a diverging scale; NaN only where a block holds nothing else.
    pub(crate) fn thinned(self, rows: usize, columns: usize, scale: Scale) -> (Self, Option<String>) {
        let (tall, wide) = (self.rows.len(), self.columns.len());
        let (down, right) = (tall.div_ceil(rows.max(1)), wide.div_ceil(columns.max(1)));
        if down == 1 && right == 1 {
            return (self, None);
        }
        let key = |value: f64| if scale == Scale::Diverging { value.abs() } else { value };
        let extreme = |a: f64, b: f64| if a.is_nan() || key(b) > key(a) { b } else { a };
        let mut values = vec![f64::NAN; tall.div_ceil(down) * wide.div_ceil(right)];
        let mut whole = self.values;
        if self.causal {
            for (row, line) in whole.chunks_exact_mut(wide).enumerate() {
                line.iter_mut().skip(row + 1).for_each(|value| *value = f64::NAN);
            }
        }
        for (row, line) in whole.chunks_exact(wide).enumerate() {
            let blocks = &mut values[row / down * wide.div_ceil(right)..][..wide.div_ceil(right)];
            for (block, cells) in blocks.iter_mut().zip(line.chunks(right)) {
                *block = cells.iter().copied().fold(*block, extreme);
            }
        }
        let which = if scale == Scale::Diverging { "the value farthest from 0" } else { "the greatest value" };
        let note = format!("{tall} × {wide} cells drawn in blocks of {down} × {right}, each by {which} in it");
        let firsts = |labels: Vec<String>, step| labels.into_iter().step_by(step).collect();
        let (rows, columns) = (firsts(self.rows, down), firsts(self.columns, right));
        (Self { rows, columns, values, causal: self.causal && down == right }, Some(note))
    }
}

/// Notes on the numbers that a colour or a length cannot show.
///
/// `missing` and `clamped` say what became of NaN and of infinities.
pub(crate) fn odd_notes<'a>(values: impl IntoIterator<Item = &'a f64>, missing: &str, clamped: &str) -> Vec<String> {
    let (mut nan, mut above, mut below) = (0_usize, 0_usize, 0_usize);
    for value in values {
        nan += usize::from(value.is_nan());
        above += usize::from(*value == f64::INFINITY);
        below += usize::from(*value == f64::NEG_INFINITY);
    }
    let mut notes = Vec::new();
    if nan > 0 {
        notes.push(format!("{missing}: {nan} × NaN"));
    }
    let counted = [(above, "∞"), (below, "−∞")].into_iter().filter(|(count, _)| *count > 0);
    let infinite: Vec<String> = counted.map(|(count, what)| format!("{count} × {what}")).collect();
    if !infinite.is_empty() {
        notes.push(format!("{clamped}: {}", infinite.join(", ")));
    }
    notes
}

/// Checks that there is something; `why` says what is missing.
pub(crate) fn some(title: &str, why: &str, len: usize) -> Result<()> {
    if len > 0 {
        return Ok(());
    }
    Err(Error::Empty { title: title.to_owned(), why: why.to_owned() })
}

/// Checks that there are as many as there should be.
pub(crate) fn count(title: &str, what: &'static str, expected: usize, found: usize) -> Result<()> {
    if expected == found {
        return Ok(());
    }
    Err(Error::Count { title: title.to_owned(), what, expected, found })
}

//! The cells of a study: its parameters, one set for each run.

use serde_json::{Map, Value};

use super::Study;
use crate::{Error, Result, fields};

/// One cell: what is run, and where it lies.
#[derive(Debug, Clone, PartialEq)]
pub struct Cell {
    /// Its parameters, those that all cells share among them.
    pub parameters: Map<String, Value>,
    /// The root of its random streams; that of the bench if absent.
    pub seed: Option<u64>,
    /// What stands on each axis: `top`, `3`.
    pub labels: Vec<(String, String)>,
}

impl Cell {
    /// What it is called in a table: `layer 3, top 5`.
    #[must_use]
    pub fn label(&self) -> String {
        let words: Vec<String> = self.labels.iter().map(|(name, value)| format!("{name} {value}")).collect();
        words.join(", ")
    }
}

/// An axis of a grid, and its label for each entry.
pub(super) struct Side {
    pub(super) name: String,
    pub(super) labels: Vec<String>,
}

impl Study {
    /// The cells in order, the last axis of a grid running quickest.
    pub fn cells(&self) -> Result<Vec<Cell>> {
        let varied = match (self.grid.is_empty(), self.list.is_empty()) {
            (false, true) => self.grid_cells()?,
            (true, false) => self.list.iter().map(|given| self.cell(given)).collect::<Result<_>>()?,
            (true, true) if self.seeds.is_empty() => {
                return Err(self.refused("there is nothing to vary; give `grid`, `list` or `seeds`"));
            }
            (true, true) => vec![self.cell(&Map::new())?],
            (false, false) => return Err(self.refused("`grid` and `list` are both given; give one of them")),
        };
        if self.seeds.is_empty() {
            return Ok(varied);
        }
        let with_seed = |cell: &Cell, seed: u64| {
            let mut cell = Cell { seed: Some(seed), ..cell.clone() };
            cell.labels.push(("seed".to_owned(), seed.to_string()));
            cell
        };
        Ok(varied.iter().flat_map(|cell| self.seeds.iter().map(|seed| with_seed(cell, *seed))).collect())
    }

    /// The axes of the cells; one of all cells where they are a list.
    pub(super) fn sides(&self, cells: &[Cell]) -> Vec<Side> {
        if !self.list.is_empty() {
            return vec![Side { name: "case".to_owned(), labels: cells.iter().map(Cell::label).collect() }];
        }
        let grid = self
            .grid
            .iter()
            .map(|(name, values)| Side { name: name.clone(), labels: values.iter().map(text).collect() });
        let seeds = Side { name: "seed".to_owned(), labels: self.seeds.iter().map(u64::to_string).collect() };
        grid.chain((!self.seeds.is_empty()).then_some(seeds)).collect()
    }

    fn grid_cells(&self) -> Result<Vec<Cell>> {
        let mut rows = vec![Map::new()];
        for (name, values) in &self.grid {
            if values.is_empty() {
                return Err(self.refused(format!("`{name}` has no values in `grid`; give at least one")));
            }
            let longer = |row: &Map<String, Value>, value: &Value| {
                let mut row = row.clone();
                row.insert(name.clone(), value.clone());
                row
            };
            rows = rows.iter().flat_map(|row| values.iter().map(|value| longer(row, value))).collect();
        }
        rows.iter().map(|row| self.cell(row)).collect()
    }

    /// The cell of these values; `a.b` reaches into `a`, as on the command line.
    fn cell(&self, varied: &Map<String, Value>) -> Result<Cell> {
        let mut over = Map::new();
        for (name, value) in varied {
            fields::set(&mut over, name, value.clone()).map_err(|why| self.refused(why))?;
        }
        let mut parameters = Map::new();
        for (name, value) in &self.fixed {
            fields::set(&mut parameters, name, value.clone()).map_err(|why| self.refused(why))?;
        }
        fields::merge(&mut parameters, over);
        let labels = varied.iter().map(|(name, value)| (name.clone(), text(value))).collect();
        Ok(Cell { parameters, seed: None, labels })
    }

    pub(super) fn refused(&self, why: impl Into<String>) -> Error {
        Error::Study { name: self.name.clone(), why: why.into() }
    }
}

/// A value as a label.
fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

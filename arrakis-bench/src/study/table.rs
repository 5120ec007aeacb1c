//! What the cells of a study gave, as one table and one picture for each measure.

use arrakis_core::{Answer, Axis, Grid, Part, Series};

use super::Study;
use super::cells::{Cell, Side};
use crate::Result;

/// The numbers of a cell, by name; none of a cell that failed.
pub(super) type Measured = Option<Vec<(String, f64)>>;

impl Study {
    /// The table of every cell and measure, then each measure over the axes: a line along one, a heatmap over more.
    pub(super) fn table(&self, cells: &[Cell], measured: &[Measured]) -> Result<Answer> {
        let measures = self.measures(measured)?;
        let number = |measured: &Measured, measure: &str| {
            let found = measured.as_ref().and_then(|numbers| numbers.iter().find(|(name, _)| name == measure));
            found.map_or(f64::NAN, |(_, number)| *number)
        };
        let rows = Axis::new("cell", cells.iter().map(Cell::label));
        let columns = Axis::new("measure", &measures);
        let all = measured.iter().flat_map(|cell| measures.iter().map(move |measure| number(cell, measure)));
        let mut answer = Answer::new().with("table", Grid::new(&self.name, "value", rows, columns, all.collect())?);
        let sides = self.sides(cells);
        for measure in &measures {
            let values: Vec<f64> = measured.iter().map(|cell| number(cell, measure)).collect();
            if let Some((axes, picture)) = self.picture(measure, &sides, values)? {
                answer = answer.with(format!("{measure} by {axes}"), picture);
            }
        }
        Ok(answer)
    }

    /// The names of the numbers that are wanted, in the order in which the cells have them.
    fn measures(&self, measured: &[Measured]) -> Result<Vec<String>> {
        let mut known: Vec<String> = Vec::new();
        for (name, _) in measured.iter().flatten().flatten() {
            if !known.contains(name) {
                known.push(name.clone());
            }
        }
        if let Some(unknown) = self.measures.iter().find(|name| !known.contains(name)) {
            return Err(self.refused(format!("no cell gave a number `{unknown}`; there are {known:?}")));
        }
        if known.is_empty() {
            return Err(self.refused("no cell gave a number; let the experiment return one, or record a metric"));
        }
        Ok(if self.measures.is_empty() { known } else { self.measures.clone() })
    }

    /// One measure over those axes that have more than one entry, with their names; nothing where none has.
    fn picture(&self, measure: &str, sides: &[Side], values: Vec<f64>) -> Result<Option<(String, Part)>> {
        let title = format!("{}: {measure}", self.name);
        let varied: Vec<&Side> = sides.iter().filter(|side| side.labels.len() > 1).collect();
        let names = varied.iter().map(|side| side.name.as_str()).collect::<Vec<&str>>().join(", ");
        let part = match varied[..] {
            [] => return Ok(None),
            [only] => {
                let axis = Axis::new(&only.name, &only.labels);
                Series::new(title, measure, axis, [(measure, values)])?.into()
            }
            [first, ref others @ ..] => {
                let rows = Axis::new(&first.name, &first.labels);
                Grid::new(title, measure, rows, together(others), values)?.into()
            }
        };
        Ok(Some((names, part)))
    }
}

/// One axis of all combinations, the last running quickest.
fn together(sides: &[&Side]) -> Axis {
    let names: Vec<&str> = sides.iter().map(|side| side.name.as_str()).collect();
    let mut labels = vec![String::new()];
    for side in sides {
        let longer =
            |label: &str, more: &str| if label.is_empty() { more.to_owned() } else { format!("{label}, {more}") };
        labels = labels.iter().flat_map(|label| side.labels.iter().map(|more| longer(label, more))).collect();
    }
    Axis::new(names.join(", "), labels)
}

//! The places of a shape in its own words: `layer 3, head 5` in place of `grid.values.41`.

use serde_json::{Map, Value};

/// The names that a shape gives to its places.
#[derive(Default)]
pub(super) struct Names<'a> {
    grid: Option<&'a Map<String, Value>>,
    axis: Option<&'a Value>,
    entries: Option<&'a Value>,
    lines: Option<&'a Value>,
}

impl<'a> Names<'a> {
    /// The names of a part of an answer; none of anything else.
    pub(super) fn of(part: &'a Value) -> Self {
        let shape = |name: &str| part.get(name).and_then(Value::as_object);
        Self {
            grid: shape("grid"),
            axis: shape("series").and_then(|series| series.get("axis")),
            lines: shape("series").and_then(|series| series.get("lines")),
            entries: shape("ranking").and_then(|ranking| ranking.get("entries")),
        }
    }

    /// Where a path leads, in the words of the shape.
    pub(super) fn place(&self, path: &[String]) -> String {
        let steps: Vec<&str> = path.iter().map(String::as_str).collect();
        let named = match steps[..] {
            ["grid", "values", place] => self.cell(place),
            ["series", "lines", line, "values", place] => self.point(line, place),
            ["ranking", "entries", place, "value"] => self.entry(place),
            ["number"] => Some(String::new()),
            _ => None,
        };
        named.unwrap_or_else(|| path.join("."))
    }

    fn cell(&self, place: &str) -> Option<String> {
        let (grid, place) = (self.grid?, place.parse::<usize>().ok()?);
        let width = grid.get("columns")?.get("labels")?.as_array()?.len();
        let (row, column) = (place.checked_div(width)?, place.checked_rem(width)?);
        Some(format!("{}, {}", label(grid.get("rows")?, row)?, label(grid.get("columns")?, column)?))
    }

    fn point(&self, line: &str, place: &str) -> Option<String> {
        let line = self.lines?.get(line.parse::<usize>().ok()?)?.get("name")?.as_str()?;
        Some(format!("{}, line {line}", label(self.axis?, place.parse().ok()?)?))
    }

    fn entry(&self, place: &str) -> Option<String> {
        Some(self.entries?.get(place.parse::<usize>().ok()?)?.get("label")?.as_str()?.to_owned())
    }
}

/// An entry of an axis: `layer 3`.
fn label(axis: &Value, place: usize) -> Option<String> {
    Some(format!("{} {}", axis.get("name")?.as_str()?, axis.get("labels")?.get(place)?.as_str()?))
}

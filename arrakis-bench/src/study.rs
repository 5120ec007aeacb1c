//! Studies: one tool or experiment under many parameters, each a run, all of them the parts of one.

mod cells;
mod numbers;
mod table;
mod team;
mod work;

use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{Error, Result};

pub use cells::Cell;
pub use team::Workers;
pub(crate) use work::CELLS;
pub use work::Studied;

/// One tool or experiment, and the parameters under which it is to be run.
///
/// The cells are every combination of a `grid`, or the entries of a `list`; with `seeds`, each of them once for each seed.
/// Field names may reach into an object: `metric.logit_difference.answer`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Study {
    /// The tool or experiment.
    #[serde(alias = "tool")]
    pub name: String,
    /// The model that the command runs it on, unless told another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Parameters that all cells share.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub fixed: Map<String, Value>,
    /// The values of each varied parameter.
    #[serde(default, skip_serializing_if = "Vec::is_empty", with = "grid")]
    pub grid: Vec<(String, Vec<Value>)>,
    /// The varied parameters of each cell, where they are no grid.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub list: Vec<Map<String, Value>>,
    /// The roots of the random streams; that of the bench if there are none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub seeds: Vec<u64>,
    /// The numbers to tabulate: those of the result by their path, metrics by their name; all if there are none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub measures: Vec<String>,
}

impl Study {
    /// A study of a tool or experiment, in which nothing varies yet.
    #[must_use]
    pub fn of(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            model: None,
            fixed: Map::new(),
            grid: Vec::new(),
            list: Vec::new(),
            seeds: Vec::new(),
            measures: Vec::new(),
        }
    }

    /// The same study with a parameter that all cells share.
    #[must_use]
    pub fn fixed(mut self, name: impl Into<String>, value: impl Into<Value>) -> Self {
        self.fixed.insert(name.into(), value.into());
        self
    }

    /// The same study with one more varied parameter.
    #[must_use]
    pub fn vary(mut self, name: impl Into<String>, values: impl IntoIterator<Item = impl Into<Value>>) -> Self {
        self.grid.push((name.into(), values.into_iter().map(Into::into).collect()));
        self
    }

    /// The same study, each cell once for each seed.
    #[must_use]
    pub fn seeds(mut self, seeds: impl IntoIterator<Item = u64>) -> Self {
        self.seeds.extend(seeds);
        self
    }

    /// The same study, tabulating only these numbers.
    #[must_use]
    pub fn measure(mut self, measures: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.measures.extend(measures.into_iter().map(Into::into));
        self
    }

    /// The study that a JSON file describes, with the fields of this type.
    pub fn read(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path).map_err(Error::file("read", path))?;
        serde_json::from_str(&text).map_err(|error| Error::Usage(format!("`{}` is no study: {error}", path.display())))
    }
}

/// A grid as a JSON object, in its order.
mod grid {
    use serde::{Deserialize, Deserializer, Serializer};
    use serde_json::{Map, Value};

    pub(super) fn serialize<S: Serializer>(grid: &[(String, Vec<Value>)], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(grid.iter().map(|(name, values)| (name, values)))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Vec<(String, Vec<Value>)>, D::Error> {
        let grid = Map::<String, Value>::deserialize(deserializer)?;
        let values = |(name, values): (String, Value)| match values {
            Value::Array(values) => Ok((name, values)),
            other => Err(serde::de::Error::custom(format!("`grid.{name}` is a list of values, and this is `{other}`"))),
        };
        grid.into_iter().map(values).collect()
    }
}

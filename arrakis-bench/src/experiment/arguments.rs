//! The arguments of an experiment: as they are recorded, and as they come from JSON.

use arrakis_core::{Error as CoreError, misfit};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::Experiment;
use crate::{Error, Result, json, parameters};

/// Arguments that were given as JSON, to be taken one by one.
#[derive(Debug)]
pub struct Given {
    experiment: &'static Experiment,
    arguments: Map<String, Value>,
}

impl Given {
    /// Reads the arguments; an error names one that the experiment has not, or every one that it misses.
    pub fn read(experiment: &'static Experiment, arguments: Value) -> Result<Self> {
        let checked = parameters::checked("argument", &experiment.fields(), arguments);
        let arguments = checked.map_err(|why| refused(experiment, why))?;
        Ok(Self { experiment, arguments })
    }

    /// Takes an argument, which is `null` where it may be left out and is.
    pub fn take<T: DeserializeOwned>(&mut self, name: &str) -> Result<T> {
        let value = self.arguments.remove(name).unwrap_or(Value::Null);
        json::from_value(value.clone()).map_err(|error| {
            let schema = self.experiment.schema();
            let property = schema.get("properties").and_then(|properties| properties.get(name));
            let why = property.and_then(|property| misfit(property, &schema, &value, name));
            let said = |error: CoreError| match error {
                CoreError::Json(error) => format!("argument `{name}`: {error}"),
                other => format!("argument `{name}`: {other}"),
            };
            refused(self.experiment, why.unwrap_or_else(|| said(error)))
        })
    }
}

/// Arguments as a run remembers them.
#[derive(Debug)]
pub struct Recorded {
    experiment: &'static Experiment,
    arguments: Map<String, Value>,
}

impl Recorded {
    /// No arguments yet.
    #[must_use]
    pub fn new(experiment: &'static Experiment) -> Self {
        Self { experiment, arguments: Map::new() }
    }

    /// Remembers an argument.
    pub fn put<T: Serialize + ?Sized>(&mut self, name: &str, value: &T) -> Result<()> {
        let value = json::to_value(value)
            .map_err(|error| refused(self.experiment, format!("argument `{name}` cannot be recorded: {error}")))?;
        self.arguments.insert(name.to_owned(), value);
        Ok(())
    }

    pub(super) fn into_value(self) -> Value {
        Value::Object(self.arguments)
    }
}

fn refused(experiment: &Experiment, why: String) -> Error {
    Error::Arguments { experiment: experiment.name.to_owned(), why }
}

//! What a query can ask of a run.

use std::fmt;

use arrakis_core::{nearest_name, number};
use serde_json::{Value, json};

use super::bound::Bound;
use crate::error::hint;
use crate::{Record, Status, Work};

/// What a run has in a field.
type Values = fn(&Record) -> Vec<Value>;

/// Something that a run may have.
#[derive(Debug, Clone)]
pub(super) enum Field {
    /// One of the fields that every run may have.
    Fixed(&'static str, Values),
    /// A parameter, by the path to it.
    Parameter(String),
    /// The last value of a metric.
    Metric(String),
}

const PARAMETERS: &str = "parameters.";
const METRICS: &str = "metrics.";

/// The fields by name.
const FIXED: [(&str, Values); 28] = [
    ("id", |record| texts([&record.id])),
    ("key", |record| texts([&record.key])),
    ("what", |record| texts([record.what])),
    ("name", |record| texts([&record.name])),
    ("owner", |record| texts(&record.owner)),
    ("version", |record| texts(&record.version)),
    ("seed", |record| vec![json!(record.seed)]),
    ("stream", |record| texts(&record.streams)),
    ("read", |record| texts(record.read.keys())),
    ("wrote", |record| texts(record.wrote.keys())),
    ("status", |record| texts([record.status])),
    ("error", |record| texts(&record.error)),
    ("started", |record| texts([record.started])),
    ("ended", |record| texts(record.ended)),
    ("seconds", |record| record.seconds.map(number::to_value).into_iter().collect()),
    ("memory", |record| record.peak_memory.map(|bytes| json!(bytes)).into_iter().collect()),
    ("parent", |record| texts(&record.parent)),
    ("model", |record| texts(record.model.name.iter().chain([&record.model.family, &record.model.digest]))),
    ("layout", |record| texts(&record.model.layout)),
    ("device", |record| texts([&record.environment.device])),
    ("dtype", |record| texts([&record.environment.dtype])),
    ("threads", |record| vec![json!(record.environment.threads)]),
    ("program", |record| texts(&record.environment.program)),
    ("commit", |record| texts(record.environment.git.as_ref().map(|git| &git.commit))),
    ("call", |record| texts(record.calls.iter().map(|call| &call.tool))),
    ("tag", |record| texts(&record.tags)),
    ("note", |record| texts(record.notes.iter().map(|note| &note.text))),
    ("warning", |record| texts(&record.warnings)),
];

fn texts<T: ToString>(of: impl IntoIterator<Item = T>) -> Vec<Value> {
    of.into_iter().map(|text| Value::String(text.to_string())).collect()
}

impl Field {
    /// The field of that name; a text says what is wrong with it.
    pub(super) fn parse(name: &str) -> Result<Self, String> {
        let open = |prefix: &str| name.strip_prefix(prefix).filter(|rest| !rest.is_empty()).map(str::to_owned);
        if let Some(path) = open(PARAMETERS) {
            return Ok(Self::Parameter(path));
        }
        if let Some(metric) = open(METRICS) {
            return Ok(Self::Metric(metric));
        }
        let fixed = FIXED.into_iter().find(|(known, _)| *known == name);
        fixed.map(|(name, values)| Self::Fixed(name, values)).ok_or_else(|| {
            let known = FIXED.iter().map(|(known, _)| *known).chain([PARAMETERS, METRICS]);
            let hint = hint(nearest_name(name, known.clone()).as_deref());
            let known: Vec<&str> = known.collect();
            format!("there is no field `{name}`{hint}; there are {}", known.join(", "))
        })
    }

    /// Whether only the runs say if there is such a field.
    pub(super) const fn is_open(&self) -> bool {
        matches!(self, Self::Parameter(_) | Self::Metric(_))
    }

    pub(super) fn is_date(&self) -> bool {
        matches!(self, Self::Fixed("started" | "ended", _))
    }

    /// An error in words if no run could have such a value there.
    pub(super) fn check(&self, value: &str, bound: &Bound) -> Result<(), String> {
        let words = match self {
            Self::Fixed("seed" | "seconds" | "memory" | "threads", _) | Self::Metric(_) if !bound.is_number() => {
                return Err(format!("`{value}` is no number, and `{self}` is one"));
            }
            Self::Fixed("status", _) => Status::ALL.map(|status| status.to_string()).to_vec(),
            Self::Fixed("what", _) => Work::ALL.map(|work| work.to_string()).to_vec(),
            _ => return Ok(()),
        };
        if words.iter().any(|word| word == value) {
            return Ok(());
        }
        let hint = hint(nearest_name(value, words.iter().map(String::as_str)).as_deref());
        Err(format!("`{value}` is no value of `{self}`{hint}; there are {}", words.join(", ")))
    }

    /// What a run has there; nothing, or one or several values.
    pub(super) fn values(&self, record: &Record) -> Vec<Value> {
        match self {
            Self::Fixed(_, values) => values(record),
            Self::Parameter(path) => {
                let mut value = Some(&record.parameters);
                for step in path.split('.') {
                    value = value.and_then(|value| match value {
                        Value::Array(items) => items.get(step.parse::<usize>().ok()?),
                        value => value.get(step),
                    });
                }
                value.cloned().into_iter().collect()
            }
            Self::Metric(name) => {
                let last = record.metrics.iter().find(|metric| metric.name == *name);
                last.map(|metric| number::to_value(metric.value)).into_iter().collect()
            }
        }
    }

    /// The open fields of this kind that a run has.
    pub(super) fn like(&self, record: &Record) -> Vec<String> {
        match self {
            Self::Fixed(..) => Vec::new(),
            Self::Parameter(_) => {
                let names = record.parameters.as_object().into_iter().flat_map(|object| object.keys());
                names.map(|name| format!("{PARAMETERS}{name}")).collect()
            }
            Self::Metric(_) => record.metrics.iter().map(|metric| format!("{METRICS}{}", metric.name)).collect(),
        }
    }
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fixed(name, _) => f.write_str(name),
            Self::Parameter(path) => write!(f, "{PARAMETERS}{path}"),
            Self::Metric(name) => write!(f, "{METRICS}{name}"),
        }
    }
}

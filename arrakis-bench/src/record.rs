//! What is known of a run: `run.json`.

mod start;

use std::collections::BTreeMap;
use std::fmt;

use arrakis_core::number;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{Environment, PluginRecord};

/// The newest form of `run.json`, which this version writes; it reads all earlier ones.
pub const FORMAT: u32 = 2;

/// Where a run stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Status {
    /// Its process is at work.
    Running,
    /// It has a result.
    Completed,
    /// It ended with an error.
    Failed,
    /// It was cancelled, or its process ended before it did.
    Interrupted,
}

impl Status {
    /// Each of them.
    pub(crate) const ALL: [Self; 4] = [Self::Running, Self::Completed, Self::Failed, Self::Interrupted];
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Running => "running",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Interrupted => "interrupted",
        })
    }
}

/// What a run is a run of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Work {
    /// A tool that was asked.
    #[default]
    Tool,
    /// An experiment: code whose version is known.
    Experiment,
    /// A study, whose cells are its parts.
    Study,
}

impl Work {
    /// Each of them.
    pub(crate) const ALL: [Self; 3] = [Self::Tool, Self::Experiment, Self::Study];
}

impl fmt::Display for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tool => "tool",
            Self::Experiment => "experiment",
            Self::Study => "study",
        })
    }
}

/// What kind of result a run has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Outcome {
    /// An answer, made of shapes: [`Log::answer`](crate::Log::answer).
    Answer,
    /// A value of the experiment's own type: [`Log::result`](crate::Log::result).
    Value,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Answer => "answer",
            Self::Value => "value",
        })
    }
}

/// A run: one execution of a tool or an experiment on a model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// The form of this record.
    pub format: u32,
    /// The run's own id, made at its start.
    pub id: String,
    /// blake3 over everything known beforehand that determines the result: runs with the same key can stand for each other.
    pub key: String,
    /// What it is a run of.
    #[serde(default)]
    pub what: Work,
    /// The tool or experiment.
    #[serde(alias = "tool")]
    pub name: String,
    /// The crate that holds it, with its version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// The digest of the experiment's code; its text is the file `source.rs`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// The parameters, every default filled in.
    pub parameters: Value,
    /// The root of its random streams.
    pub seed: u64,
    /// The bound on the bytes of activations, by which tools choose how much they do at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_limit: Option<u64>,
    /// The random streams that were opened, in the order of their first use.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub streams: Vec<String>,
    /// Where it stands.
    pub status: Status,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// When it started.
    pub started: Timestamp,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<Timestamp>,
    /// How long the work took, in seconds; storing and drawing are not counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seconds: Option<f64>,
    /// The most memory that the process had held by the end of the run, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peak_memory: Option<u64>,
    /// The run that this one is a part of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<String>,
    /// The model that was asked.
    pub model: ModelRecord,
    /// The plugins that were loaded.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub plugins: Vec<PluginRecord>,
    /// What it ran on.
    pub environment: Environment,
    /// The files outside the log that were read, by their path as it was given: those that parameters name as they were
    /// at the start, then those that the experiment, its calls and its parts read.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub read: BTreeMap<String, FileRecord>,
    /// The files outside the log that were written.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub wrote: BTreeMap<String, FileRecord>,
    /// The tools that an experiment asked, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub calls: Vec<Call>,
    /// The last value of each metric; `metrics.jsonl` has them all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub metrics: Vec<Metric>,
    /// What kind of result there is, if any: the file `result.json`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<Outcome>,
    /// The tensors, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tensors: BTreeMap<String, TensorRecord>,
    /// The files in the run's folder, this record apart.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub files: BTreeMap<String, FileRecord>,
    /// Those of the files that are pictures.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pictures: Vec<String>,
    /// What was written about it, by the experiment or by hand.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<Note>,
    /// Words to find it by.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// What went wrong beside the result, a picture that could not be drawn, say.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

impl Record {
    /// What kind of result there is, if any; format 1, which knew answers alone, did not say.
    pub(crate) fn kind(&self) -> Option<Outcome> {
        self.outcome.or((self.format == 1).then_some(Outcome::Answer))
    }
}

/// A model, as a run remembers it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelRecord {
    /// What it was called: a path, a hub id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The family.
    pub family: String,
    /// The digest of its weights.
    pub digest: String,
    /// How its weights were laid out, where that rounds otherwise: `packed`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layout: Option<String>,
    /// The digest of its tokenizer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokenizer: Option<String>,
}

/// A tool that was asked within an experiment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Call {
    /// The tool.
    pub tool: String,
    /// Its parameters, every default filled in.
    pub parameters: Value,
    /// The digest of the answer: blake3 over its JSON and its tensors.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// Why there is no answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// How long it took, in seconds.
    pub seconds: f64,
}

/// One value of a metric.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Metric {
    /// The metric.
    pub name: String,
    /// The step: of training, of a sweep.
    pub step: u64,
    /// The value.
    #[serde(with = "number")]
    pub value: f64,
}

impl Metric {
    /// Makes this the last value of its metric.
    pub(crate) fn enter(self, metrics: &mut Vec<Self>) {
        match metrics.iter_mut().find(|known| known.name == self.name) {
            Some(last) => *last = self,
            None => metrics.push(self),
        }
    }
}

/// A tensor of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TensorRecord {
    /// The safetensors file that holds it.
    pub file: String,
    /// Its kind: `float32`, `int64` …
    pub dtype: String,
    /// Its shape.
    pub shape: Vec<i64>,
    /// blake3 over its bytes, row by row.
    pub digest: String,
}

/// A file as it was: one of a run, or one that a run read or wrote.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileRecord {
    /// blake3 over its bytes.
    pub digest: String,
    /// Its length.
    pub bytes: u64,
}

/// A free text about a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Note {
    /// When it was written.
    pub written: Timestamp,
    /// What it says.
    pub text: String,
}

impl Note {
    /// A note that is written now.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self { written: Timestamp::now(), text: text.into() }
    }
}

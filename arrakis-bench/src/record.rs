//! What is known of a run: `run.json`.

use std::fmt;

use arrakis_core::{Model, device};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tch::{Device, Kind};

use crate::{Result, git};

/// The newest form of `run.json` that this version writes and reads.
pub const FORMAT: u32 = 1;

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
    /// Its process ended before it did.
    Interrupted,
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

/// A run: one execution of a tool on a model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// The form of this record.
    pub format: u32,
    /// The run's own id, made at its start.
    pub id: String,
    /// blake3 over everything known beforehand that determines the result: runs with the same key can stand for each other.
    pub key: String,
    /// The tool that was asked.
    pub tool: String,
    /// The crate that holds the tool, with its version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// The tool's parameters, every default filled in.
    pub parameters: Value,
    /// The root of its random streams.
    pub seed: u64,
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
    /// How long the tool took, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seconds: Option<f64>,
    /// The model that was asked.
    pub model: ModelRecord,
    /// What it ran on.
    pub environment: Environment,
    /// The pictures in the run's folder.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pictures: Vec<String>,
    /// What went wrong beside the result, a picture that could not be drawn, say.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
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
}

/// What a run ran on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Environment {
    /// `cpu`, `cuda:0` …
    pub device: String,
    /// `float32`, `float64` …
    pub dtype: String,
    /// LibTorch's threads.
    pub threads: i32,
    /// The version of Arrakis.
    pub arrakis: String,
    /// The version of LibTorch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub libtorch: Option<String>,
    /// The system: `linux x86_64`.
    pub system: String,
    /// The process.
    pub pid: u32,
    /// The folder's git commit, if it is in a repository.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub git: Option<Git>,
}

/// The state of the git repository that a run was started in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Git {
    /// The commit.
    pub commit: String,
    /// The branch, unless the head is detached.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub branch: Option<String>,
}

impl Record {
    /// A run of `tool` that starts now.
    pub(crate) fn start(
        tool: &str,
        owner: Option<&str>,
        parameters: Value,
        seed: u64,
        name: Option<&str>,
        model: &dyn Model,
    ) -> Result<Self> {
        let model_record =
            ModelRecord { name: name.map(str::to_owned), family: model.dims().family.clone(), digest: model.digest()? };
        let mut record = Self {
            format: FORMAT,
            id: id(),
            key: String::new(),
            tool: tool.to_owned(),
            owner: owner.map(str::to_owned),
            parameters,
            seed,
            status: Status::Running,
            error: None,
            started: Timestamp::now(),
            ended: None,
            seconds: None,
            model: model_record,
            environment: Environment::of(model),
            pictures: Vec::new(),
            warnings: Vec::new(),
        };
        record.key = record.key();
        Ok(record)
    }

    fn key(&self) -> String {
        let Environment { device, dtype, threads, arrakis, libtorch, system, .. } = &self.environment;
        let mut known = json!({
            "tool": self.tool, "owner": self.owner, "parameters": self.parameters, "seed": self.seed,
            "model": self.model.digest, "device": device, "dtype": dtype, "threads": threads,
            "arrakis": arrakis, "libtorch": libtorch, "system": system,
        });
        known.sort_all_objects();
        blake3::hash(known.to_string().as_bytes()).to_hex().to_string()
    }
}

impl Environment {
    fn of(model: &dyn Model) -> Self {
        Self {
            device: device_name(model.device()),
            dtype: dtype_name(model.kind()),
            threads: tch::get_num_threads(),
            arrakis: env!("CARGO_PKG_VERSION").to_owned(),
            libtorch: libtorch_version(),
            system: format!("{} {}", std::env::consts::OS, std::env::consts::ARCH),
            pid: std::process::id(),
            git: git::head(),
        }
    }
}

fn device_name(device: Device) -> String {
    match device {
        Device::Cpu => "cpu".to_owned(),
        Device::Cuda(index) => format!("cuda:{index}"),
        other => format!("{other:?}").to_lowercase(),
    }
}

fn dtype_name(kind: Kind) -> String {
    match kind {
        Kind::Float => "float32".to_owned(),
        Kind::Double => "float64".to_owned(),
        Kind::Half => "float16".to_owned(),
        other => format!("{other:?}").to_lowercase(),
    }
}

/// What the file `build-version` beside the running LibTorch says.
fn libtorch_version() -> Option<String> {
    let file = device::libtorch_folder()?.parent()?.join("build-version");
    Some(std::fs::read_to_string(file).ok()?.trim().to_owned())
}

/// A new id, its random part first so that few letters of it suffice.
fn id() -> String {
    use std::hash::{BuildHasher, Hasher, RandomState};
    let mut hasher = RandomState::new().build_hasher();
    hasher.write_u32(std::process::id());
    hasher.write_i128(Timestamp::now().as_nanosecond());
    format!("{:016x}", hasher.finish())
}

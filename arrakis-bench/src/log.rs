//! The log: runs as folders of plain files, found and read again.

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};

use arrakis_core::Answer;
use serde_json::Value;

use crate::writing::{RECORD, RESULT, TENSORS, Writing};
use crate::{Error, FORMAT, Record, Result, Status, read_tensors};

/// A folder of runs: `<folder>/runs/<id>/` holds `run.json`, `result.json`, `tensors.safetensors` and pictures.
#[derive(Debug, Clone)]
pub struct Log {
    folder: PathBuf,
}

impl Log {
    /// The log in a folder, which need not exist yet.
    pub fn open(folder: impl Into<PathBuf>) -> Self {
        Self { folder: folder.into() }
    }

    /// The folder of the log.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The folder of a run.
    #[must_use]
    pub fn run_folder(&self, id: &str) -> PathBuf {
        self.runs().join(id)
    }

    /// Every run, the earliest first.
    pub fn list(&self) -> Result<Vec<Record>> {
        let mut records = self.ids()?.iter().map(|id| self.read(id)).collect::<Result<Vec<Record>>>()?;
        records.sort_by(|a, b| (a.started, &a.id).cmp(&(b.started, &b.id)));
        Ok(records)
    }

    /// The run of that id, or the only one whose id begins so.
    pub fn get(&self, id: &str) -> Result<Record> {
        let mut found: Vec<String> = self.ids()?.into_iter().filter(|known| known.starts_with(id)).collect();
        found.sort();
        match &found[..] {
            [] => Err(Error::NoRun { id: id.to_owned(), folder: self.folder.clone() }),
            [only] => self.read(only),
            [first, second, ..] => Err(Error::Ambiguous {
                id: id.to_owned(),
                count: found.len(),
                first: first.clone(),
                second: second.clone(),
            }),
        }
    }

    /// The answer of the run of that id, or of the only one whose id begins so.
    pub fn answer(&self, id: &str) -> Result<Answer> {
        let record = self.get(id)?;
        if record.status != Status::Completed {
            return Err(Error::NoResult { id: record.id, status: record.status, error: record.error });
        }
        let folder = self.run_folder(&record.id);
        let json: Value = read_json(&folder.join(RESULT))?;
        let tensors = folder.join(TENSORS);
        let tensors = if tensors.exists() { read_tensors(&tensors)? } else { Vec::new() };
        Ok(Answer::join(json, tensors)?)
    }

    /// Makes the folder of a run that starts.
    pub(crate) fn begin(&self, record: &Record) -> Result<Writing> {
        Writing::begin(&self.runs(), record)
    }

    fn runs(&self) -> PathBuf {
        self.folder.join("runs")
    }

    /// The ids of all runs; folders that begin with a dot are still being made.
    fn ids(&self) -> Result<Vec<String>> {
        let runs = self.runs();
        let entries = match fs::read_dir(&runs) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(Error::file("read", &runs)(error)),
        };
        let mut ids = Vec::new();
        for entry in entries {
            let name = entry.map_err(Error::file("read", &runs))?.file_name().to_string_lossy().into_owned();
            if !name.starts_with('.') {
                ids.push(name);
            }
        }
        Ok(ids)
    }

    /// The record of a run, an interrupted one recognised.
    fn read(&self, id: &str) -> Result<Record> {
        let path = self.run_folder(id).join(RECORD);
        let file = File::open(&path).map_err(Error::file("read", &path))?;
        let mut record = read_record(&path)?;
        if record.id != id {
            return Err(Error::damaged(&path, format!("it is of run `{}`", record.id)));
        }
        if record.status == Status::Running && !locked(&file) {
            // The run may have ended between the two looks: its record was replaced before the lock was dropped.
            record = read_record(&path)?;
            if record.status == Status::Running {
                record.status = Status::Interrupted;
            }
        }
        Ok(record)
    }
}

fn locked(file: &File) -> bool {
    match file.try_lock_shared() {
        Ok(()) => false,
        Err(TryLockError::WouldBlock | TryLockError::Error(_)) => true,
    }
}

fn read_record(path: &Path) -> Result<Record> {
    let json: Value = read_json(path)?;
    let format = json.get("format").and_then(Value::as_u64).unwrap_or(0) as u32;
    if format > FORMAT {
        return Err(Error::Newer { path: path.to_path_buf(), format, known: FORMAT });
    }
    serde_json::from_value(json).map_err(|error| Error::damaged(path, error.to_string()))
}

fn read_json(path: &Path) -> Result<Value> {
    let text = fs::read_to_string(path).map_err(Error::file("read", path))?;
    serde_json::from_str(&text).map_err(|error| Error::damaged(path, error.to_string()))
}

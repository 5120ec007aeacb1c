//! The log: runs as folders of plain files, found and read again.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arrakis_core::Answer;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::index::{Index, Listing};
use crate::store::{LOCK, Store};
use crate::tensors::tensors_in;
use crate::writing::{METRICS, RECORD, RESULT, TENSORS, Writing, true_status};
use crate::{Error, Metric, Outcome, Record, Result, Status, json, seal};

/// A folder of runs.
///
/// `runs/<id>/` holds `run.json`, which names every other file of the run with its digest: `result.json`,
/// `tensors.safetensors`, `source.rs`, `metrics.jsonl`, pictures. Equal files of several runs share their bytes as hard
/// links of `objects/`. Several processes may log at once. A process that is killed leaves an interrupted run and harms
/// no other. A power cut may take the runs of the last seconds, or leave them damaged, which reading and
/// [`fsck`](Self::fsck) find; [`synced`](Self::synced) waits for the disk instead.
#[derive(Debug, Clone)]
pub struct Log {
    pub(crate) store: Store,
    index: Arc<Mutex<Index>>,
}

impl Log {
    /// The log in a folder, which need not exist yet.
    pub fn open(folder: impl Into<PathBuf>) -> Self {
        Self { store: Store::new(folder.into()), index: Arc::default() }
    }

    /// The same log, each of its files on the disk itself before the run goes on: some milliseconds for each run.
    #[must_use]
    pub fn synced(mut self) -> Self {
        self.store.synced = true;
        self
    }

    /// The folder of the log.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.store.folder()
    }

    /// The folder of a run.
    #[must_use]
    pub fn run_folder(&self, id: &str) -> PathBuf {
        self.runs().join(id)
    }

    /// Every run, the earliest first; an error names the first that is damaged.
    pub fn list(&self) -> Result<Vec<Record>> {
        let Listing { records, damaged } = self.listing()?;
        damaged.into_iter().next().map_or(Ok(records), Err)
    }

    /// Every run that can be read, and why others cannot.
    pub fn listing(&self) -> Result<Listing> {
        self.index().listing(self)
    }

    /// The run of that id, or the only one whose id begins so.
    pub fn get(&self, id: &str) -> Result<Record> {
        self.read(&self.resolve(id)?)
    }

    /// The whole id that begins so.
    pub(crate) fn resolve(&self, id: &str) -> Result<String> {
        let whole = !id.is_empty() && id.bytes().all(|letter| letter.is_ascii_alphanumeric());
        if whole && self.run_folder(id).is_dir() {
            return Ok(id.to_owned());
        }
        // Every id begins with nothing, and nothing is what an unset variable of a shell gives.
        let begins = |known: &String| !id.is_empty() && known.starts_with(id);
        let mut found: Vec<String> = self.ids()?.into_iter().filter(begins).collect();
        found.sort();
        match &found[..] {
            [] => Err(Error::NoRun { id: id.to_owned(), folder: self.folder().to_path_buf() }),
            [only] => Ok(only.clone()),
            [first, second, ..] => Err(Error::Ambiguous {
                id: id.to_owned(),
                count: found.len(),
                first: first.clone(),
                second: second.clone(),
            }),
        }
    }

    /// The last completed run with that key, if there is one: it can stand for a run that would have the same.
    pub fn completed(&self, key: &str) -> Result<Option<Record>> {
        self.index().completed(self, key)
    }

    /// The answer of the run of that id, or of the only one whose id begins so.
    pub fn answer(&self, id: &str) -> Result<Answer> {
        let record = self.get(id)?;
        let json = self.outcome(&record, Outcome::Answer)?;
        let path = self.run_folder(&record.id).join(TENSORS);
        let tensors = if path.exists() { tensors_in(&self.bytes(&record, TENSORS)?, &path)? } else { Vec::new() };
        Ok(Answer::join(json, tensors)?)
    }

    /// The result of a run of an experiment: of any type that its JSON can be read as, NaN and infinities included.
    pub fn result<T: DeserializeOwned>(&self, id: &str) -> Result<T> {
        let record = self.get(id)?;
        let value = self.outcome(&record, Outcome::Value)?;
        let path = self.run_folder(&record.id).join(RESULT);
        json::from_value(value).map_err(|error| Error::damaged(&path, error.to_string()))
    }

    /// The JSON of a run's result, whatever kind it is of.
    pub fn result_json(&self, id: &str) -> Result<Value> {
        let record = self.get(id)?;
        self.outcome(&record, record.outcome.unwrap_or(Outcome::Answer))
    }

    /// The runs that are parts of another, the earliest first.
    pub fn children(&self, id: &str) -> Result<Vec<Record>> {
        let id = self.resolve(id)?;
        let mut records = self.listing()?.records;
        records.retain(|record| record.parent.as_ref() == Some(&id));
        Ok(records)
    }

    /// Every value of a run's metrics, in the order in which they came.
    pub fn metrics(&self, id: &str) -> Result<Vec<Metric>> {
        let record = self.get(id)?;
        let path = self.run_folder(&record.id).join(METRICS);
        if !path.exists() {
            return Ok(Vec::new());
        }
        let text = self.text(&record, METRICS)?;
        let read = |line: &str| serde_json::from_str(line).map_err(|error| Error::damaged(&path, error.to_string()));
        // The last line of a run whose process was killed may be cut short.
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        whole.lines().map(read).collect()
    }

    /// Makes the folder of a run that starts.
    pub(crate) fn begin(&self, record: &Record) -> Result<Writing> {
        Writing::begin(&self.store, &self.runs(), record)
    }

    pub(crate) fn runs(&self) -> PathBuf {
        self.folder().join("runs")
    }

    /// An error if the folder is not that of a log, so that nothing in it is for Arrakis to remove.
    pub(crate) fn check_layout(&self) -> Result<()> {
        let (folder, runs) = (self.folder(), self.runs());
        // A log need not exist yet; what is made first in it is `runs`.
        let empty = fs::read_dir(folder).map_or(true, |mut entries| entries.next().is_none());
        let is_log = empty
            || runs.is_dir() && {
                let ids = self.ids()?;
                // Of a log whose runs have all lost their record, the lock says what it is.
                let recorded = |id: &String| runs.join(id).join(RECORD).is_file();
                ids.is_empty() || ids.iter().any(recorded) || folder.join(LOCK).is_file()
            };
        if is_log { Ok(()) } else { Err(Error::NoLog { folder: folder.to_path_buf() }) }
    }

    fn index(&self) -> MutexGuard<'_, Index> {
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The ids of all runs; folders that begin with a dot are still being made, or going.
    pub(crate) fn ids(&self) -> Result<Vec<String>> {
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
    pub(crate) fn read(&self, id: &str) -> Result<Record> {
        let folder = self.run_folder(id);
        let path = folder.join(RECORD);
        let mut record = seal::read(&path)?;
        if record.id != id {
            return Err(Error::damaged(&path, format!("it is of run `{}`", record.id)));
        }
        true_status(&folder, &mut record)?;
        Ok(record)
    }

    /// The JSON of a result of that kind.
    fn outcome(&self, record: &Record, wanted: Outcome) -> Result<Value> {
        let Some(kind) = record.kind().filter(|_| record.status == Status::Completed) else {
            let (id, status, error) = (record.id.clone(), record.status, record.error.clone());
            return Err(Error::NoResult { id, status, error });
        };
        if kind != wanted {
            return Err(Error::OtherResult { id: record.id.clone(), kind });
        }
        let text = self.text(record, RESULT)?;
        let path = self.run_folder(&record.id).join(RESULT);
        serde_json::from_str(&text).map_err(|error| Error::damaged(&path, error.to_string()))
    }

    /// The bytes of a file of a run; an error if they are not as they were written.
    pub(crate) fn bytes(&self, record: &Record, name: &str) -> Result<Vec<u8>> {
        let path = self.run_folder(&record.id).join(name);
        let bytes = fs::read(&path).map_err(Error::file("read", &path))?;
        // Files of format 1 have no digest, nor have those that a killed process was about to name.
        if let Some(file) = record.files.get(name) {
            let found = blake3::hash(&bytes).to_hex();
            if found.as_str() != file.digest {
                let why = format!("its digest is {found} and `run.json` says {}", file.digest);
                return Err(Error::damaged(&path, why));
            }
        }
        Ok(bytes)
    }

    pub(crate) fn text(&self, record: &Record, name: &str) -> Result<String> {
        let text = String::from_utf8(self.bytes(record, name)?);
        text.map_err(|_| Error::damaged(&self.run_folder(&record.id).join(name), "it is not UTF-8"))
    }
}

//! The index: every record once more, so that a long log is listed quickly; a cache and nothing else.
//!
//! An entry counts only while its `run.json` has the identity (inode, size, times) that it had, and the file only while
//! its own digest is right: a wrong or missing index costs time and is never a wrong answer.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use arrakis_core::remembered::identity;

use crate::store::Store;
use crate::writing::RECORD;
use crate::{Error, Log, Record, Result, Status};

/// The file of the index, and what it is called while it is written.
pub(crate) const INDEX: &str = "index";
pub(crate) const MAKING_INDEX: &str = ".index";
/// What the index begins with, before its digest.
const HEAD: &str = "arrakis index 2 ";

/// The records that were read so far.
#[derive(Debug, Default)]
pub(crate) struct Index {
    entries: HashMap<String, Entry>,
    /// Whether the file was looked at.
    loaded: bool,
    /// How many entries the file has.
    saved: usize,
    /// How many it has not.
    unsaved: usize,
}

#[derive(Debug)]
struct Entry {
    /// What `run.json` was like when it was read; nothing of a run at work, which is to be read again.
    identity: Option<String>,
    record: Record,
}

/// What a log holds: the runs that can be read, the earliest first, and why others cannot.
#[derive(Debug, Default)]
pub struct Listing {
    /// The runs.
    pub records: Vec<Record>,
    /// One error for each run that is damaged.
    pub damaged: Vec<Error>,
}

impl Index {
    /// Every run of a log, read anew where its record changed.
    pub(crate) fn listing(&mut self, log: &Log) -> Result<Listing> {
        let damaged = self.look(log)?;
        let mut records: Vec<Record> = self.entries.values().map(|entry| entry.record.clone()).collect();
        records.sort_by(|a, b| (a.started, &a.id).cmp(&(b.started, &b.id)));
        Ok(Listing { records, damaged })
    }

    /// The last completed run with that key; a damaged run stands for none, and hides none.
    pub(crate) fn completed(&mut self, log: &Log, key: &str) -> Result<Option<Record>> {
        self.look(log)?;
        let of_key = |record: &&Record| record.key == key && record.status == Status::Completed;
        let found = self.entries.values().map(|entry| &entry.record).filter(of_key);
        Ok(found.max_by_key(|record| (record.started, &record.id)).cloned())
    }

    /// Makes the entries those of the log as it is now; gives an error for each run that is damaged.
    fn look(&mut self, log: &Log) -> Result<Vec<Error>> {
        if !self.loaded {
            self.entries = load(&log.folder().join(INDEX)).unwrap_or_default();
            (self.saved, self.loaded) = (self.entries.len(), true);
        }
        let ids = log.ids()?;
        let mut damaged = Vec::new();
        let mut entries = HashMap::with_capacity(ids.len());
        for id in ids {
            // The identity is looked at first: a record that changes meanwhile is then read again the next time.
            let now = fs::metadata(log.run_folder(&id).join(RECORD)).ok().map(|found| identity(&found));
            let known = self.entries.remove(&id).filter(|entry| now.is_some() && entry.identity == now);
            let fresh = known.is_none();
            let entry = match known.map_or_else(|| log.read(&id), |entry| Ok(entry.record)) {
                Ok(record) => {
                    // A run at work may be interrupted without a change of its record; any other stands still.
                    let identity = now.filter(|_| record.status != Status::Running);
                    self.unsaved += usize::from(fresh && identity.is_some());
                    Entry { identity, record }
                }
                // Removed meanwhile.
                Err(_) if !log.run_folder(&id).exists() => continue,
                Err(error) => {
                    damaged.push(error);
                    continue;
                }
            };
            entries.insert(id, entry);
        }
        self.entries = entries;
        if self.unsaved > 64 + self.saved / 8 && save(&log.store, &self.entries).is_some() {
            (self.saved, self.unsaved) = (self.entries.len(), 0);
        }
        Ok(damaged)
    }
}

/// The entries of the file, if it is as it was written.
fn load(path: &Path) -> Option<HashMap<String, Entry>> {
    let text = fs::read_to_string(path).ok()?;
    let mut entries = HashMap::new();
    for line in body(&text)?.lines() {
        let (identity, json) = line.split_once('\t')?;
        let record: Record = serde_json::from_str(json).ok()?;
        entries.insert(record.id.clone(), Entry { identity: Some(identity.to_owned()), record });
    }
    Some(entries)
}

/// The lines of an index whose digest is right.
pub(crate) fn body(text: &str) -> Option<&str> {
    let (head, body) = text.split_once('\n')?;
    let digest = head.strip_prefix(HEAD)?;
    (blake3::hash(body.as_bytes()).to_hex().as_str() == digest).then_some(body)
}

/// Writes the file whole; nothing is lost where it cannot be written.
fn save(store: &Store, entries: &HashMap<String, Entry>) -> Option<()> {
    let mut body = String::new();
    for entry in entries.values() {
        let Some(identity) = &entry.identity else { continue };
        body.push_str(identity);
        body.push('\t');
        body.push_str(&serde_json::to_string(&entry.record).ok()?);
        body.push('\n');
    }
    let text = format!("{HEAD}{}\n{body}", blake3::hash(body.as_bytes()).to_hex());
    let making = store.folder().join(MAKING_INDEX);
    let _hold = store.exclusive().ok()?;
    fs::write(&making, text).and_then(|()| fs::rename(&making, store.folder().join(INDEX))).ok()
}

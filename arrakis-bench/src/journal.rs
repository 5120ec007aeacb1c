//! The journal of a run at work: what it adds to its record, a line each, so that it is there also if the process is
//! killed.
//!
//! Each line begins with the first letters of its own digest. The record that a run ends with holds all of it, and the
//! journal goes.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::Path;

use arrakis_core::remembered::is_digest;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::writing::METRICS;
use crate::{Call, Error, FileRecord, Metric, Note, Outcome, Record, Result, TensorRecord, seal};

/// The file of the journal.
pub(crate) const JOURNAL: &str = ".journal";
/// How many letters of its digest a line begins with.
const LETTERS: usize = 16;

/// What a run at work adds to its record.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Event {
    /// A random stream was opened.
    Stream(String),
    /// A tool was asked.
    Call(Call),
    /// A file is about to be written again.
    Again(String),
    /// A file was written.
    File(String, FileRecord),
    /// A tensor was stored.
    Tensor(String, TensorRecord),
    /// A file is a picture.
    Picture(String),
    /// The result was stored.
    Outcome(Outcome),
    /// A file outside the log was read.
    Read(String, FileRecord),
    /// A file outside the log was written.
    Wrote(String, FileRecord),
    /// A text was written about the run.
    Note(Note),
    /// The run was tagged.
    Tag(String),
    /// Something went wrong beside the result.
    Warning(String),
}

impl Event {
    /// Why the names in it could not be those of a run's files; a journal comes from outside like any other file.
    fn misnamed(&self) -> Option<String> {
        let (name, digest) = match self {
            Self::Again(name) | Self::Picture(name) => (name, None),
            Self::File(name, file) => (name, Some(&file.digest)),
            Self::Tensor(_, tensor) => (&tensor.file, None),
            _ => return None,
        };
        let sound = seal::is_plain(name) && digest.is_none_or(|digest| is_digest(digest));
        (!sound).then(|| format!("`{name}` is no name and digest of a file of a run"))
    }

    /// Adds this to a record.
    pub(crate) fn enter(self, record: &mut Record) {
        match self {
            Self::Stream(name) => once(&mut record.streams, name),
            Self::Call(call) => record.calls.push(call),
            Self::Again(name) => {
                record.files.remove(&name);
                record.tensors.retain(|_, tensor| tensor.file != name);
            }
            Self::File(name, file) => drop(record.files.insert(name, file)),
            Self::Tensor(name, tensor) => drop(record.tensors.insert(name, tensor)),
            Self::Picture(name) => once(&mut record.pictures, name),
            Self::Outcome(kind) => record.outcome = Some(kind),
            Self::Read(path, file) => drop(record.read.insert(path, file)),
            Self::Wrote(path, file) => drop(record.wrote.insert(path, file)),
            Self::Note(note) => once(&mut record.notes, note),
            Self::Tag(tag) => once(&mut record.tags, tag),
            Self::Warning(words) => record.warnings.push(words),
        }
    }
}

fn once<T: PartialEq>(list: &mut Vec<T>, entry: T) {
    if !list.contains(&entry) {
        list.push(entry);
    }
}

/// Adds a line to the journal of the run in a folder.
pub(crate) fn write(folder: &Path, event: &Event) -> Result<()> {
    let path = folder.join(JOURNAL);
    let text = serde_json::to_string(event).map_err(arrakis_core::Error::from)?;
    let line = format!("{} {text}\n", letters(&text));
    let file = OpenOptions::new().create(true).append(true).open(&path);
    file.and_then(|mut file| file.write_all(line.as_bytes())).map_err(Error::file("write", &path))
}

fn letters(text: &str) -> String {
    blake3::hash(text.as_bytes()).to_hex()[..LETTERS].to_owned()
}

/// Adds to a record what the run in a folder has written down since its start; what of it is damaged is a warning.
pub(crate) fn read_into(folder: &Path, record: &mut Record) {
    let (events, trouble) = events(folder);
    for event in events {
        event.enter(record);
    }
    record.warnings.extend(trouble.map(|why| format!("what `{JOURNAL}` says further on is lost: {why}")));
    let (metrics, trouble) = metrics(folder);
    for metric in metrics {
        metric.enter(&mut record.metrics);
    }
    record.warnings.extend(trouble.map(|why| format!("what `{METRICS}` says further on is lost: {why}")));
}

/// The lines of a journal, as far as they are whole; and what is wrong with the next, if it is not cut short.
pub(crate) fn events(folder: &Path) -> (Vec<Event>, Option<String>) {
    lines(&folder.join(JOURNAL), |line| {
        let (digest, text) = line.split_once(' ').ok_or("it has no digest")?;
        if letters(text) != digest {
            return Err("its digest is another".into());
        }
        let event: Event = of_json(text)?;
        event.misnamed().map_or(Ok(event), Err)
    })
}

/// The values of the metrics, in the same way.
pub(crate) fn metrics(folder: &Path) -> (Vec<Metric>, Option<String>) {
    lines(&folder.join(METRICS), of_json)
}

fn of_json<T: DeserializeOwned>(text: &str) -> Result<T, String> {
    serde_json::from_str(text).map_err(|error| error.to_string())
}

fn lines<T>(path: &Path, read: impl Fn(&str) -> Result<T, String>) -> (Vec<T>, Option<String>) {
    let Ok(bytes) = fs::read(path) else { return (Vec::new(), None) };
    // The last line of a run whose process was killed may be cut short.
    let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
    let mut found = Vec::new();
    for (place, line) in bytes[..whole].split_inclusive(|byte| *byte == b'\n').enumerate() {
        let text = std::str::from_utf8(&line[..line.len() - 1]).map_err(|_| "it is not UTF-8".to_owned());
        match text.and_then(&read) {
            Ok(entry) => found.push(entry),
            Err(why) => return (found, Some(format!("line {}: {why}", place + 1))),
        }
    }
    (found, None)
}

//! A run being written: it is there from its start, and complete only when everything of it is.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use arrakis_core::{Answer, Draw};
use jiff::Timestamp;
use serde::Serialize;

use crate::{Error, Record, Result, Status, replace, write_tensors};

/// The file of a run's record.
pub(crate) const RECORD: &str = "run.json";
/// The file of its answer.
pub(crate) const RESULT: &str = "result.json";
/// The file of its answer's tensors.
pub(crate) const TENSORS: &str = "tensors.safetensors";

/// The folder of a run at work.
///
/// The open record is locked, and the system drops the lock with the process, however it ends: a record that says
/// `running` and is not locked is of an interrupted run.
pub(crate) struct Writing {
    folder: PathBuf,
    _lock: File,
}

impl Writing {
    /// Makes the folder of a run among `runs`.
    pub(crate) fn begin(runs: &Path, record: &Record) -> Result<Self> {
        fs::create_dir_all(runs).map_err(Error::file("make", runs))?;
        let making = runs.join(format!(".making-{}", record.id));
        fs::create_dir(&making).map_err(Error::file("make", &making))?;
        let begun = Self::begin_in(&making, &runs.join(&record.id), record);
        if begun.is_err() {
            let _ = fs::remove_dir_all(&making);
        }
        begun
    }

    fn begin_in(making: &Path, folder: &Path, record: &Record) -> Result<Self> {
        let path = making.join(RECORD);
        write_json(&path, record)?;
        let lock = File::open(&path).map_err(Error::file("read", &path))?;
        // A file system without locks cannot tell an interrupted run from one at work, and that is all.
        let _ = lock.try_lock();
        fs::rename(making, folder).map_err(Error::file("make", folder))?;
        Ok(Self { folder: folder.to_path_buf(), _lock: lock })
    }

    /// The folder.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Writes an answer and its pictures; a picture that cannot be drawn is a warning, for the numbers are there.
    pub(crate) fn answer(&self, answer: &Answer, draw: Option<&dyn Draw>, record: &mut Record) -> Result<()> {
        let (json, tensors) = answer.split()?;
        if !tensors.is_empty() {
            let named = tensors.iter().map(|(name, tensor)| (name.clone(), tensor));
            write_tensors(&self.folder.join(TENSORS), named)?;
        }
        write_json(&self.folder.join(RESULT), &json)?;
        let Some(draw) = draw else { return Ok(()) };
        match draw.draw(answer, &self.folder) {
            Ok(files) => {
                let name = |file: &PathBuf| Some(file.file_name()?.to_string_lossy().into_owned());
                record.pictures = files.iter().filter_map(name).collect();
            }
            Err(error) => record.warnings.push(format!("no picture: {error}")),
        }
        Ok(())
    }

    /// Writes the last word on the run.
    pub(crate) fn end(self, record: &mut Record, status: Status, error: Option<String>) -> Result<()> {
        record.status = status;
        record.error = error;
        record.ended = Some(Timestamp::now());
        write_json(&self.folder.join(RECORD), record)
    }
}

fn write_json(path: &Path, value: &impl Serialize) -> Result<()> {
    let text = serde_json::to_string_pretty(value).map_err(arrakis_core::Error::from)?;
    replace(path, |temporary| fs::write(temporary, text + "\n").map_err(Error::file("write", path)))
}

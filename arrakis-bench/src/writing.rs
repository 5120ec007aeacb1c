//! A run being written: it is there from its start, and complete only when everything of it is.

use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use arrakis_core::{Answer, Draw};
use serde_json::Value;

use crate::journal::{self, Event, JOURNAL};
use crate::replace::is_temporary;
use crate::store::{LINK, Store, free, part};
use crate::{Error, FileRecord, Metric, Record, Result, Status, edit, replace, seal};

/// The file of a run's record.
pub(crate) const RECORD: &str = "run.json";
/// The file of its result.
pub(crate) const RESULT: &str = "result.json";
/// The file of its answer's tensors.
pub(crate) const TENSORS: &str = "tensors.safetensors";
/// The file of its code.
pub(crate) const SOURCE: &str = "source.rs";
/// The file of all values of its metrics, one JSON object a line.
pub(crate) const METRICS: &str = "metrics.jsonl";
/// The folder that pictures of a run are drawn in.
const ASIDE: &str = ".pictures";
/// What the name of a run's folder begins with before it has a record.
pub(crate) const MAKING: &str = ".making-";

/// The folder of a run at work.
///
/// The folder is locked, and the system drops the lock with the process, however it ends: a record that says `running`
/// in a folder that is not locked is of an interrupted run.
#[derive(Debug)]
pub(crate) struct Writing {
    folder: PathBuf,
    store: Store,
    lock: File,
}

impl Writing {
    /// Makes the folder of a run among `runs`.
    pub(crate) fn begin(store: &Store, runs: &Path, record: &Record) -> Result<Self> {
        fs::create_dir_all(runs).map_err(Error::file("make", runs))?;
        let making = runs.join(format!("{MAKING}{}", record.id));
        // Until the folder is locked, only the store's lock says that somebody is at work on it.
        let _hold = store.shared()?;
        fs::create_dir(&making).map_err(Error::file("make", &making))?;
        let begun = Self::begin_in(store, &making, &runs.join(&record.id), record);
        if begun.is_err() {
            let _ = fs::remove_dir_all(&making);
        }
        begun
    }

    fn begin_in(store: &Store, making: &Path, folder: &Path, record: &Record) -> Result<Self> {
        let lock = File::open(making).map_err(Error::file("read", making))?;
        // A file system without locks cannot tell an interrupted run from one at work, and that is all.
        let _ = lock.try_lock();
        seal::write(&making.join(RECORD), record, store.synced)?;
        fs::rename(making, folder).map_err(Error::file("make", folder))?;
        if store.synced {
            folder.parent().map_or(Ok(()), seal::sync)?;
        }
        Ok(Self { folder: folder.to_path_buf(), store: store.clone(), lock })
    }

    /// The folder.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Writes a file of the run, whole or not at all.
    pub(crate) fn file(&self, name: &str, bytes: &[u8]) -> Result<FileRecord> {
        let path = self.folder.join(name);
        replace(&path, |temporary| fs::write(temporary, bytes).map_err(Error::file("write", &path)))?;
        self.keep(name)
    }

    /// Writes a JSON file of the run.
    pub(crate) fn json(&self, name: &str, value: &Value) -> Result<FileRecord> {
        let text = serde_json::to_string_pretty(value).map_err(arrakis_core::Error::from)?;
        self.file(name, (text + "\n").as_bytes())
    }

    /// Makes a file that lies in the folder, finished, a part of the run.
    pub(crate) fn keep(&self, name: &str) -> Result<FileRecord> {
        self.store.share(&self.folder.join(name))
    }

    /// Frees the content of a file of the run that is about to be written again, unless other runs have it.
    pub(crate) fn free(&self, name: &str, before: &FileRecord) {
        let (object, path) = (self.store.object(&before.digest), self.folder.join(name));
        // What stays costs room and nothing else, and is found by `fsck`.
        let _ = self.store.exclusive().and_then(|_hold| {
            free(&object, &path)?;
            // Of several that are about to drop the same content, the last must see that it is.
            part(&path)
        });
    }

    /// Draws an answer, and gives the names of the pictures, which lie in the folder, those apart whose name is `taken`.
    ///
    /// They are drawn aside: what lies in the folder may share its bytes with other runs, and is never written into.
    pub(crate) fn draw(&self, draw: &dyn Draw, answer: &Answer, taken: &dyn Fn(&str) -> bool) -> Result<Vec<String>> {
        let aside = self.folder.join(ASIDE);
        fs::create_dir_all(&aside).map_err(Error::file("make", &aside))?;
        let drawn = draw.draw(answer, &aside).map_err(Error::from).and_then(|files| {
            let place = |file: &PathBuf| {
                let name = file.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
                if taken(&name) {
                    return Ok(name);
                }
                let path = self.folder.join(&name);
                fs::rename(file, &path).map_err(Error::file("write", &path))?;
                Ok(name)
            };
            files.iter().map(place).collect()
        });
        let _ = fs::remove_dir_all(&aside);
        drawn
    }

    /// Adds a line to the journal; it is there also if the process is killed.
    pub(crate) fn journal(&self, event: &Event) -> Result<()> {
        journal::write(&self.folder, event)
    }

    /// Adds a value to the metrics; it is there also if the process is killed.
    pub(crate) fn metric(&self, metric: &Metric) -> Result<()> {
        let path = self.folder.join(METRICS);
        let mut line = serde_json::to_string(metric).map_err(arrakis_core::Error::from)?;
        line.push('\n');
        let file = OpenOptions::new().create(true).append(true).open(&path);
        file.and_then(|mut file| file.write_all(line.as_bytes())).map_err(Error::file("write", &path))
    }

    /// Writes the last word on the run.
    pub(crate) fn end(&self, record: &mut Record) -> Result<()> {
        let path = self.folder.join(RECORD);
        let _hold = self.store.exclusive()?;
        // Others may have written notes and tags meanwhile.
        let there = seal::read(&path)?;
        tidy(&self.folder);
        let new = |note: &&crate::Note| !record.notes.contains(note);
        let notes: Vec<_> = there.notes.iter().filter(new).cloned().collect();
        record.notes.splice(0..0, notes);
        let new = |tag: &&String| !record.tags.contains(tag);
        let tags: Vec<_> = there.tags.iter().filter(new).cloned().collect();
        record.tags.extend(tags);
        seal::write(&path, record, self.store.synced)?;
        // Only now does the record say all that the journal does.
        remove_journal(&self.folder);
        if self.store.synced {
            seal::sync(&self.folder)?;
        }
        // Whoever still has this value holds nothing up.
        let _ = self.lock.unlock();
        Ok(())
    }
}

/// Whether a file or folder of that name in the folder of a run is half-written: one of Arrakis' own, not the user's.
pub(crate) fn half_written(name: &str) -> bool {
    name == ASIDE || name.starts_with(LINK) || is_temporary(name)
}

/// Removes what a panic or a kill left half-written in the folder of a run.
fn tidy(folder: &Path) {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    for entry in entries.filter(|entry| half_written(&entry.file_name().to_string_lossy())) {
        let path = entry.path();
        // What stays is found by `fsck`.
        let _ = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    }
}

/// Removes the journal of a run whose record says all of it.
pub(crate) fn remove_journal(folder: &Path) {
    // `fsck` removes one that stays.
    let _ = fs::remove_file(folder.join(JOURNAL));
}

/// Writes down that a run was interrupted, with all that it had stored; the store is held, and nobody is at work on it.
pub(crate) fn settle(folder: &Path, record: &mut Record, synced: bool) -> Result<()> {
    tidy(folder);
    journal::read_into(folder, record);
    edit::name_files(folder, record)?;
    record.status = Status::Interrupted;
    seal::write(&folder.join(RECORD), record, synced)?;
    remove_journal(folder);
    Ok(())
}

/// Whether a process is at work on the run in a folder.
pub(crate) fn at_work(folder: &Path) -> bool {
    use std::fs::TryLockError::{Error, WouldBlock};
    match File::open(folder).map(|file| file.try_lock_shared()) {
        Ok(Ok(())) | Err(_) => false,
        Ok(Err(WouldBlock | Error(_))) => true,
    }
}

/// The status of a record that was just read: `running` only while somebody is at work; and what such a run has written
/// down until now.
pub(crate) fn true_status(folder: &Path, record: &mut Record) -> Result<()> {
    if record.status != Status::Running {
        return Ok(());
    }
    if !at_work(folder) {
        // The run may have ended between the two looks: its record was replaced before the lock was dropped.
        *record = seal::read(&folder.join(RECORD))?;
        if record.status != Status::Running {
            return Ok(());
        }
        record.status = Status::Interrupted;
    }
    journal::read_into(folder, record);
    Ok(())
}

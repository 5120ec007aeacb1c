//! Export and import: a run as a folder by itself, that can be read without Arrakis and taken into another log.

use std::fs::{self, File};
use std::path::Path;

use crate::environment::digest_of_file;
use crate::replace::temporary;
use crate::writing::{MAKING, RECORD};
use crate::{Error, FORMAT, Log, Record, Result, Status, edit, page, seal};

/// The page of an exported run.
pub(crate) const PAGE: &str = "README.md";

impl Log {
    /// Copies a run to a folder that does not exist yet: `run.json`, all its files, and a page of Markdown.
    pub fn export(&self, id: &str, folder: &Path) -> Result<Record> {
        let mut record = self.get(id)?;
        if record.status == Status::Running {
            return Err(Error::AtWork { id: record.id });
        }
        if fs::symlink_metadata(folder).is_ok() {
            return Err(Error::Taken { path: folder.to_path_buf() });
        }
        let parent = folder.parent().filter(|parent| !parent.as_os_str().is_empty() && !parent.is_dir());
        if let Some(parent) = parent {
            return Err(Error::NoFolder { path: folder.to_path_buf(), parent: parent.to_path_buf() });
        }
        let making = temporary(folder);
        let exported = self.export_to(&mut record, &making).and_then(|()| name(&making, folder));
        if exported.is_err() {
            let _ = fs::remove_dir_all(&making);
        }
        exported.map(|()| record)
    }

    fn export_to(&self, record: &mut Record, folder: &Path) -> Result<()> {
        let own = self.run_folder(&record.id);
        if record.format < FORMAT {
            edit::bring_up_to_date(&own, record)?;
        } else if record.status == Status::Interrupted {
            edit::name_files(&own, record)?;
        }
        fs::create_dir(folder).map_err(Error::file("make", folder))?;
        for name in record.files.keys() {
            write(&folder.join(name), &self.bytes(record, name)?)?;
        }
        write(&folder.join(PAGE), page::page(self, record)?.as_bytes())?;
        seal::write(&folder.join(RECORD), record, false)
    }

    /// Takes an exported run into this log; an error if a byte of it is not as it was exported.
    ///
    /// A run that is there already, with the same record, stays as it is.
    pub fn import(&self, folder: &Path) -> Result<Record> {
        let record = seal::read(&folder.join(RECORD))?;
        check(&record, folder)?;
        let runs = self.runs();
        fs::create_dir_all(&runs).map_err(Error::file("make", &runs))?;
        let (making, own) = (runs.join(format!("{MAKING}{}", record.id)), self.run_folder(&record.id));
        if own.exists() {
            let there = self.get(&record.id)?;
            // As JSON, in which NaN is equal to itself.
            let json = |record: &Record| serde_json::to_value(record).map_err(arrakis_core::Error::from);
            return if json(&there)? == json(&record)? { Ok(there) } else { Err(Error::Taken { path: own }) };
        }
        let hold = self.store.shared()?;
        fs::create_dir(&making).map_err(Error::file("make", &making))?;
        let imported = File::open(&making).map_err(Error::file("read", &making)).and_then(|lock| {
            let _ = lock.try_lock();
            drop(hold);
            self.import_to(&record, folder, &making)?;
            name(&making, &own)
        });
        if imported.is_err() {
            // What stays is found by `fsck`.
            let _ = self.store.exclusive().and_then(|hold| self.clear(&making, &hold));
        }
        imported.map(|()| record)
    }

    fn import_to(&self, record: &Record, folder: &Path, making: &Path) -> Result<()> {
        for (name, file) in &record.files {
            let (from, to) = (folder.join(name), making.join(name));
            fs::copy(&from, &to).map_err(Error::file("read", &from))?;
            if self.store.share(&to)? != *file {
                return Err(Error::damaged(&from, format!("its digest is to be {}", file.digest)));
            }
        }
        seal::write(&making.join(RECORD), record, self.store.synced)
    }
}

/// An error that names what is wrong with an exported run.
fn check(record: &Record, folder: &Path) -> Result<()> {
    let path = folder.join(RECORD);
    if record.format < FORMAT {
        return Err(Error::damaged(&path, "it names no files; export it with this version"));
    }
    let id = !record.id.is_empty() && record.id.bytes().all(|letter| letter.is_ascii_alphanumeric());
    if !id || matches!(record.status, Status::Running) {
        return Err(Error::damaged(&path, "it is of no run that has ended"));
    }
    let named = record.tensors.values().map(|tensor| &tensor.file).chain(&record.pictures);
    if let Some(name) = named.into_iter().find(|name| !record.files.contains_key(*name)) {
        return Err(Error::damaged(&path, format!("it names no file `{name}`")));
    }
    for (name, file) in &record.files {
        let path = folder.join(name);
        let (digest, _) = digest_of_file(&path).map_err(Error::file("read", &path))?;
        if digest != file.digest {
            return Err(Error::damaged(&path, format!("its digest is {digest} and is to be {}", file.digest)));
        }
    }
    Ok(())
}

fn name(making: &Path, folder: &Path) -> Result<()> {
    fs::rename(making, folder).map_err(Error::file("make", folder))
}

fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    fs::write(path, bytes).map_err(Error::file("write", path))
}

//! `fsck`: every byte of a log looked at, and any damage named.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::path::Path;

use crate::environment::digest_of_file;
use crate::index::{self, INDEX, MAKING_INDEX};
use crate::journal::{self, JOURNAL};
use crate::remove::REMOVING;
use crate::store::{alone, inode};
use crate::writing::{METRICS, RECORD, RESULT, TENSORS, at_work, half_written, remove_journal};
use crate::{Damage, DamageKind, Error, Fsck, Log, Record, Result, Status, edit, read_tensors, seal};

/// The work of one `fsck`.
struct Looking<'a> {
    log: &'a Log,
    found: Fsck,
    /// Digests by inode, so that what several runs share is read once.
    digests: HashMap<(u64, u64), String>,
    /// The digests that runs name.
    named: HashSet<String>,
}

impl Log {
    /// Looks at every byte of the log and names all damage; what killed processes left behind is swept first.
    ///
    /// Runs may be at work meanwhile. A folder that is no log is an error.
    pub fn fsck(&self) -> Result<Fsck> {
        self.check_layout()?;
        // A log that cannot be written, a mounted backup say, can be looked at too.
        if let Some(hold) = self.store.exclusive_if_there() {
            self.sweep(&hold)?;
        }
        let mut looking = Looking { log: self, found: Fsck::default(), digests: HashMap::new(), named: HashSet::new() };
        for id in self.ids()? {
            looking.run(&id)?;
        }
        // Whatever else begins with a dot is the user's own.
        looking.left_behind(&self.runs(), |name| name.starts_with(REMOVING))?;
        looking.left_behind(self.folder(), |name| name == MAKING_INDEX)?;
        looking.objects()?;
        looking.index();
        let mut found = looking.found;
        // Others may have been about to rename or to link what looked left behind.
        let _hold = self.store.exclusive_if_there();
        found.damage.retain(|damage| match damage.kind {
            DamageKind::Stray => fs::symlink_metadata(&damage.path).is_ok(),
            DamageKind::Unneeded => alone(&damage.path),
            _ => true,
        });
        Ok(found)
    }

    /// Looks at the log, removes what was left behind and what no run has, and gives what it could not mend.
    ///
    /// Only what Arrakis itself writes is removed.
    pub fn mend(&self) -> Result<Fsck> {
        let found = self.fsck()?;
        let hold = self.store.exclusive()?;
        for damage in &found.damage {
            let hidden = damage.path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
            let unneeded = damage.kind == DamageKind::Unneeded && alone(&damage.path);
            if unneeded || (damage.kind == DamageKind::Stray && hidden && damage.path.is_file()) {
                fs::remove_file(&damage.path).map_err(Error::file("remove", &damage.path))?;
            }
        }
        drop(hold);
        self.fsck()
    }
}

impl Looking<'_> {
    fn damaged(&mut self, path: &Path, kind: DamageKind, why: impl Into<String>) {
        self.found.damage.push(Damage { path: path.to_path_buf(), kind, why: why.into() });
    }

    fn run(&mut self, id: &str) -> Result<()> {
        let Fsck { runs, files, .. } = self.found;
        let damaged = self.found.damage.len();
        // A run that ended or went while it was looked at is looked at again, and then it stands still.
        for last in [false, true] {
            let looked = self.look_at_run(id);
            let there = self.log.run_folder(id).exists();
            if there && (last || (looked.is_ok() && self.found.damage.len() == damaged)) {
                return looked;
            }
            (self.found.runs, self.found.files) = (runs, files);
            self.found.damage.truncate(damaged);
            self.digests.clear();
            if !there {
                break;
            }
        }
        Ok(())
    }

    fn look_at_run(&mut self, id: &str) -> Result<()> {
        let folder = self.log.run_folder(id);
        self.found.runs += 1;
        if !folder.is_dir() {
            self.damaged(&folder, DamageKind::Stray, "it is no folder of a run");
            return Ok(());
        }
        let path = folder.join(RECORD);
        let mut record = match seal::read(&path) {
            Ok(record) if record.id == id => record,
            Ok(record) => {
                self.damaged(&path, DamageKind::Changed, format!("it is of run `{}`", record.id));
                return Ok(());
            }
            Err(error) => {
                let kind = if path.exists() { DamageKind::Changed } else { DamageKind::Missing };
                self.damaged(&path, kind, why(error));
                return Ok(());
            }
        };
        self.found.files += 1;
        if record.status == Status::Running && !at_work(&folder) {
            self.interrupted(&folder, &mut record);
        }
        for (name, file) in &record.files {
            self.named.insert(file.digest.clone());
            self.file(&folder.join(name), &file.digest);
        }
        self.unnamed(&folder, &record)
    }

    /// What an interrupted run had stored until then.
    fn interrupted(&mut self, folder: &Path, record: &mut Record) {
        let ((events, in_journal), (_, in_metrics)) = (journal::events(folder), journal::metrics(folder));
        for event in events {
            event.enter(record);
        }
        for (name, trouble) in [(JOURNAL, in_journal), (METRICS, in_metrics)] {
            if let Some(why) = trouble {
                self.damaged(&folder.join(name), DamageKind::Changed, why);
            }
        }
    }

    /// A file whose digest is known.
    fn file(&mut self, path: &Path, digest: &str) {
        self.found.files += 1;
        match self.digest(path) {
            Ok(found) if found == digest => {}
            Ok(found) => {
                self.damaged(path, DamageKind::Changed, format!("its digest is {found} and is to be {digest}"));
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                self.damaged(path, DamageKind::Missing, "it is not there");
            }
            Err(error) => self.damaged(path, DamageKind::Changed, error.to_string()),
        }
    }

    fn digest(&mut self, path: &Path) -> std::io::Result<String> {
        let inode = inode(&fs::metadata(path)?);
        if let Some(known) = self.digests.get(&inode) {
            return Ok(known.clone());
        }
        let (digest, _) = digest_of_file(path)?;
        self.digests.insert(inode, digest.clone());
        Ok(digest)
    }

    /// Files that the record does not name.
    fn unnamed(&mut self, folder: &Path, record: &Record) -> Result<()> {
        // A run that has not ended, or never will, names its files at its end.
        if record.status == Status::Running {
            return Ok(());
        }
        remove_journal(folder);
        if record.format == 1 {
            self.first_format(folder, record);
            return self.left_behind(folder, half_written);
        }
        for name in edit::files(folder)?.iter().filter(|name| !record.files.contains_key(*name)) {
            self.damaged(&folder.join(name), DamageKind::Stray, "no record names it");
        }
        self.left_behind(folder, half_written)
    }

    /// Format 1 has no digests: its files are read, and that is all that can be said of them.
    fn first_format(&mut self, folder: &Path, record: &Record) {
        let result = folder.join(RESULT);
        if record.status == Status::Completed {
            let text = fs::read_to_string(&result).map_err(|error| error.to_string());
            let read =
                text.and_then(|text| serde_json::from_str::<serde_json::Value>(&text).map_err(|e| e.to_string()));
            if let Err(error) = read {
                self.damaged(&result, DamageKind::Changed, error);
            }
        }
        let tensors = folder.join(TENSORS);
        if tensors.exists()
            && let Err(error) = read_tensors(&tensors)
        {
            self.damaged(&tensors, DamageKind::Changed, why(error));
        }
    }

    /// What was being written under such a name.
    fn left_behind(&mut self, folder: &Path, half_written: impl Fn(&str) -> bool) -> Result<()> {
        let Ok(entries) = fs::read_dir(folder) else { return Ok(()) };
        for entry in entries {
            let entry = entry.map_err(Error::file("read", folder))?;
            if half_written(&entry.file_name().to_string_lossy()) {
                self.damaged(&entry.path(), DamageKind::Stray, "it was left behind half-written");
            }
        }
        Ok(())
    }

    fn objects(&mut self) -> Result<()> {
        let objects = self.log.store.objects();
        let Ok(folders) = fs::read_dir(&objects) else { return Ok(()) };
        for folder in folders {
            let folder = folder.map_err(Error::file("read", &objects))?.path();
            let Ok(entries) = fs::read_dir(&folder) else {
                self.damaged(&folder, DamageKind::Stray, "it is no folder of contents");
                continue;
            };
            for entry in entries {
                let path = entry.map_err(Error::file("read", &folder))?.path();
                let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
                if self.log.store.object(&name) != path || !arrakis_core::remembered::is_digest(&name) {
                    self.damaged(&path, DamageKind::Stray, "it is no content of a run");
                    continue;
                }
                let found = match self.digest(&path) {
                    Ok(found) if found == name => found,
                    // Looked at again, for an inode may have been given to another file meanwhile.
                    Ok(_) => match digest_of_file(&path) {
                        Ok((found, _)) => found,
                        Err(_) => continue,
                    },
                    // Freed meanwhile.
                    Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                    Err(error) => {
                        self.damaged(&path, DamageKind::Changed, error.to_string());
                        continue;
                    }
                };
                if found != name {
                    self.damaged(&path, DamageKind::Changed, format!("its digest is {found}"));
                }
                if alone(&path) && !self.named.contains(&name) {
                    self.damaged(&path, DamageKind::Unneeded, "no run has it");
                }
            }
        }
        Ok(())
    }

    fn index(&mut self) {
        let path = self.log.folder().join(INDEX);
        let Ok(bytes) = fs::read(&path) else { return };
        if std::str::from_utf8(&bytes).ok().and_then(index::body).is_none() {
            self.damaged(&path, DamageKind::Changed, "its digest is wrong; it is only a cache and can be removed");
        }
    }
}

/// What is wrong, without the path, which stands beside it.
fn why(error: Error) -> String {
    match error {
        Error::Damaged { why, .. } => why,
        Error::File { source, .. } => source.to_string(),
        other => other.to_string(),
    }
}

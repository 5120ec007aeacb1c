//! Where plugins are found without being named: `ARRAKIS_PLUGIN_PATH`, and the user's folder.

use std::fs::DirEntry;
use std::path::{Path, PathBuf};
use std::{env, io};

use crate::{Error, Result};

/// A file that may be a plugin, and what led to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The file.
    pub path: PathBuf,
    /// `ARRAKIS_PLUGIN_PATH`, or the user's folder.
    pub by: String,
}

/// The files that stand where plugins are looked for: first those of `ARRAKIS_PLUGIN_PATH`, a list of files and folders,
/// then those of `arrakis/plugins` in the user's data folder (`$XDG_DATA_HOME`, else `~/.local/share`).
///
/// Of a folder they are the files that end in `.so`, by name; one that cannot be read is an error in their place. A file
/// that the variable names and that is not there is given too, so that whoever loads it says so; the user's folder need
/// not be there.
#[must_use]
pub fn plugin_files() -> Vec<Result<Found>> {
    const VARIABLE: &str = "ARRAKIS_PLUGIN_PATH";
    let mut found = Vec::new();
    for place in env::split_paths(&env::var_os(VARIABLE).unwrap_or_default()) {
        if place.as_os_str().is_empty() {
            continue;
        }
        if place.is_dir() {
            found.extend(libraries(&place, VARIABLE));
        } else {
            found.push(Ok(Found { path: place, by: VARIABLE.to_owned() }));
        }
    }
    if let Some(folder) = user_folder().filter(|folder| folder.is_dir()) {
        found.extend(libraries(&folder, &folder.display().to_string()));
    }
    found
}

fn user_folder() -> Option<PathBuf> {
    let set = |name: &str| env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let data = set("XDG_DATA_HOME").or_else(|| Some(set("HOME")?.join(".local/share")))?;
    Some(data.join("arrakis/plugins"))
}

/// The libraries of a folder, or the error that it cannot be read.
fn libraries(folder: &Path, by: &str) -> Vec<Result<Found>> {
    let listed = std::fs::read_dir(folder).and_then(Iterator::collect::<io::Result<Vec<_>>>);
    let mut paths: Vec<PathBuf> = match listed.map_err(Error::file("read", folder)) {
        Ok(entries) => entries.iter().map(DirEntry::path).collect(),
        Err(error) => return vec![Err(error)],
    };
    paths.retain(|path| path.extension().is_some_and(|ending| ending == "so"));
    paths.sort();
    paths.into_iter().map(|path| Ok(Found { path, by: by.to_owned() })).collect()
}

//! Where plugins are found without being named: `ARRAKIS_PLUGIN_PATH`, and the user's folder.

use std::env;
use std::path::{Path, PathBuf};

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
/// Of a folder they are the files that end in `.so`, by name. A file that the variable names and that is not there is given
/// too, so that whoever loads it says so; the user's folder need not be there.
pub fn plugin_files() -> Result<Vec<Found>> {
    const VARIABLE: &str = "ARRAKIS_PLUGIN_PATH";
    let mut found = Vec::new();
    for place in env::split_paths(&env::var_os(VARIABLE).unwrap_or_default()) {
        if place.as_os_str().is_empty() {
            continue;
        }
        let paths = if place.is_dir() { libraries(&place)? } else { vec![place] };
        found.extend(paths.into_iter().map(|path| Found { path, by: VARIABLE.to_owned() }));
    }
    if let Some(folder) = user_folder().filter(|folder| folder.is_dir()) {
        let by = folder.display().to_string();
        found.extend(libraries(&folder)?.into_iter().map(|path| Found { path, by: by.clone() }));
    }
    Ok(found)
}

fn user_folder() -> Option<PathBuf> {
    let set = |name: &str| env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let data = set("XDG_DATA_HOME").or_else(|| Some(set("HOME")?.join(".local/share")))?;
    Some(data.join("arrakis/plugins"))
}

fn libraries(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(Error::file("read", folder))? {
        let path = entry.map_err(Error::file("read", folder))?.path();
        if path.extension().is_some_and(|ending| ending == "so") {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

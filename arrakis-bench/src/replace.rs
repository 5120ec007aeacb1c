//! Files that are there whole or not at all.

use std::fs;
use std::path::{Path, PathBuf};

use crate::{Error, Result};

/// Writes a file under a temporary name beside `path`, then gives it its own; nothing is left behind on an error.
pub fn replace<E: From<Error>>(path: &Path, write: impl FnOnce(&Path) -> Result<(), E>) -> Result<(), E> {
    let temporary = temporary(path);
    let written = write(&temporary)
        .and_then(|()| fs::rename(&temporary, path).map_err(|error| Error::file("write", path)(error).into()));
    if written.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    written
}

/// What a file or folder is called while it is made, beside its place.
///
/// The ending stays the last, for writers that choose a form by it.
pub(crate) fn temporary(path: &Path) -> PathBuf {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    path.with_file_name(format!(".{}-{name}", std::process::id()))
}

/// Whether a name is one that [`temporary`] gives, in whatever process.
pub(crate) fn is_temporary(name: &str) -> bool {
    let process = name.strip_prefix('.').and_then(|rest| rest.split_once('-')).map(|(process, _)| process);
    process.is_some_and(|process| !process.is_empty() && process.bytes().all(|digit| digit.is_ascii_digit()))
}

//! Files that are there whole or not at all.

use std::fs;
use std::path::Path;

use crate::{Error, Result};

/// Writes a file under a temporary name beside `path`, then gives it its own; nothing is left behind on an error.
pub fn replace<E: From<Error>>(path: &Path, write: impl FnOnce(&Path) -> Result<(), E>) -> Result<(), E> {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    // The ending stays the last, for writers that choose a form by it.
    let temporary = path.with_file_name(format!(".{}-{name}", std::process::id()));
    let written = write(&temporary)
        .and_then(|()| fs::rename(&temporary, path).map_err(|error| Error::file("write", path)(error).into()));
    if written.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    written
}

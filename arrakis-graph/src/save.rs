//! Pictures as files, written to a temporary name and renamed.

use std::io::{self, Write};
use std::path::Path;

use crate::{Error, Result};

/// Puts `bytes` at `path`, whole or not at all; the folder must exist.
pub fn save(path: &Path, bytes: &[u8]) -> Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let write = || -> io::Result<()> {
        if !folder.is_dir() {
            let why = format!("there is no folder `{}`", folder.display());
            return Err(io::Error::new(io::ErrorKind::NotFound, why));
        }
        // The kind alone: the whole error names the temporary file, which no one asked for.
        let temporary = tempfile::Builder::new().prefix(".arrakis-").tempfile_in(folder);
        let mut file = temporary.map_err(|error| io::Error::from(error.kind()))?;
        file.write_all(bytes)?;
        readable(file.as_file())?;
        file.persist(path).map_err(|error| error.error)?;
        Ok(())
    };
    write().map_err(|source| Error::File { path: path.to_owned(), source })
}

/// Gives a temporary file, private by default, the permissions of a picture.
#[cfg(unix)]
fn readable(file: &std::fs::File) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    file.set_permissions(std::fs::Permissions::from_mode(0o644))
}

#[cfg(not(unix))]
fn readable(_: &std::fs::File) -> io::Result<()> {
    Ok(())
}

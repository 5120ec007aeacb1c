//! Links from the checkout to the cache.

use std::path::Path;
use std::{fs, io, process};

use anyhow::{Result, bail};

use crate::write_failed;

/// Makes `at` a link to `to` in one step, replacing a link but never a file or folder of the user's.
///
/// # Errors
/// If something other than a link lies at `at`, or it cannot be written.
pub(crate) fn put(to: &Path, at: &Path) -> Result<()> {
    if fs::read_link(at).is_ok_and(|now| now == to) {
        return Ok(());
    }
    if fs::symlink_metadata(at).is_ok_and(|now| !now.is_symlink()) {
        bail!("`{}` is in the way: move it elsewhere and run this again", at.display());
    }
    let new = at.with_extension(format!("new-{}", process::id()));
    symlink(to, &new).and_then(|()| fs::rename(&new, at)).map_err(|error| {
        let _ = fs::remove_file(&new);
        write_failed(error, at)
    })
}

#[cfg(unix)]
fn symlink(to: &Path, at: &Path) -> io::Result<()> {
    std::os::unix::fs::symlink(to, at)
}

#[cfg(not(unix))]
fn symlink(_: &Path, _: &Path) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(all(test, unix))]
mod tests {
    use super::put;

    #[test]
    fn replaces_links_and_nothing_else() -> anyhow::Result<()> {
        let folder = tempfile::tempdir()?;
        let (old, new, at) = (folder.path().join("old"), folder.path().join("new"), folder.path().join("at"));
        put(&old, &at)?;
        put(&new, &at)?;
        assert_eq!(std::fs::read_link(&at)?, new);
        std::fs::remove_file(&at)?;
        std::fs::write(&at, "mine")?;
        assert!(put(&new, &at).is_err());
        assert_eq!(std::fs::read_to_string(&at)?, "mine");
        Ok(())
    }
}

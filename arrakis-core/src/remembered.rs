//! Digests of big files, remembered by the identity of the files: path, size, inode, and times of change.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::{env, fs, io};

/// Files below this are digested each time: that is as quick as looking.
const WORTH_REMEMBERING: u64 = 32 << 20;

/// A file as it was when it was opened: whoever replaces it makes another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileIdentity {
    path: PathBuf,
    len: u64,
    identity: String,
}

impl FileIdentity {
    /// The file at `path` that was opened, by what the open file says of itself.
    pub fn of(path: &Path, opened: &fs::Metadata) -> io::Result<Self> {
        Ok(Self { path: fs::canonicalize(path)?, len: opened.len(), identity: identity(opened) })
    }
}

/// The digest (blake3, hexadecimal) that was computed before for the same files and `what`, or is now.
///
/// Remembered in the user's cache (`$ARRAKIS_CACHE`, `$XDG_CACHE_HOME/arrakis`, `~/.cache/arrakis`). Nothing is
/// remembered where there is none, of small files, or without files.
pub fn remembered<E>(
    what: &[u8],
    files: &[FileIdentity],
    compute: impl FnOnce() -> Result<String, E>,
) -> Result<String, E> {
    let Some(note) = note(what, files) else { return compute() };
    if let Some(known) = fs::read_to_string(&note).ok().filter(|digest| is_digest(digest)) {
        return Ok(known);
    }
    let digest = compute()?;
    write(&note, &digest);
    Ok(digest)
}

/// Whether a text is a digest: 64 hexadecimal letters.
#[must_use]
pub fn is_digest(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|digit| digit.is_ascii_hexdigit())
}

/// Where the digest is remembered.
fn note(what: &[u8], files: &[FileIdentity]) -> Option<PathBuf> {
    let mut hasher = blake3::Hasher::new_derive_key("arrakis remembered digest 2");
    hasher.update(what);
    for FileIdentity { path, identity, .. } in files {
        hasher.update(format!("\n{} {identity}", path.display()).as_bytes());
    }
    let set = |name| env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let cache = set("ARRAKIS_CACHE")
        .or_else(|| Some(set("XDG_CACHE_HOME")?.join("arrakis")))
        .or_else(|| Some(env::home_dir()?.join(".cache/arrakis")))?;
    let bytes: u64 = files.iter().map(|file| file.len).sum();
    (bytes >= WORTH_REMEMBERING).then(|| cache.join("digests").join(hasher.finalize().to_hex().as_str()))
}

/// What changes whenever a file is written or replaced.
#[must_use]
pub fn identity(found: &fs::Metadata) -> String {
    let (written, changed) = ((found.mtime(), found.mtime_nsec()), (found.ctime(), found.ctime_nsec()));
    format!("{} {} {}.{:09} {}.{:09}", found.ino(), found.len(), written.0, written.1, changed.0, changed.1)
}

/// Writes a note whole; one that cannot be written only costs time later.
fn write(note: &Path, digest: &str) {
    let temporary = note.with_extension(std::process::id().to_string());
    let folder = note.parent().unwrap_or(Path::new(""));
    let _ = fs::create_dir_all(folder)
        .and_then(|()| fs::write(&temporary, digest))
        .and_then(|()| fs::rename(&temporary, note));
}

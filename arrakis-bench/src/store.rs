//! The store: each content once, under its digest, as a hard link of the files of the runs that have it.
//!
//! A run's folder is whole by itself: `objects/` only lets equal files share their bytes, and the number of links of an
//! object says whether a run needs it. Where there are no hard links, runs keep copies and there are no objects.

use std::fs::{self, File, Metadata, OpenOptions};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use crate::environment::digest_of_file;
use crate::{Error, FileRecord, Result, replace, seal};

/// The file whose lock says who may free objects.
pub(crate) const LOCK: &str = ".lock";
/// What the name of a link begins with before it takes the place of an equal file.
pub(crate) const LINK: &str = ".link-";
/// The folder of the contents.
pub(crate) const OBJECTS: &str = "objects";

/// The contents of a log.
#[derive(Debug, Clone)]
pub(crate) struct Store {
    folder: PathBuf,
    /// Whether files are on the disk itself before they have their names.
    pub(crate) synced: bool,
}

/// A lock on a store, dropped with this value or with the process.
pub(crate) struct Hold {
    _lock: File,
}

impl Store {
    pub(crate) const fn new(folder: PathBuf) -> Self {
        Self { folder, synced: false }
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    pub(crate) fn objects(&self) -> PathBuf {
        self.folder.join(OBJECTS)
    }

    /// Where a content of that digest lies.
    pub(crate) fn object(&self, digest: &str) -> PathBuf {
        self.objects().join(digest.get(..2).unwrap_or_default()).join(digest)
    }

    /// Keeps others from freeing and changing; several may hold this at once.
    pub(crate) fn shared(&self) -> Result<Hold> {
        self.hold(File::lock_shared)
    }

    /// Keeps all others out for a moment.
    pub(crate) fn exclusive(&self) -> Result<Hold> {
        self.hold(File::lock)
    }

    /// Keeps all others out for a moment, if there is a lock; the log is left as it is where there is none.
    pub(crate) fn exclusive_if_there(&self) -> Option<Hold> {
        self.folder.join(LOCK).is_file().then(|| self.exclusive().ok()).flatten()
    }

    fn hold(&self, lock: impl FnOnce(&File) -> std::io::Result<()>) -> Result<Hold> {
        let path = self.folder.join(LOCK);
        let file = OpenOptions::new().create(true).append(true).open(&path).map_err(Error::file("make", &path))?;
        // Without locks (some network file systems) processes are only kept apart by the atomicity of names.
        let _ = lock(&file);
        Ok(Hold { _lock: file })
    }

    /// Digests a finished file of a run, and lets it share its bytes with equal files of other runs.
    pub(crate) fn share(&self, file: &Path) -> Result<FileRecord> {
        if self.synced {
            seal::sync(file)?;
        }
        let (digest, bytes) = digest_of_file(file).map_err(Error::file("read", file))?;
        let object = self.object(&digest);
        // A damaged object must not become a part of a sound run.
        let twin = digest_of_file(&object).is_ok_and(|(found, _)| found == digest);
        let _hold = self.shared()?;
        // Sharing saves room and nothing else, so that a run does not fail where it fails.
        let _ = if twin { adopt(&object, file) } else { offer(&object, file) };
        Ok(FileRecord { digest, bytes })
    }
}

/// Removes an object that has no use but `file`; the store is held meanwhile.
pub(crate) fn free(object: &Path, file: &Path) -> Result<()> {
    let (Ok(there), Ok(own)) = (fs::symlink_metadata(object), fs::symlink_metadata(file)) else { return Ok(()) };
    // Without hard links, or in a log that was copied, an object has one name.
    let last = there.nlink() == if same(&there, &own) { 2 } else { 1 };
    if last { fs::remove_file(object).map_err(Error::file("remove", object)) } else { Ok(()) }
}

/// Gives a file bytes of its own, so that it no longer counts among those that share an object; the store is held meanwhile.
pub(crate) fn part(file: &Path) -> Result<()> {
    if fs::symlink_metadata(file).is_ok_and(|found| found.nlink() > 1) {
        replace(file, |copy| fs::copy(file, copy).map(drop).map_err(Error::file("write", file)))?;
    }
    Ok(())
}

/// Puts a link to an object in the place of an equal file.
fn adopt(object: &Path, file: &Path) -> std::io::Result<()> {
    if same(&fs::symlink_metadata(object)?, &fs::symlink_metadata(file)?) {
        return Ok(());
    }
    let name = file.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let link = file.with_file_name(format!("{LINK}{name}"));
    let adopted = fs::hard_link(object, &link).and_then(|()| fs::rename(&link, file));
    if adopted.is_err() {
        let _ = fs::remove_file(&link);
    }
    adopted
}

/// Makes an object of a file, unless there is one.
fn offer(object: &Path, file: &Path) -> std::io::Result<()> {
    if let Some(folder) = object.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::hard_link(file, object)
}

/// Whether an object is there, and no run shares its bytes.
pub(crate) fn alone(object: &Path) -> bool {
    fs::symlink_metadata(object).is_ok_and(|found| found.nlink() == 1)
}

/// What is the same for all names of a file.
pub(crate) fn inode(found: &Metadata) -> (u64, u64) {
    (found.dev(), found.ino())
}

fn same(a: &Metadata, b: &Metadata) -> bool {
    inode(a) == inode(b)
}

//! Files outside the log that a run reads or writes: their digests, and whether they are what they were.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::path::Path;

use arrakis_core::remembered::{FileIdentity, remembered};
use arrakis_core::{FileUse, ParameterFile};

use crate::environment::digest_of_file;
use crate::page::short;
use crate::{Error, FileRecord, Record, Result};

/// The path of a file as a record has it.
pub(crate) fn name(path: &Path) -> Result<String> {
    path.to_str().map(str::to_owned).ok_or_else(|| {
        let why = "its name is not UTF-8, and a record is JSON; rename it".into();
        arrakis_core::Error::Invalid { what: format!("file `{}`", path.display()), why }.into()
    })
}

/// A file as it is now; the digest of a big one is computed once.
pub(crate) fn file(path: &Path) -> io::Result<FileRecord> {
    let opened = open(path)?.metadata()?;
    let digest = remembered(b"file", &[FileIdentity::of(path, &opened)?], || digest_of_file(path).map(|(it, _)| it))?;
    Ok(FileRecord { digest, bytes: opened.len() })
}

/// Opens what is a file; a pipe would be waited for, and can be read only once.
fn open(path: &Path) -> io::Result<File> {
    if fs::metadata(path)?.is_file() { File::open(path) } else { Err(io::Error::other("it is no file")) }
}

/// A file that a parameter names, as it is now.
pub(crate) fn parameter(named: &ParameterFile) -> Result<FileRecord> {
    file(&named.path).map_err(unreadable(named))
}

/// An error if files that parameters name could not be read or written.
pub(crate) fn check(files: &[ParameterFile]) -> Result<()> {
    files.iter().try_for_each(|named| match named.usage {
        FileUse::Read => open(&named.path).map(drop).map_err(unreadable(named)),
        FileUse::Written => {
            let folder = named.path.parent().filter(|folder| !folder.as_os_str().is_empty());
            match folder {
                Some(folder) if !folder.is_dir() => {
                    Err(refused(named, "which cannot be written: its folder does not exist; make it first"))
                }
                _ if named.path.is_dir() => Err(refused(named, "which is a folder; name a file")),
                _ => Ok(()),
            }
        }
    })
}

fn unreadable(named: &ParameterFile) -> impl FnOnce(io::Error) -> Error {
    |error| refused(named, &format!("which cannot be read: {error}"))
}

fn refused(named: &ParameterFile, why: &str) -> Error {
    let (parameter, path) = (named.parameter.clone(), named.path.display().to_string());
    Error::FileParameter { parameter, path, why: why.to_owned() }
}

impl Record {
    /// An error that names a file that the run read and that is another now, or is gone.
    pub(crate) fn same_read(&self) -> Result<()> {
        self.unchanged("read", &self.read, "put the one back that it read")
    }

    /// An error that names a file that the run wrote and that is another now, or is gone.
    pub(crate) fn same_wrote(&self) -> Result<()> {
        self.unchanged("wrote", &self.wrote, "do the run again")
    }

    /// An error that names a file that the run wrote, and that would be lost if it were written again.
    pub(crate) fn free_to_write(&self) -> Result<()> {
        let there = self.wrote.iter().filter(|(path, _)| fs::symlink_metadata(path).is_ok());
        let there = there.map(|(path, was)| (path.clone(), was.clone())).collect();
        self.unchanged("wrote", &there, "it would be written anew, so move it away first")
    }

    fn unchanged(&self, did: &'static str, files: &BTreeMap<String, FileRecord>, cure: &'static str) -> Result<()> {
        files.iter().try_for_each(|(path, was)| {
            let is = match file(Path::new(path)) {
                Ok(is) if is.digest == was.digest => return Ok(()),
                Ok(is) => format!("is {} now", short(&is.digest)),
                Err(error) => format!("cannot be read: {error}"),
            };
            let change = format!("whose digest was {}, and it {is}", short(&was.digest));
            Err(Error::OtherFile { id: self.id.clone(), did, path: path.clone(), change, cure })
        })
    }
}

//! `run.json` with a digest of itself: its last member is the blake3 digest of every byte before it.

use std::fs;
use std::path::Path;

use arrakis_core::remembered::is_digest;
use serde_json::Value;

use crate::writing::RECORD;
use crate::{Error, FORMAT, FileRecord, Record, Result, replace};

/// What stands between the record and its digest, and after the digest.
const BEFORE: &str = ",\n  \"digest\": \"";
const AFTER: &str = "\"\n}\n";
const DIGEST: usize = 64;

/// Writes a record, whole or not at all; on the disk itself before it has its name, if `synced`.
pub(crate) fn write(path: &Path, record: &Record, synced: bool) -> Result<()> {
    let text = serde_json::to_string_pretty(record).map_err(arrakis_core::Error::from)?;
    let body = text.strip_suffix("\n}").unwrap_or(&text);
    let sealed = format!("{body}{BEFORE}{}{AFTER}", blake3::hash(body.as_bytes()).to_hex());
    replace(path, |temporary| {
        fs::write(temporary, sealed).map_err(Error::file("write", path))?;
        if synced { sync(temporary) } else { Ok(()) }
    })
}

/// Reads a record; an error if a byte of it is not as it was written.
pub(crate) fn read(path: &Path) -> Result<Record> {
    let text = fs::read(path).map_err(Error::file("read", path))?;
    let text = String::from_utf8(text).map_err(|_| Error::damaged(path, "it is not UTF-8"))?;
    let sealed = check(&text).map_err(|why| Error::damaged(path, why))?;
    match serde_json::from_str::<Record>(&text) {
        Ok(record) if record.format > FORMAT => Err(newer(path, record.format)),
        Ok(record) if record.format > 1 && !sealed => Err(Error::damaged(path, "it does not end with its digest")),
        Ok(record) => match misnamed(&record) {
            Some(name) => Err(Error::damaged(path, format!("`{name}` is no name and digest of a file of a run"))),
            None => Ok(record),
        },
        Err(error) => {
            let format = serde_json::from_str::<Value>(&text).ok().and_then(|json| json.get("format")?.as_u64());
            match format {
                Some(format) if format > u64::from(FORMAT) => Err(newer(path, format as u32)),
                _ => Err(Error::damaged(path, error.to_string())),
            }
        }
    }
}

/// A file of a record that could lie outside its run or be the record, or whose bytes could lie outside the store.
fn misnamed(record: &Record) -> Option<&String> {
    let sound = |(name, file): (&String, &FileRecord)| is_plain(name) && is_digest(&file.digest);
    let files = record.files.iter().find(|entry| !sound(*entry)).map(|(name, _)| name);
    let named = record.tensors.values().map(|tensor| &tensor.file).chain(&record.pictures);
    files.or_else(|| named.into_iter().find(|name| !is_plain(name)))
}

/// Whether a name is one of a file in the folder of a run, and not of its record.
pub(crate) fn is_plain(name: &str) -> bool {
    Path::new(name).file_name().is_some_and(|own| own == name) && !name.starts_with('.') && name != RECORD
}

fn newer(path: &Path, format: u32) -> Error {
    Error::Newer { path: path.to_path_buf(), format, known: FORMAT }
}

/// Whether a text ends with its digest; an error if that is the digest of another text. Format 1 had none.
fn check(text: &str) -> Result<bool, String> {
    let Some((body, digest)) = text.strip_suffix(AFTER).and_then(|rest| {
        let (rest, digest) = rest.split_at_checked(rest.len().checked_sub(DIGEST)?)?;
        Some((rest.strip_suffix(BEFORE)?, digest))
    }) else {
        return Ok(false);
    };
    let found = blake3::hash(body.as_bytes()).to_hex();
    if found.as_str() == digest { Ok(true) } else { Err(format!("its digest is {found} and it says {digest}")) }
}

/// Waits until the disk itself has a file.
pub(crate) fn sync(path: &Path) -> Result<()> {
    fs::File::open(path).and_then(|file| file.sync_all()).map_err(Error::file("write", path))
}

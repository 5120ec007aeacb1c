//! The digest of a model: of its weights and of what is done with them.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::UNIX_EPOCH;
use std::{env, fs};

use arrakis_core::{Error, Model, Result};
use tch::{Device, Kind};

use crate::decoder::Decoder;

/// Files below this are digested each time: that is as quick as looking.
const WORTH_REMEMBERING: u64 = 32 << 20;

/// Blake3 over the architecture and over name, kind, shape and bytes of every weight, hexadecimal.
pub(crate) fn of(decoder: &Decoder) -> Result<String> {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&serde_json::to_vec(&decoder.architecture)?);
    for weight in decoder.weights() {
        let tensor = decoder.weight(weight)?.f_to_device(Device::Cpu)?.f_contiguous()?;
        hasher.update(format!("\n{weight} {:?} {:?}\n", tensor.kind(), tensor.size()).as_bytes());
        let bytes = tensor.f_view([-1])?.f_view_dtype(Kind::Uint8)?;
        let mut buffer = vec![0_u8; bytes.numel()];
        bytes.f_copy_data_u8(&mut buffer, bytes.numel()).map_err(Error::from)?;
        hasher.update_rayon(&buffer);
    }
    Ok(hasher.finalize().to_hex().to_string())
}

/// The digest that was computed before, by this process or for the same files by an earlier one, or is now.
pub(crate) fn remembered(decoder: &Decoder, cell: &OnceLock<String>) -> Result<String> {
    if let Some(digest) = cell.get() {
        return Ok(digest.clone());
    }
    let note = note(decoder);
    let known = note.as_deref().and_then(|note| fs::read_to_string(note).ok()).filter(|digest| is_digest(digest));
    let digest = if let Some(digest) = known {
        digest
    } else {
        let digest = of(decoder)?;
        if let Some(note) = &note {
            write(note, &digest);
        }
        digest
    };
    Ok(cell.get_or_init(|| digest).clone())
}

/// Where the digest of a model is remembered: by the paths, sizes and times of its files and by what is done with them.
///
/// Nowhere for a model that was edited, is small, or has no user's cache (`$ARRAKIS_CACHE`, `$XDG_CACHE_HOME/arrakis`,
/// `~/.cache/arrakis`).
fn note(decoder: &Decoder) -> Option<PathBuf> {
    let mut hasher = blake3::Hasher::new_derive_key("arrakis model digest 1");
    hasher.update(&serde_json::to_vec(&decoder.architecture).ok()?);
    hasher.update(format!("{:?}", decoder.kind()).as_bytes());
    let mut bytes = 0;
    for file in &decoder.files {
        let path = fs::canonicalize(file).ok()?;
        let found = fs::metadata(&path).ok()?;
        let changed = found.modified().ok()?.duration_since(UNIX_EPOCH).ok()?;
        bytes += found.len();
        hasher.update(format!("\n{} {} {}", path.display(), found.len(), changed.as_nanos()).as_bytes());
    }
    let set = |name| env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let cache = set("ARRAKIS_CACHE")
        .or_else(|| Some(set("XDG_CACHE_HOME")?.join("arrakis")))
        .or_else(|| Some(env::home_dir()?.join(".cache/arrakis")))?;
    (bytes >= WORTH_REMEMBERING).then(|| cache.join("digests").join(hasher.finalize().to_hex().as_str()))
}

fn is_digest(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|digit| digit.is_ascii_hexdigit())
}

/// Writes a note whole; one that cannot be written only costs time later.
fn write(note: &Path, digest: &str) {
    let temporary = note.with_extension(std::process::id().to_string());
    let folder = note.parent().unwrap_or(Path::new(""));
    let _ = fs::create_dir_all(folder)
        .and_then(|()| fs::write(&temporary, digest))
        .and_then(|()| fs::rename(&temporary, note));
}

//! The digest of a model: of its weights and of what is done with them.

use std::sync::OnceLock;

use arrakis_core::{Error, Model, Result};
use tch::{Device, Kind};

use crate::decoder::Decoder;

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
///
/// A model that was edited has no files, so that it is digested each time.
pub(crate) fn remembered(decoder: &Decoder, cell: &OnceLock<String>) -> Result<String> {
    if let Some(digest) = cell.get() {
        return Ok(digest.clone());
    }
    let mut done_with_it = serde_json::to_vec(&decoder.architecture)?;
    done_with_it.extend(format!("{:?}", decoder.kind()).into_bytes());
    let digest = arrakis_core::remembered::remembered(&done_with_it, &decoder.files, || of(decoder))?;
    Ok(cell.get_or_init(|| digest).clone())
}

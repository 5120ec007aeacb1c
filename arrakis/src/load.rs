//! Models for the bench, loaded from checkpoints.

use arrakis_bench::Wanted;
use arrakis_core::{Error, Model, Result};
use arrakis_models::{Checkpoint, Decoder, LoadOptions};

/// The model of a checkpoint, as it is wanted: an [`arrakis_bench::Load`].
pub fn checkpoint(wanted: &Wanted) -> Result<Box<dyn Model>> {
    Ok(Box::new(decoder(wanted)?))
}

/// The decoder of a checkpoint, as it is wanted.
pub(crate) fn decoder(wanted: &Wanted) -> Result<Decoder> {
    let checkpoint = Checkpoint::open(&wanted.name)?;
    // The prompt's tokenizer is read meanwhile.
    checkpoint.tensors.read_ahead();
    let decoder = Decoder::from_checkpoint(&checkpoint, &LoadOptions { kind: wanted.kind, device: wanted.device })?;
    match wanted.layout.as_deref() {
        None => Ok(decoder),
        Some("packed") => Ok(decoder.packed()?),
        Some(other) => {
            let why = "is none that this version knows; load the model in the program that made it".to_owned();
            Err(Error::Invalid { what: format!("layout `{other}`"), why })
        }
    }
}

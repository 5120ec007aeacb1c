//! Models for the bench, loaded by name.

use arrakis_bench::Wanted;
use arrakis_core::{Error, Model, Result};

use crate::Loaded;

/// The model of that name, as it is wanted: an [`arrakis_bench::Load`].
pub fn checkpoint(wanted: &Wanted) -> Result<Box<dyn Model>> {
    let loaded = Loaded::wanted(wanted).map_err(|error| match error.downcast::<Error>() {
        Ok(core) => core,
        Err(error) => match error.downcast::<arrakis_models::Error>() {
            Ok(error) => error.into(),
            Err(error) => Error::Other(error.into()),
        },
    })?;
    Ok(loaded.into_model())
}

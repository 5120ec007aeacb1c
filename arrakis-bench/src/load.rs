//! Who loads models: plugged in by whoever knows a crate of models, so that the bench knows none.

use arrakis_core::{Model, Result};
use tch::{Device, Kind};

/// A model by name, and how it is to be loaded.
#[derive(Debug, Clone, PartialEq)]
pub struct Wanted {
    /// Its name: a path, a hub id.
    pub name: String,
    /// Where it is to run.
    pub device: Device,
    /// What is to be computed with.
    pub kind: Kind,
    /// How the weights are to be laid out, if not as they are loaded: `packed`, as
    /// [`Model::layout`](arrakis_core::Model::layout) says.
    pub layout: Option<String>,
}

/// Loads models by name; any function of a [`Wanted`] does.
pub trait Load: Sync {
    /// The model.
    fn load(&self, wanted: &Wanted) -> Result<Box<dyn Model>>;
}

impl<F: Fn(&Wanted) -> Result<Box<dyn Model>> + Sync> Load for F {
    fn load(&self, wanted: &Wanted) -> Result<Box<dyn Model>> {
        self(wanted)
    }
}

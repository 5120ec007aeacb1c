//! The options that every verb understands, and what they mean for models.

use anyhow::Result;
use arrakis_bench::{Bench, command};
use arrakis_models::Decoder;
use clap::Args;

use super::console::Console;
use crate::{Pictures, load};

/// Those of the bench, for models that are decoders.
#[derive(Debug, Args)]
#[group(skip)]
pub(crate) struct Options {
    #[command(flatten)]
    pub(crate) bench: command::Options,
}

impl Options {
    /// Sets what holds for the whole process.
    pub(crate) fn apply(&self) {
        self.bench.apply();
    }

    /// The root of all random streams.
    pub(crate) const fn seed(&self) -> u64 {
        self.bench.seed
    }

    /// Loads a model as these options have it.
    pub(crate) fn load(&self, model: &str) -> Result<Decoder> {
        Ok(load::decoder(&self.bench.wanted(model)?)?)
    }

    /// These options as they would be typed, those left out that are as they are by default.
    pub(crate) fn given(&self) -> String {
        self.bench.given()
    }

    /// A bench for a model of that name.
    pub(crate) fn bench<'a>(&self, model: &'a Decoder, name: &str, console: &'a Console<'_>) -> Bench<'a> {
        self.bench.bench(model, name, console).draw(&Pictures::DEFAULT)
    }
}

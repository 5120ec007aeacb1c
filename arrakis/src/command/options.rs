//! The options that every verb understands, and what they mean for models.

use anyhow::Result;
use arrakis_bench::{Bench, command};
use arrakis_core::{Host, Model, device};
use arrakis_models::LoadOptions;
use clap::Args;

use super::console::Console;
use crate::{Loaded, Pictures};

/// Those of the bench, for models of whatever crate.
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

    /// The kind and device of models.
    pub(crate) fn load_options(&self) -> Result<LoadOptions> {
        Ok(LoadOptions { kind: self.bench.dtype.kind(), device: device::device(&self.bench.device)? })
    }

    /// Loads a model as these options have it.
    pub(crate) fn load(&self, model: &str) -> Result<Loaded> {
        Loaded::wanted(&self.bench.wanted(model)?)
    }

    /// These options as they would be typed, those left out that are as they are by default.
    pub(crate) fn given(&self) -> String {
        self.bench.given()
    }

    /// A bench for a loaded model of that name.
    pub(crate) fn bench<'a>(&self, model: &'a Loaded, name: &str, console: &'a Console<'_>) -> Bench<'a> {
        self.bench_of(&**model, name, console)
    }

    /// A bench for any model, with whoever listens.
    pub(crate) fn bench_of<'a>(&self, model: &'a dyn Model, name: &str, host: &'a dyn Host) -> Bench<'a> {
        self.bench.bench(model, name, host).draw(&Pictures::DEFAULT)
    }
}

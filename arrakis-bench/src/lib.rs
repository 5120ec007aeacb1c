//! Experiments: tools asked of a model, each run logged as plain files and found again.

// So that `#[experiment]` works within this crate, too: what it makes names this crate.
extern crate self as arrakis_bench;

mod activations;
mod bench;
pub mod command;
mod error;
mod experiment;
pub mod fields;
mod git;
mod load;
mod log;
mod parameters;
mod record;
mod replace;
mod rerun;
mod study;
mod tensors;
mod tools;
mod verdict;
mod writing;

pub use activations::{ActivationStream, Activations, Streamed};
pub use bench::{Asked, Bench, FOLDER};
pub use arrakis_macros::experiment;
pub use command::main;
pub use error::{Error, Result};
pub use experiment::{Experiment, Kept, experiment, experiments};
pub use load::{Load, Wanted};
pub use log::Log;
pub use record::{Environment, FORMAT, Git, ModelRecord, Record, Status, device_name, dtype_name};
pub use replace::replace;
pub use study::{Cell, Studied, Study, Workers};
pub use tensors::{read_tensors, write_tensors};
pub use tools::Tools;
pub use verdict::Verdict;

/// What the expansion of `#[experiment]` names.
#[doc(hidden)]
pub mod __private {
    pub use arrakis_core::inventory;
    pub use arrakis_macros::experiment_of_facade;
    pub use schemars;
    pub use serde_json::Value;

    pub use crate::experiment::{
        Given, Keep, KeepAnswer, KeepJson, KeepPart, Recorded, Returned, conduct, perform, schema,
    };
}

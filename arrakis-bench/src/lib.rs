//! Experiments: tools asked of a model, each run logged as plain files and found again.

mod activations;
mod ask;
mod bench;
pub mod command;
mod compare;
mod conduct;
mod damage;
mod diff;
mod edit;
mod environment;
mod error;
mod experiment;
mod export;
pub mod fields;
mod fsck;
mod git;
pub mod hypothesis;
mod index;
mod journal;
pub mod json;
mod load;
mod log;
mod outside;
mod page;
mod parameters;
mod plot;
mod plugin;
pub mod profile;
mod query;
mod record;
mod remove;
mod replace;
mod rerun;
mod running;
mod seal;
mod store;
mod study;
mod subject;
mod tensors;
mod tools;
mod verbs;
mod verdict;
mod versions;
mod writing;

pub use activations::{ActivationStream, Activations, Streamed};
pub use arrakis_macros::experiment;
pub use bench::{Asked, Bench, FOLDER};
pub use command::main;
pub use compare::{Apart, Difference, compare_answers, compare_json, compare_tensors};
pub use damage::{Damage, DamageKind, Fsck};
pub use diff::{Change, Diff};
pub use environment::{Environment, Git, PluginRecord, device_name, dtype_name};
pub use error::{Error, Result};
pub use experiment::{Experiment, Kept, experiment, experiments};
pub use index::Listing;
pub use load::{Load, Wanted};
pub use log::Log;
pub use plugin::{Found, Inspection, Plugin, load_plugin, plugin_files, plugins};
pub use profile::Profile;
pub use query::Query;
pub use record::{Call, FORMAT, FileRecord, Metric, ModelRecord, Note, Outcome, Record, Status, TensorRecord, Work};
pub use replace::replace;
pub use study::{Cell, Studied, Study, Workers};
pub use subject::Subject;
pub use tensors::{read_tensors, tensors_in, write_tensors};
pub use tools::Tools;
pub use verbs::{Choice, LogVerb, Said};
pub use verdict::Verdict;
pub use versions::Version;

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

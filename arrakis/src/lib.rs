//! Arrakis: conduct, track and visualise mechanistic-interpretability experiments on transformer language models.
//!
//! This crate knows all others and adds no mathematics of its own: it names them in one place, keeps the built-in tools
//! linked, and holds the `arrakis` command.

pub mod command;
pub mod examples;
pub mod load;
mod loaded;
pub mod log_pages;
mod pictures;
pub mod process;
mod run_page;

pub use arrakis_bench as bench;
pub use arrakis_bench::__private::experiment_of_facade as experiment;
pub use arrakis_core as core;
pub use arrakis_graph as graph;
pub use arrakis_leviathan as leviathan;
pub use arrakis_models as models;
pub use arrakis_tools as tools;
pub use command::main;
pub use loaded::{BUILTIN, Loaded};
pub use pictures::Pictures;

/// What most programs need: `use arrakis::prelude::*;`.
pub mod prelude {
    pub use arrakis_bench::{Asked, Bench, Log, Study};
    pub use arrakis_core::{
        Answer, Axis, Cache, Context, Error, Grid, HookPoint, Metric, Model, ModelExt, Part, PosSlice, Prompt, Ranking,
        Result, Run, Series, Site, Tokens, Tool, Weight, edit,
    };
    pub use arrakis_models::{Decoder, LoadOptions, load};
    pub use arrakis_tools::*;
    pub use tch::{Device, Kind, Tensor};

    pub use crate::{Loaded, Pictures, experiment};
}

// The tools register themselves; the linker drops a crate that nobody names.
use arrakis_tools as _;

#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;

//! The options that every verb understands.

use std::path::PathBuf;

use anyhow::Result;
use arrakis_bench::{Bench, Log};
use arrakis_core::device;
use arrakis_models::{Checkpoint, Decoder, LoadOptions};
use clap::{Args, ValueEnum};
use tch::Kind;

use super::console::Console;
use crate::Pictures;

/// The pictures of logged runs.
static PICTURES: Pictures = Pictures { style: arrakis_graph::Style::DEFAULT };

#[derive(Debug, Args)]
#[command(next_help_heading = "Options of every verb")]
pub(crate) struct Options {
    /// Where the model runs: `cpu`, `cuda`, `cuda:N`, or `auto` (CUDA where there is one)
    #[arg(long, global = true, default_value = "cpu", value_name = "DEVICE")]
    device: String,
    /// What is computed with
    #[arg(long, global = true, default_value = "float32", value_enum, value_name = "DTYPE")]
    dtype: Dtype,
    /// LibTorch's threads; as many as there are cores if absent
    #[arg(long, global = true, value_name = "N", value_parser = clap::value_parser!(i32).range(1..))]
    threads: Option<i32>,
    /// The root of all random streams
    #[arg(long, global = true, default_value_t = 0, value_name = "N")]
    pub(crate) seed: u64,
    /// The folder that runs are logged in
    #[arg(long, global = true, default_value = arrakis_bench::FOLDER, value_name = "DIR")]
    log: PathBuf,
    /// Log nothing
    #[arg(long, global = true)]
    no_log: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Dtype {
    Float32,
    Float64,
    Bfloat16,
    Float16,
}

impl Options {
    /// Sets what holds for the whole process.
    pub(crate) fn apply(&self) {
        if let Some(threads) = self.threads {
            tch::set_num_threads(threads);
        }
    }

    /// Loads a model as these options have it.
    pub(crate) fn load(&self, model: &str) -> Result<Decoder> {
        let kind = match self.dtype {
            Dtype::Float32 => Kind::Float,
            Dtype::Float64 => Kind::Double,
            Dtype::Bfloat16 => Kind::BFloat16,
            Dtype::Float16 => Kind::Half,
        };
        let checkpoint = Checkpoint::open(model)?;
        // The prompt's tokenizer is read meanwhile.
        checkpoint.tensors.read_ahead();
        Ok(Decoder::from_checkpoint(&checkpoint, &LoadOptions { kind, device: device::device(&self.device)? })?)
    }

    /// These options as they would be typed, those left out that are as they are by default.
    pub(crate) fn given(&self) -> String {
        let dtype = self.dtype.to_possible_value().filter(|dtype| dtype.get_name() != "float32");
        let given = [
            (self.device != "cpu").then(|| format!(" --device {}", self.device)),
            dtype.map(|dtype| format!(" --dtype {}", dtype.get_name())),
            (self.seed != 0).then(|| format!(" --seed {}", self.seed)),
        ];
        given.into_iter().flatten().collect()
    }

    /// The log that these options name.
    pub(crate) fn log(&self) -> Log {
        Log::open(&self.log)
    }

    /// A bench for a model of that name.
    pub(crate) fn bench<'a>(&self, model: &'a Decoder, name: &str, console: &'a Console<'_>) -> Bench<'a> {
        let bench = Bench::new(model).named(name).seed(self.seed).host(console).draw(&PICTURES);
        if self.no_log { bench.unlogged() } else { bench.logged(self.log()) }
    }
}

//! The options that every verb understands.

use std::path::PathBuf;

use anyhow::{Result, bail};
use arrakis_bench::{Bench, Log, load_plugin};
use arrakis_core::device;
use arrakis_models::LoadOptions;
use clap::{Args, ValueEnum};
use tch::{Device, Kind};

use super::Usage;
use super::console::Console;
use crate::{Loaded, Pictures};

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
    /// A plugin whose tools are to be there, beside those that are found; may be given several times
    #[arg(long, global = true, value_name = "FILE.so")]
    plugin: Vec<PathBuf>,
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

    /// Loads the plugins that are named.
    pub(crate) fn load_named_plugins(&self) -> Result<()> {
        for path in &self.plugin {
            load_plugin(path)?;
        }
        Ok(())
    }

    /// The kind and device of models.
    pub(crate) fn load_options(&self) -> Result<LoadOptions> {
        let kind = match self.dtype {
            Dtype::Float32 => Kind::Float,
            Dtype::Float64 => Kind::Double,
            Dtype::Bfloat16 => Kind::BFloat16,
            Dtype::Float16 => Kind::Half,
        };
        Ok(LoadOptions { kind, device: device::device(&self.device)? })
    }

    /// An error where models cannot be trained as these options have it.
    pub(crate) fn check_trains(&self) -> Result<()> {
        let LoadOptions { kind, device } = self.load_options()?;
        if kind != Kind::Float || device != Device::Cpu {
            bail!(Usage("models are trained in float32 on the CPU; leave `--dtype` and `--device` out".into()));
        }
        Ok(())
    }

    /// Loads a model as these options have it.
    pub(crate) fn load(&self, model: &str) -> Result<Loaded> {
        Loaded::open(model, &self.load_options()?)
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
    pub(crate) fn bench<'a>(&self, model: &'a Loaded, name: &str, console: &'a Console<'_>) -> Bench<'a> {
        let bench = Bench::new(&**model).named(name).seed(self.seed).host(console).draw(&Pictures);
        if self.no_log { bench.unlogged() } else { bench.logged(self.log()) }
    }
}

//! The options that every verb understands.

use std::path::PathBuf;

use arrakis_core::{Host, Model, device};
use clap::{Args, ValueEnum};
use tch::Kind;

use crate::{Bench, FOLDER, Log, Result, Wanted, load_plugin};

/// Where and how models run, and where runs are logged.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Options of every verb")]
pub struct Options {
    /// Where the model runs: `cpu`, `cuda`, `cuda:N`, or `auto` (CUDA where there is one)
    #[arg(long, global = true, default_value = "cpu", value_name = "DEVICE")]
    pub device: String,
    /// What is computed with
    #[arg(long, global = true, default_value = "float32", value_enum, value_name = "DTYPE")]
    pub dtype: Dtype,
    /// LibTorch's threads; as many as there are cores if absent
    #[arg(long, global = true, value_name = "N", value_parser = clap::value_parser!(i32).range(1..))]
    pub threads: Option<i32>,
    /// The root of all random streams
    #[arg(long, global = true, default_value_t = 0, value_name = "N")]
    pub seed: u64,
    /// The folder that runs are logged in
    #[arg(long, global = true, default_value = FOLDER, value_name = "DIR")]
    pub log: PathBuf,
    /// Log nothing
    #[arg(long, global = true)]
    pub no_log: bool,
    /// A plugin whose tools are to be there, beside those that are found; may be given several times
    #[arg(long, global = true, value_name = "FILE.so")]
    pub plugin: Vec<PathBuf>,
}

/// What is computed with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[allow(missing_docs)]
pub enum Dtype {
    Float32,
    Float64,
    Bfloat16,
    Float16,
}

impl Dtype {
    /// LibTorch's name for it.
    #[must_use]
    pub const fn kind(self) -> Kind {
        match self {
            Self::Float32 => Kind::Float,
            Self::Float64 => Kind::Double,
            Self::Bfloat16 => Kind::BFloat16,
            Self::Float16 => Kind::Half,
        }
    }
}

impl Options {
    /// Sets what holds for the whole process.
    pub fn apply(&self) {
        if let Some(threads) = self.threads {
            tch::set_num_threads(threads);
        }
    }

    /// Loads the plugins that are named.
    pub fn load_named_plugins(&self) -> Result<()> {
        self.plugin.iter().try_for_each(|path| load_plugin(path).map(drop))
    }

    /// A model as these options have it.
    pub fn wanted(&self, model: &str) -> Result<Wanted> {
        let device = device::device(&self.device)?;
        Ok(Wanted { name: model.to_owned(), device, kind: self.dtype.kind(), layout: None })
    }

    /// A bench for a model of that name.
    #[must_use]
    pub fn bench<'a>(&self, model: &'a dyn Model, name: &str, host: &'a dyn Host) -> Bench<'a> {
        let bench = Bench::new(model).named(name).seed(self.seed).host(host);
        if self.no_log { bench.unlogged() } else { bench.logged(self.log()) }
    }

    /// The log.
    #[must_use]
    pub fn log(&self) -> Log {
        Log::open(&self.log)
    }

    /// These options as they would be typed, those left out that are as they are by default.
    #[must_use]
    pub fn given(&self) -> String {
        let dtype = self.dtype.to_possible_value().filter(|dtype| dtype.get_name() != "float32");
        let given = [
            (self.device != "cpu").then(|| format!(" --device {}", self.device)),
            dtype.map(|dtype| format!(" --dtype {}", dtype.get_name())),
            (self.seed != 0).then(|| format!(" --seed {}", self.seed)),
        ];
        given.into_iter().flatten().collect()
    }
}

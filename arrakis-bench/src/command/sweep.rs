//! `sweep FILE`: a tool or experiment under many parameters.

use std::num::NonZero;
use std::path::PathBuf;

use clap::Args;

use super::console::Console;
use super::shown::show;
use super::{FAILURE, Options, Plugged};
use crate::{Error, Kept, Result, Study, Workers};

/// What `sweep` is given.
#[derive(Debug, Args)]
pub struct Sweep {
    /// A JSON file: the `name` of the tool or experiment, its `fixed` parameters, the `grid` or `list` of the varied
    /// ones, `seeds`, `measures`; `docs/log.md` has an example
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// A folder, a `.gguf` file, or a hub id; the file's own `model` if absent
    #[arg(long)]
    model: Option<String>,
    /// How many cells run at once; each loads the model for itself
    #[arg(long, value_name = "N", default_value = "1")]
    workers: NonZero<usize>,
    /// Compute also the cells that are in the log
    #[arg(long)]
    again: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

impl Sweep {
    /// Sweeps, and gives the exit status; what can be wrong is found before the model is loaded.
    pub fn run(self, plugged: &Plugged<'_>, options: &Options, console: &Console<'_>) -> Result<u8> {
        let study = Study::read(&self.file)?;
        study.check()?;
        let Some(name) = self.model.or_else(|| study.model.clone()) else {
            return Err(Error::Usage("`sweep` wants `--model MODEL`, for the file names none".into()));
        };
        let wanted = options.wanted(&name)?;
        let model = plugged.load.load(&wanted)?;
        let bench = plugged.bench(&*model, &name, options, console).reuse(!self.again);
        let load = || plugged.load.load(&wanted);
        let studied = study.run_with(&bench, &Workers { count: self.workers, load: &load, draw: plugged.draw })?;
        show(&studied.asked.map(Kept::Answer), self.json, console)?;
        if studied.recalled > 0 {
            console.tell(format_args!("{} cells were in the log\n", studied.recalled)).map_err(Error::Console)?;
        }
        for (cell, why) in &studied.failed {
            console.tell(format_args!("the cell `{cell}` failed: {why}\n")).map_err(Error::Console)?;
        }
        Ok(if studied.failed.is_empty() { 0 } else { FAILURE })
    }
}

//! `rerun ID`: a run of the log, done again and compared.

use clap::Args;

use super::console::Console;
use super::shown::show;
use super::{FAILURE, Options, Plugged};
use crate::{Error, Result};

/// What `rerun` is given.
#[derive(Debug, Args)]
pub struct Rerun {
    /// The run, or the beginning of its id
    id: String,
    /// Compare with what the run gave, bit for bit; a failure if anything differs
    #[arg(long)]
    verify: bool,
    /// Compare, and let numbers differ by so much
    #[arg(long, value_name = "T")]
    tolerance: Option<f64>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

impl Rerun {
    /// Runs again, and gives the exit status.
    pub fn run(self, plugged: &Plugged<'_>, options: &Options, console: &Console<'_>) -> Result<u8> {
        let verify = self.verify || self.tolerance.is_some();
        if verify && options.no_log {
            return Err(Error::Usage("`--verify` compares two logged runs, so that `--no-log` makes no sense".into()));
        }
        let log = options.log();
        let before = log.get(&self.id)?;
        before.experiment()?;
        let wanted = before.wanted()?;
        let model = plugged.model(&wanted)?;
        let bench = plugged.bench(&*model, &wanted.name, options, console);
        let again = bench.rerun(&before)?;
        show(&again, self.json, console)?;
        if !verify {
            return Ok(0);
        }
        let verdict = log.verify(&before.id, &again.record.id, self.tolerance.unwrap_or(0.0))?;
        console.tell(format_args!("{verdict}\n")).map_err(Error::Console)?;
        Ok(if verdict.agrees() { 0 } else { FAILURE })
    }
}

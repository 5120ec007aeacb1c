//! `rerun ID`: a run of the log, done again and compared.

use clap::Args;
use serde_json::json;

use super::console::Console;
use super::shown::{json_of, show, tell};
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
        let tolerance = self.tolerance.or(self.verify.then_some(0.0));
        if tolerance.is_some_and(|tolerance| !(0.0..f64::INFINITY).contains(&tolerance)) {
            return Err(Error::Usage("`--tolerance` is a distance: a number of 0 or more".into()));
        }
        if tolerance.is_some() && options.no_log {
            return Err(Error::Usage("`--verify` compares two logged runs, so that `--no-log` makes no sense".into()));
        }
        let log = options.log();
        let before = log.get(&self.id)?;
        before.check_rerun()?;
        let wanted = before.wanted()?;
        let model = plugged.load.load(&wanted)?;
        let bench = plugged.bench(&*model, &wanted.name, options, console);
        let again = bench.rerun(&before)?;
        let Some(tolerance) = tolerance else {
            show(&again, self.json, console)?;
            return Ok(0);
        };
        let verdict = log.verify(&before.id, &again.record.id, tolerance)?;
        if self.json {
            let mut object = json_of(&again)?;
            object["agrees"] = json!(verdict.agrees());
            object["verdict"] = json!(verdict);
            console.json(&object).and_then(|()| tell(&again, console)).map_err(Error::Console)?;
        } else {
            show(&again, false, console)?;
        }
        console.tell(format_args!("{verdict}\n")).map_err(Error::Console)?;
        Ok(if verdict.agrees() { 0 } else { FAILURE })
    }
}

//! `log`: the verbs of the log, on the folder that `--log` names.

use clap::Args;

use super::Options;
use super::console::Console;
use crate::{Error, LogVerb, Result};

/// What `log` is given.
#[derive(Debug, Args)]
pub struct Logged {
    #[command(subcommand)]
    verb: LogVerb,
}

impl Logged {
    /// Does what the verb says, and gives the exit status.
    pub fn run(self, options: &Options, console: &Console<'_>) -> Result<u8> {
        let said = self.verb.run(&options.log(), console.room())?;
        console.print(said.results).and_then(|()| console.tell(said.words)).map_err(Error::Console)?;
        Ok(said.status)
    }
}

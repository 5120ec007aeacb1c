//! `arrakis log`: the verbs of the log, on the folder that `--log` names.

use anyhow::Result;
use arrakis_bench::LogVerb;
use clap::Args;

use super::console::Console;
use super::options::Options;

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    verb: LogVerb,
}

impl Arguments {
    pub(crate) fn run(self, options: &Options, console: &Console<'_>) -> Result<u8> {
        let said = self.verb.run(&options.log(), console.room())?;
        console.print(said.results)?;
        console.tell(said.words)?;
        Ok(said.status)
    }
}

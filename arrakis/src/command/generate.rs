//! `arrakis generate`
use super::console::Console;
use super::options::Options;
use anyhow::Result;
use clap::Args;
#[derive(Debug, Args)]
pub(crate) struct Arguments {}
impl Arguments {
    pub(crate) fn run(self, options: &Options, console: &Console<'_>) -> Result<()> {
        let _ = (options, console);
        Ok(())
    }
}

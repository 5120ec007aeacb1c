//! `arrakis generate`
use anyhow::Result;
use clap::Args;
use super::console::Console;
use super::options::Options;
#[derive(Debug, Args)]
pub(crate) struct Arguments {}
impl Arguments {
    pub(crate) fn run(self, options: &Options, console: &Console<'_>) -> Result<()> { let _ = (options, console); Ok(()) }
}

//! `arrakis serve`: the log in a browser, on this machine only.

use anyhow::{Result, anyhow};
use clap::Args;

use super::console::Console;
use super::options::Options;
use crate::log_pages::LogPages;

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// The port of 127.0.0.1; 0 takes any that is free
    #[arg(long, default_value_t = 7447, value_name = "PORT")]
    port: u16,
}

impl Arguments {
    pub(crate) fn run(self, options: &Options, console: &Console<'_>) -> Result<()> {
        let address = format!("127.0.0.1:{}", self.port);
        let server = tiny_http::Server::http(&address)
            .map_err(|error| anyhow!("cannot serve on `{address}`: {error}; give another `--port`"))?;
        let port = server.server_addr().to_ip().map_or(self.port, |address| address.port());
        let log = options.bench.log();
        console.tell(format_args!("{} at http://127.0.0.1:{port}/ until Ctrl-C\n", log.folder().display()))?;
        LogPages::new(log, port).serve(&server);
        Ok(())
    }
}

//! `arrakis plugin`: looks at a plugin without running it, and begins a new one.

mod template;

use std::path::PathBuf;

use anyhow::Result;
use arrakis_bench::{Inspection, load_plugin, plugin_files};
use clap::{Args, Subcommand};
use serde_json::json;

use super::FAILURE;
use super::console::Console;

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// What a file says of itself, and what would stop it from loading here; none of its code runs
    Check {
        /// The shared library
        file: PathBuf,
        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
    /// Writes a crate with one tool, which builds, tests and loads as it stands
    New {
        /// The name of the crate: small letters, digits and dashes
        name: String,
        /// The folder that the crate's own is made in
        #[arg(long, value_name = "DIR", default_value = ".")]
        r#in: PathBuf,
        /// The folder of `arrakis-core` to build on; the one that this program was built from if absent
        #[arg(long, value_name = "DIR")]
        core: Option<PathBuf>,
    },
}

/// Loads the plugins that are found; what cannot be read or loaded is told of, and the work goes on.
pub(super) fn load_found(console: &Console<'_>) -> Result<()> {
    for found in plugin_files() {
        let warning = match found {
            Ok(found) => load_plugin(&found.path).err().map(|error| format!("{error} (found by {})", found.by)),
            Err(error) => Some(error.to_string()),
        };
        if let Some(warning) = warning {
            console.tell(format_args!("warning: {warning}\n"))?;
        }
    }
    Ok(())
}

impl Arguments {
    pub(crate) fn run(self, console: &Console<'_>) -> Result<u8> {
        match self.verb {
            Verb::Check { file, json } => check(&Inspection::of(&file)?, json, console),
            Verb::New { name, r#in, core } => {
                let folder = template::write(&name, &r#in, core)?;
                console.line(folder.display())?;
                console.tell(format_args!(
                    "in that folder `cargo test` tests it, and `cargo build --release` makes\n\
                     `target/release/lib{}.so`; `arrakis plugin check` and `arrakis ask --plugin` take that file\n",
                    name.replace('-', "_")
                ))?;
                Ok(0)
            }
        }
    }
}

fn check(found: &Inspection, as_json: bool, console: &Console<'_>) -> Result<u8> {
    let obstacles: Vec<String> = found.obstacles.iter().cloned().chain(found.missing()?).chain(found.taken()).collect();
    let status = if obstacles.is_empty() { 0 } else { FAILURE };
    if as_json {
        let Inspection { path, digest, stamp, tools, .. } = found;
        let json = json!({
            "path": path, "digest": digest, "stamp": stamp, "tools": tools, "loads": obstacles.is_empty(),
            "obstacles": obstacles,
        });
        console.json(&json)?;
        return Ok(status);
    }
    if let Some(stamp) = &found.stamp {
        console.line(format_args!(
            "{}: plugin ABI {}, LibTorch {}, arrakis-core {}",
            stamp.plugin, stamp.abi, stamp.libtorch, stamp.core
        ))?;
    }
    for tool in &found.tools {
        console.line(format_args!("tool    {} ({})", tool.tool, tool.owner))?;
    }
    console.line(format_args!("digest  {}", found.digest))?;
    for obstacle in &obstacles {
        console.line(format_args!("does not load: {obstacle}"))?;
    }
    if obstacles.is_empty() {
        console.line("loads")?;
    }
    Ok(status)
}

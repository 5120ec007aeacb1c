//! Runs cargo on the workspace.

use std::path::Path;
use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result};

use crate::say;

/// Runs `cargo ARGS` in the checkout and returns its exit code.
///
/// LibTorch gets one thread: OpenMP's barriers collapse when several tests share the cores.
pub(crate) fn run(root: &Path, args: &[&str]) -> Result<ExitCode> {
    say(format_args!("cargo {}", args.join(" ")));
    let program = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(program);
    command.args(args).current_dir(root);
    if args.first() == Some(&"test") {
        command.env("OMP_NUM_THREADS", "1");
    }
    let status = command.status().context("cannot start cargo")?;
    if status.success() {
        return Ok(ExitCode::SUCCESS);
    }
    say(format_args!("cargo {} failed ({status})", args.join(" ")));
    Ok(ExitCode::from(status.code().and_then(|code| u8::try_from(code).ok()).filter(|&code| code != 0).unwrap_or(1)))
}

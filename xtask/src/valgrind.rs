//! The tests of plugins under valgrind: no error, and no tensor or byte that crossed the boundary is lost.

use std::path::Path;
use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result};

use crate::cargo;

/// What valgrind says of others is listed there, and why.
const SUPPRESSIONS: &str = "tests/plugins/valgrind.supp";

/// The tests that load libraries: all of those of plugins but the ones that only start other processes.
const TESTS: [&str; 5] = ["plugins::equal", "plugins::missing", "plugins::refused", "plugins::versions", "contrib::"];

/// Runs the tests whose names begin so under valgrind, those of plugins if none is named.
pub(crate) fn run(root: &Path, tests: &[&str]) -> Result<ExitCode> {
    let version = Command::new("valgrind").arg("--version").output();
    version.context("valgrind cannot be started: install it with the packages of your system")?;
    let suppressions = format!("--suppressions={}", root.join(SUPPRESSIONS).display());
    let runner = [
        "valgrind",
        &suppressions,
        "--leak-check=full",
        "--show-leak-kinds=definite",
        "--errors-for-leak-kinds=definite",
        "--error-exitcode=1",
    ];
    // A list of texts is written alike in TOML.
    let runner = format!("target.'cfg(all())'.runner={runner:?}");
    let tests = if tests.is_empty() { &TESTS[..] } else { tests };
    // Backtraces of panics that are wanted would keep tens of megabytes of debug information.
    let quiet = ["--config", "env.RUST_BACKTRACE.value='0'", "--config", "env.RUST_BACKTRACE.force=true"];
    // One test at a time: valgrind has one core, and lets threads wait for each other.
    let which = ["--package", "arrakis-tests", "--test", "it", "--", "--test-threads=1"];
    cargo::run(root, &[&["test", "--config", &runner], &quiet[..], &which, tests].concat())
}

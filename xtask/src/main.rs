//! `cargo xtask`: sets up LibTorch and the demo model, and runs the two commands of the README.
//!
//! What is fetched lies in a cache outside the checkout ([`cache`]); the checkout only has links to it, which
//! `.cargo/config.toml` and the build scripts know. Nothing here depends on `tch`, so nothing here needs LibTorch.

mod cache;
mod cargo;
mod link;
mod model;
mod pip;
mod torch;
mod valgrind;
mod wheel;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::{env, io};

use anyhow::{Context as _, Result};

const HELP: &str = "\
Sets up Arrakis and runs its two main commands.

Usage: cargo xtask VERB

  demo [ARG ..]  set up what is missing, then run `arrakis demo ARG ..`
  test           set up what is missing, then check format and lints and run every test
  valgrind [TEST ..]  run the tests of plugins, or those named, under valgrind (minutes)
  gallery        draw every kind of picture anew from the demo model: docs/gallery.md
  setup          find or fetch LibTorch 2.11.0 and link it as `libtorch`
  model          fetch the demo model SmolLM2-135M-Instruct and link it under `models`
  help           this text

LibTorch is looked for in this order: $LIBTORCH, `libtorch` in the checkout, an installed Python package `torch`
2.11.0; otherwise it is fetched with `python3 -m pip`, whose settings (index, proxy, certificates) hold.
What is fetched is kept in $ARRAKIS_CACHE, or else in $XDG_CACHE_HOME/arrakis, or else in ~/.cache/arrakis.";

fn main() -> ExitCode {
    let args: Vec<String> = env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let done = match args.as_slice() {
        ["demo", rest @ ..] => demo(rest),
        ["test"] => test(),
        ["valgrind", rest @ ..] => checkout().and_then(|root| valgrind::run(&root, rest)),
        ["gallery"] => gallery(),
        ["setup"] => checkout().and_then(|root| torch::set_up(&root)).map(|()| ExitCode::SUCCESS),
        ["model"] => checkout().and_then(|root| model::set_up(&root)).map(|()| ExitCode::SUCCESS),
        ["help" | "--help" | "-h"] => {
            println!("{HELP}");
            return ExitCode::SUCCESS;
        }
        _ => {
            eprintln!("{HELP}");
            return ExitCode::from(2);
        }
    };
    done.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}

fn demo(args: &[&str]) -> Result<ExitCode> {
    let root = checkout()?;
    torch::set_up(&root)?;
    model::set_up(&root)?;
    let run = ["run", "--package", "arrakis", "--", "demo"];
    cargo::run(&root, &[&run, args].concat())
}

fn gallery() -> Result<ExitCode> {
    let root = checkout()?;
    torch::set_up(&root)?;
    model::set_up(&root)?;
    cargo::run(&root, &["run", "--package", "arrakis", "--example", "gallery"])
}

fn test() -> Result<ExitCode> {
    let root = checkout()?;
    torch::set_up(&root)?;
    model::set_up(&root)?;
    let steps: [&[&str]; 3] = [
        &["fmt", "--all", "--check"],
        &["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"],
        &["test", "--workspace"],
    ];
    for step in steps {
        let code = cargo::run(&root, step)?;
        if code != ExitCode::SUCCESS {
            return Ok(code);
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The root of the checkout that this `xtask` belongs to.
fn checkout() -> Result<PathBuf> {
    let xtask = env::var_os("CARGO_MANIFEST_DIR").map_or_else(|| env!("CARGO_MANIFEST_DIR").into(), PathBuf::from);
    xtask.parent().map(Path::to_path_buf).context("run this as `cargo xtask` inside the checkout")
}

/// Tells the user, on stderr, what is being done.
fn say(words: impl std::fmt::Display) {
    eprintln!("xtask: {words}");
}

/// Words for a failed write: what to do about a full or read-only disk.
fn write_failed(error: io::Error, what: &Path) -> anyhow::Error {
    let cure = match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            ": free some space (LibTorch needs 2 GB while it is set up), or set ARRAKIS_CACHE to a folder on another disk"
        }
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            ": set ARRAKIS_CACHE to a folder that you may write to"
        }
        _ => "",
    };
    anyhow::Error::new(error).context(format!("cannot write `{}`{cure}", what.display()))
}

//! A new plugin: a crate written from the template beside this file.

use std::path::{Path, PathBuf};
use std::{fs, io};

use anyhow::{Context, Result, anyhow, bail};
use arrakis_core::device;
use arrakis_core::plugin::stamp;

use crate::command::Usage;

/// The files of the template, and where they go.
const FILES: [(&str, &str); 6] = [
    ("Cargo.toml", include_str!("template/Cargo.toml.in")),
    ("src/lib.rs", include_str!("template/lib.rs.in")),
    ("README.md", include_str!("template/README.md.in")),
    (".cargo/config.toml", include_str!("template/config.toml.in")),
    (".cargo/no-libtorch/torch/torch.h", include_str!("template/torch.h.in")),
    (".gitignore", "/target\n/experiments\n"),
];

/// Writes the crate into a new folder of its name, and gives the folder.
pub(super) fn write(name: &str, within: &Path, core: Option<PathBuf>) -> Result<PathBuf> {
    check_name(name)?;
    let core = core_folder(core)?;
    let libtorch = device::libtorch_folder().context("the folder of LibTorch is not known")?;
    let libtorch = libtorch.parent().context("LibTorch lies in no folder")?;
    let folder = within.join(name);
    // A folder that is there is somebody's.
    if folder.exists() {
        bail!("`{}` is there already; give another name, or another folder by `--in`", folder.display());
    }
    done(fs::create_dir(&folder), "make", &folder)?;
    let written = fill(&folder, name, &core, libtorch);
    if written.is_err() {
        // Half a crate is none; why there is none is said.
        let _ = fs::remove_dir_all(&folder);
    }
    written.map(|()| folder)
}

/// Writes the files of the crate into its folder.
fn fill(folder: &Path, name: &str, core: &Path, libtorch: &Path) -> Result<()> {
    let words = [
        ("@NAME@", name.to_owned()),
        ("@IDENT@", name.replace('-', "_")),
        ("@CORE@", toml_text(core)?),
        ("@LIBTORCH@", toml_text(libtorch)?),
        ("@VERSION@", stamp::LIBTORCH.to_owned()),
    ];
    for (file, text) in FILES {
        let path = folder.join(file);
        let parent = path.parent().unwrap_or(folder);
        let filled = words.iter().fold(text.to_owned(), |text, (mark, word)| text.replace(mark, word));
        done(fs::create_dir_all(parent), "make", parent)?;
        done(fs::write(&path, filled), "write", &path)?;
    }
    // The versions that this program was built with, so that nothing newer has to be fetched.
    let lock = core.parent().map(|parent| parent.join("Cargo.lock")).filter(|lock| lock.is_file());
    if let Some(lock) = lock {
        done(fs::copy(&lock, folder.join("Cargo.lock")), "copy", &lock)?;
    }
    Ok(())
}

/// Names that a crate in Rust cannot have: words of the language, crates of its own, and those that the new one uses.
const TAKEN: &str = "\
    abstract alloc arrakis-core as async await become box break build const continue core crate deps do dyn else \
    enum examples extern false final fn for gen if impl in incremental let loop macro match mod move mut \
    override priv proc-macro pub ref return schemars self serde static std struct super tch test trait true try \
    type typeof union unsafe unsized use virtual where while yield";

fn check_name(name: &str) -> Result<()> {
    let fits = name.starts_with(|first: char| first.is_ascii_lowercase())
        && name.chars().all(|char| char.is_ascii_lowercase() || char.is_ascii_digit() || char == '-')
        && !name.ends_with('-');
    if !fits {
        bail!(Usage(format!("`{name}` is no name for a crate: give small letters, digits and dashes, a letter first")));
    }
    if TAKEN.split(' ').any(|taken| taken == name) {
        bail!(Usage(format!("`{name}` is a name of Rust's own, or of a crate that the new one uses; give another")));
    }
    Ok(())
}

/// The folder of `arrakis-core`, as a whole path.
fn core_folder(given: Option<PathBuf>) -> Result<PathBuf> {
    let folder = given.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../arrakis-core"));
    if !folder.join("src/plugin.rs").is_file() {
        let cure = "give the one of a checkout by `--core`";
        bail!("`{}` is no folder of `arrakis-core`; {cure}", folder.display());
    }
    done(fs::canonicalize(&folder), "read", &folder)
}

/// The result of a step, or why it could not be done.
fn done<T>(result: io::Result<T>, what: &str, path: &Path) -> Result<T> {
    result.map_err(|error| anyhow!("cannot {what} `{}`: {error}", path.display()))
}

/// A path as it stands between the quotes of TOML.
fn toml_text(path: &Path) -> Result<String> {
    let text = path.to_str().with_context(|| format!("`{}` is not UTF-8", path.display()))?;
    Ok(text.replace('\\', "\\\\").replace('"', "\\\""))
}

//! Lets `cargo run`, `cargo test` and doc tests of every dependent find LibTorch without environment variables.
//!
//! Cargo puts link-search folders inside `target/` on the library path of what it runs; so a link there, to the
//! folder of LibTorch, serves all dependents. One that shall run outside cargo reads `DEP_ARRAKIS_CORE_LIBTORCH_LIB`.
//!
//! And tells the crate which LibTorch that is: the stamp of a plugin says so.

use std::path::{Path, PathBuf};
use std::{env, fs};

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    // The folder as torch-sys knows it, links and all: in the checkout the link outlives a change of the cache.
    let Some(lib) = env::var_os("DEP_TCH_LIBTORCH_LIB").map(PathBuf::from) else {
        return;
    };
    let Some(out) = env::var_os("OUT_DIR").map(PathBuf::from) else {
        return;
    };
    let link = out.join("torch-lib");
    if fs::read_link(&link).ok().as_deref() != Some(lib.as_path()) {
        let _ = fs::remove_file(&link);
        if let Err(error) = symlink(&lib, &link) {
            println!("cargo:warning=cannot link `{}` to LibTorch: {error}", link.display());
        }
    }
    println!("cargo:rustc-link-search=native={}", link.display());
    println!("cargo:libtorch_lib={}", lib.display());
    if let Some(version) = version(&lib) {
        println!("cargo:rustc-env=ARRAKIS_LIBTORCH={version}");
    }
}

/// The version in the headers beside the libraries.
fn version(lib: &Path) -> Option<String> {
    let header = lib.parent()?.join("include/torch/headeronly/version.h");
    let text = fs::read_to_string(&header).ok()?;
    println!("cargo:rerun-if-changed={}", header.display());
    let number = |part: &str| {
        let number = text.lines().find_map(|line| line.strip_prefix("#define TORCH_VERSION_")?.strip_prefix(part))?;
        number.trim().parse::<u32>().ok()
    };
    Some(format!("{}.{}.{}", number("MAJOR")?, number("MINOR")?, number("PATCH")?))
}

#[cfg(unix)]
fn symlink(to: &Path, at: &Path) -> std::io::Result<()> {
    std::os::unix::fs::symlink(to, at)
}

#[cfg(not(unix))]
fn symlink(_: &Path, _: &Path) -> std::io::Result<()> {
    Ok(())
}

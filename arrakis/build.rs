//! Lets the `arrakis` binary find LibTorch when it is run outside cargo.

use std::path::PathBuf;
use std::{env, fs};

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    if env::var_os("CARGO_CFG_UNIX").is_none() {
        return;
    }
    let Some(lib) = env::var_os("DEP_ARRAKIS_CORE_LIBTORCH_LIB").map(PathBuf::from) else {
        return;
    };
    // By way of the checkout's link, and straight, for a binary that outlives the checkout.
    let straight = fs::canonicalize(&lib).ok().filter(|straight| *straight != lib);
    for folder in [Some(lib), straight].into_iter().flatten() {
        println!("cargo:rustc-link-arg=-Wl,-rpath,{}", folder.display());
    }
}

//! Where reference values lie: the project's own golden set, and the shared fixtures where they are.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use tch::{Kind, Tensor};

/// The root of the project.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the tests lie in the project").to_owned()
}

/// The shared fixtures: `$ARRAKIS_SHARED`, else `../shared` from the project's root; none where they are absent.
///
/// With `ARRAKIS_REQUIRE_SHARED=1` their absence is a failure.
pub(crate) fn shared() -> Option<PathBuf> {
    let folder = std::env::var_os("ARRAKIS_SHARED").map_or_else(|| root().join("../shared"), PathBuf::from);
    let there = folder.join("fixtures").is_dir();
    let required = std::env::var_os("ARRAKIS_REQUIRE_SHARED").is_some_and(|value| value == "1");
    assert!(there || !required, "ARRAKIS_REQUIRE_SHARED=1 and there is no `{}`", folder.display());
    there.then_some(folder)
}

/// The folders of reference models: the golden set, then the shared ones.
pub(crate) fn model_folders() -> Vec<PathBuf> {
    let mut folders = folders_in(&root().join("tests/golden"));
    assert!(!folders.is_empty(), "the golden set is gone");
    if let Some(shared) = shared() {
        folders.extend(folders_in(&shared.join("fixtures/hf")));
    }
    folders
}

fn folders_in(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).expect("the folder of fixtures can be read");
    let paths = entries.map(|entry| entry.expect("its entries too").path());
    let mut folders: Vec<PathBuf> = paths.filter(|path| path.join("reference.safetensors").is_file()).collect();
    folders.sort();
    folders
}

/// The `model_type` of a folder's config.
pub(crate) fn family(folder: &Path) -> String {
    let config = fs::read(folder.join("config.json")).expect("a fixture has a config");
    let config: serde_json::Value = serde_json::from_slice(&config).expect("which is JSON");
    config["model_type"].as_str().expect("with a model_type").to_owned()
}

/// The name of a folder.
pub(crate) fn name(folder: &Path) -> String {
    folder.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// Says what was compared, also where the test passes and its output is captured.
pub(crate) fn say(what: &str) {
    // Straight to the stream: only the printing macros are captured.
    writeln!(std::io::stderr(), "{what}").expect("standard error is open");
}

/// The greatest absolute difference of two tensors of one shape; equal infinities agree.
pub(crate) fn greatest(a: &Tensor, b: &Tensor) -> f64 {
    assert_eq!(a.size(), b.size());
    let apart = (a - b).abs().to_kind(Kind::Double);
    apart.where_self(&a.ne_tensor(b), &apart.zeros_like()).max().double_value(&[])
}

//! What `arrakis plugin new` writes builds, tests and loads as it stands, in a workspace of its own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use arrakis_bench::Plugin;
use arrakis_core::{Context, Part};
use serde_json::json;
use tch::Kind;

use crate::families;
use crate::fixtures::root;

const NAME: &str = "template-probe";

/// The command in this process: its exit status and what it wrote to standard error.
fn new_plugin(name: &str, folder: &Path) -> (u8, String) {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let args = ["arrakis", "plugin", "new", name, "--in", folder.to_str().unwrap()];
    let status = arrakis::command::run(args, &mut out, &mut err);
    (status, String::from_utf8(err).unwrap())
}

#[test]
fn a_new_plugin_builds_tests_and_loads_as_it_stands() {
    // One place for all runs, so that it is built anew only where it changed.
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    let made = folder.join(NAME);
    if made.exists() {
        fs::remove_dir_all(&made).unwrap();
    }
    let (status, err) = new_plugin(NAME, &folder);
    assert_eq!(status, 0, "{err}");
    let (status, err) = new_plugin(NAME, &folder);
    assert!(status == 1 && err.contains("cannot make"), "{err}");

    // What this build has compiled is not compiled again.
    let target = super::built().ancestors().nth(2).unwrap().to_owned();
    let cargo = |args: &[&str]| {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let ended = Command::new(cargo)
            .args(args)
            .args(["--offline", "--quiet", "--target-dir"])
            .arg(&target)
            .current_dir(&made)
            .output()
            .unwrap();
        assert!(ended.status.success(), "{args:?}: {}", String::from_utf8_lossy(&ended.stderr));
        String::from_utf8(ended.stdout).unwrap()
    };
    assert!(cargo(&["test", "--lib"]).contains("2 passed"));
    cargo(&["build"]);

    let plugin = Plugin::open(target.join("debug/libtemplate_probe.so")).unwrap();
    assert_eq!(plugin.name(), "template-probe 0.1.0");
    let model = families::loaded(&root().join("tests/golden/llama"), Kind::Double);
    let answer = plugin.tools()[0].ask(json!({ "prompt": [[3, 4], [5]] }), &Context::new(&model)).unwrap();
    let Some(Part::Series(norms)) = answer.get("norms") else { panic!("{answer:?}") };
    assert!(norms.lines[0].values.iter().all(|norm| *norm > 0.0));
}

#[test]
fn a_new_plugin_has_a_name_that_cargo_takes() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["", "Norms", "1st", "a/b", "two words", "ends-", "under_score", "ä"] {
        let (status, err) = new_plugin(name, folder.path());
        assert!(status == 2 && err.contains("no name for a crate"), "{name}: {err}");
    }
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

//! What `arrakis plugin new` writes builds, tests and loads as it stands, in a workspace of its own.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use arrakis_bench::Plugin;
use arrakis_core::{Context, Part};
use serde_json::{Value, json};
use tch::Kind;

use crate::families;
use crate::fixtures::{root, say};

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
    assert!(status == 1 && err.contains("is there already; give another name"), "{err}");

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

    let built = target.join("debug/libtemplate_probe.so");
    assert!(command(&["plugin", "check", built.to_str().unwrap()]).ends_with("\nloads\n"));
    // By name in a process of its own, which may be a child.
    let model = root().join("tests/golden/llama");
    let ask = ["ask", "template_probe.stream_norms", "prompt=[3,4,5]", "--json", "--model", model.to_str().unwrap()];
    let named = [&ask[..], &["--plugin", built.to_str().unwrap()]].concat();
    let answers = [command(&named), command(&[&named[..], &["--isolate"]].concat())].map(|json| answer_of(&json));
    assert_eq!(answers[0], answers[1]);
    assert_eq!(answers[0]["norms"]["series"]["lines"][0]["values"].as_array().unwrap().len(), 2);

    let plugin = Plugin::open(built).unwrap();
    assert_eq!(plugin.name(), "template-probe 0.1.0");
    let model = families::loaded(&root().join("tests/golden/llama"), Kind::Double);
    let answer = plugin.tools()[0].ask(json!({ "prompt": [[3, 4], [5]] }), &Context::new(&model)).unwrap();
    let Some(Part::Series(norms)) = answer.get("norms") else { panic!("{answer:?}") };
    assert!(norms.lines[0].values.iter().all(|norm| *norm > 0.0));
}

/// What the command prints, as a process that does well.
fn command(args: &[&str]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_arrakis-under-test"));
    command.args(args).current_dir(folder.path()).env("XDG_DATA_HOME", folder.path());
    let ended = command.env_remove("ARRAKIS_PLUGIN_PATH").output().unwrap();
    assert!(ended.status.success(), "{args:?}: {}", String::from_utf8_lossy(&ended.stderr));
    String::from_utf8(ended.stdout).unwrap()
}

fn answer_of(json: &str) -> Value {
    serde_json::from_str::<Value>(json).unwrap()["answer"].clone()
}

#[test]
fn what_a_new_plugin_cannot_be_written_on_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let (status, err) = new_plugin("mine", &folder.path().join("absent"));
    assert!(status == 1 && err.contains("cannot make `") && err.contains("No such file or directory"), "{err}");
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let at = folder.path().to_str().unwrap();
    let status =
        arrakis::command::run(["arrakis", "plugin", "new", "mine", "--in", at, "--core", at], &mut out, &mut err);
    let err = String::from_utf8(err).unwrap();
    assert!(status == 1 && err.contains("is no folder of `arrakis-core`; give the one of a checkout"), "{err}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    // What goes wrong while it is written leaves nothing half-written.
    let core = tempfile::tempdir().unwrap();
    let odd = core.path().join(OsStr::from_bytes(b"\xff"));
    fs::create_dir_all(odd.join("src")).unwrap();
    fs::write(odd.join("src/plugin.rs"), "").unwrap();
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let args = ["arrakis", "plugin", "new", "mine", "--in", at, "--core"].map(OsStr::new);
    let status = arrakis::command::run(args.iter().copied().chain([odd.as_os_str()]), &mut out, &mut err);
    let err = String::from_utf8(err).unwrap();
    assert!(status == 1 && err.contains("is not UTF-8"), "{err}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);

    // Where its LibTorch has gone, the build says what to do.
    assert_eq!(new_plugin("mine", folder.path()).0, 0);
    let Ok(built) = Command::new("c++")
        .args(["-fsyntax-only", "-x", "c++"])
        .arg(folder.path().join("mine/.cargo/no-libtorch/torch/torch.h"))
        .output()
    else {
        say("skipped: there is no `c++` to say it");
        return;
    };
    let words = String::from_utf8_lossy(&built.stderr).into_owned();
    assert!(!built.status.success() && words.contains("there is no LibTorch 2.11.0 where LIBTORCH says"), "{words}");
}

#[test]
fn a_new_plugin_has_a_name_that_cargo_takes() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["", "Norms", "1st", "a/b", "two words", "ends-", "under_score", "ä"] {
        let (status, err) = new_plugin(name, folder.path());
        assert!(status == 2 && err.contains("no name for a crate"), "{name}: {err}");
    }
    for name in ["self", "test", "serde", "tch", "async"] {
        let (status, err) = new_plugin(name, folder.path());
        assert!(
            status == 2 && err.contains("a name of Rust's own, or of a crate that the new one uses"),
            "{name}: {err}"
        );
    }
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

//! Plugins on the command line: found, looked at, asked, and asked in a process of their own.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

use super::compiled::Compiled;
use super::library;
use crate::fixtures::root;

/// What the command left: its exit status and what it wrote.
struct Ended {
    status: Option<i32>,
    out: String,
    err: String,
}

impl From<Output> for Ended {
    fn from(output: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Self { status: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
    }
}

/// The command as a process of its own, which finds no plugins but those that it is told of.
fn process(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_arrakis-under-test"));
    command.current_dir(folder).env("XDG_DATA_HOME", folder).env_remove("ARRAKIS_PLUGIN_PATH");
    command.env("RUST_BACKTRACE", "0");
    command
}

/// Asks `unruly.wrong` in a process of its own.
fn wrong(folder: &Path, how: &str, isolate: bool) -> Ended {
    let mut command = process(folder);
    command.args(["ask", "unruly.wrong", &format!("how={how}"), "--model"]).arg(root().join("tests/golden/llama"));
    command.arg("--plugin").arg(library("unruly-plugin"));
    if isolate {
        command.arg("--isolate");
    }
    command.output().unwrap().into()
}

/// Runs the command in this process.
fn here(args: &[&str]) -> Ended {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let status = arrakis::command::run(["arrakis"].iter().chain(args).copied(), &mut out, &mut err);
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Ended { status: Some(status.into()), out: text(out), err: text(err) }
}

#[test]
fn check_tells_what_a_file_is_and_what_stops_it() {
    let Some(folder) = Compiled::new() else { return };
    let norms = folder.residual_norms();
    let ended = here(&["plugin", "check", norms.to_str().unwrap()]);
    let version = env!("CARGO_PKG_VERSION");
    let (stamp, digest) = ended.out.split_once("digest  ").unwrap();
    assert_eq!(
        stamp,
        format!(
            "residual-norms 0.1.0: plugin ABI 1.1, LibTorch 2.11.0, arrakis-core {version}\n\
             tool    contrib.residual_norms (residual-norms 0.1.0)\n"
        )
    );
    assert_eq!((ended.status, digest.get(64..)), (Some(0), Some("\nloads\n")));
    let ended = here(&["plugin", "check", folder.liar("OTHER_ABI").to_str().unwrap(), "--json"]);
    let json: Value = serde_json::from_str(&ended.out).unwrap();
    assert_eq!((ended.status, &json["loads"], &json["stamp"]["abi"]), (Some(1), &false.into(), &"2.0".into()));
    assert!(json["obstacles"][0].as_str().unwrap().contains("ABI 2.0"), "{json}");
    let ended = here(&["plugin", "check", folder.liar("MISSING_SYMBOL").to_str().unwrap()]);
    let last = ended.out.lines().last().unwrap();
    assert_eq!(ended.status, Some(1));
    assert!(last.starts_with("does not load: it needs a symbol that no library here has"), "{last}");
    assert!(last.ends_with(": `liar_is_not_defined_anywhere`"), "{last}");
    let ended = here(&["plugin", "check", library("head-entropy").to_str().unwrap()]);
    assert_eq!(ended.status, Some(1));
    assert!(ended.out.contains("`contrib.head_entropy` is there already, from `head-entropy"), "{}", ended.out);
    assert_eq!(here(&["plugin", "check", "nowhere.so"]).status, Some(1));
}

#[test]
fn plugins_are_found_and_one_that_does_not_load_is_told_of() {
    let Some(compiled) = Compiled::new() else { return };
    let folder = compiled.path();
    let (mine, listed) = (folder.join("arrakis/plugins"), folder.join("listed"));
    fs::create_dir_all(&mine).unwrap();
    fs::create_dir(&listed).unwrap();
    fs::rename(compiled.residual_norms(), mine.join("norms.so")).unwrap();
    fs::write(listed.join("broken.so"), "nonsense").unwrap();
    fs::write(listed.join("readme.txt"), "no library").unwrap();
    let listed = std::env::join_paths([listed, library("head-entropy")]).unwrap();
    let ended: Ended = process(folder).args(["tools"]).env("ARRAKIS_PLUGIN_PATH", listed).output().unwrap().into();
    assert_eq!(ended.status, Some(0), "{}", ended.err);
    assert!(ended.out.contains("\ncontrib.residual_norms "), "{}", ended.out);
    assert!(ended.out.contains("\ncontrib.head_entropy "), "{}", ended.out);
    let warning = ended.err.lines().next().unwrap();
    assert!(warning.starts_with("warning: cannot load the plugin `"), "{warning}");
    assert!(
        warning.ends_with("broken.so`: it is no shared library (no ELF file) (found by ARRAKIS_PLUGIN_PATH)"),
        "{warning}"
    );

    let named = process(folder).args(["tools", "--plugin", "nowhere.so"]).output().unwrap();
    assert_eq!(named.status.code(), Some(1));
    let model = root().join("tests/golden/llama");
    let ask = ["ask", "contrib.residual_norms", "prompt=[3,4]", "layer=0", "--json", "--model"];
    let ended: Ended = process(folder).args(ask).arg(model).output().unwrap().into();
    let json: Value = serde_json::from_str(&ended.out).unwrap();
    assert_eq!(json["parameters"]["factor"], 2.0);
    assert_eq!(json["answer"]["norms"]["series"]["lines"].as_array().unwrap().len(), 2);
}

#[test]
fn a_plugin_named_twice_is_one_and_two_of_one_name_are_refused() {
    let Some(compiled) = Compiled::new() else { return };
    let folder = compiled.path();
    let (norms, copy) = (compiled.residual_norms(), folder.join("copy.so"));
    fs::copy(&norms, &copy).unwrap();
    let tools = |plugins: [&Path; 2]| {
        let mut command = process(folder);
        command.arg("tools");
        for plugin in plugins {
            command.arg("--plugin").arg(plugin);
        }
        Ended::from(command.output().unwrap())
    };
    // The same bytes are the same plugin, wherever they lie.
    for second in [&norms, &copy] {
        let twice = tools([&norms, second]);
        assert_eq!(
            (twice.status, twice.out.matches("\ncontrib.residual_norms ").count()),
            (Some(0), 1),
            "{}",
            twice.err
        );
    }
    let other = compiled.library("tools-contrib/residual-norms/residual_norms.c", "other.so", &["-O1".into()]);
    let refused = tools([&norms, &other]);
    let words = "tool `contrib.residual_norms` of `residual-norms 0.1.0` is there already, from `residual-norms 0.1.0`";
    assert!(refused.status == Some(1) && refused.err.contains(words), "{}", refused.err);
}

#[test]
fn a_run_is_of_the_very_plugin_that_answered() {
    let Some(compiled) = Compiled::new() else { return };
    let folder = compiled.path();
    let source = "tools-contrib/residual-norms/residual_norms.c";
    let built = ["-O0", "-O1"].map(|level| compiled.library(source, &format!("norms{level}.so"), &[level.to_owned()]));
    let ask = |plugin: &Path| {
        let mut command = process(folder);
        command.args(["ask", "contrib.residual_norms", "prompt=[3,4]", "layer=0", "--model"]);
        command.arg(root().join("tests/golden/llama")).arg("--plugin").arg(plugin);
        let ended: Ended = command.output().unwrap().into();
        assert_eq!(ended.status, Some(0), "{}", ended.err);
    };
    for plugin in [&built[0], &built[0], &built[1]] {
        ask(plugin);
    }
    let mut runs = arrakis_bench::Log::open(folder.join("experiments")).list().unwrap();
    runs.sort_by_key(|run| run.started);
    assert_eq!(runs[0].key, runs[1].key, "the same file is the same plugin");
    assert_ne!(runs[0].key, runs[2].key);
    for (run, plugin) in runs.iter().zip([&built[0], &built[0], &built[1]]) {
        assert_eq!(run.plugins.len(), 1);
        assert_eq!(run.plugins[0].digest, arrakis_bench::Inspection::of(plugin).unwrap().digest);
        assert_eq!(run.plugins[0].name, "residual-norms 0.1.0");
    }

    let rerun = |plugin: Option<&Path>| {
        let mut command = process(folder);
        command.args(["rerun", &runs[0].id, "--verify"]);
        if let Some(plugin) = plugin {
            command.arg("--plugin").arg(plugin);
        }
        Ended::from(command.output().unwrap())
    };
    let same = rerun(Some(&built[0]));
    assert_eq!(same.status, Some(0), "{}{}", same.out, same.err);
    let without = rerun(None);
    assert_eq!(without.status, Some(1));
    let words =
        "there is no tool `contrib.residual_norms`, and it had `residual-norms 0.1.0` loaded; load that by `--plugin`";
    assert!(without.err.contains(words), "{}", without.err);
    let other = rerun(Some(&built[1]));
    let words = format!("the plugin `residual-norms 0.1.0` is another build than in run `{}`", runs[0].id);
    assert!(other.err.contains(&words) && !same.err.contains("build"), "{}", other.err);
}

#[test]
fn a_tool_that_ends_its_process_is_reported_by_another() {
    let folder = tempfile::tempdir().unwrap();
    let cases = [
        ("abort", "was killed by signal 6 (SIGABRT"),
        ("overflow", "was killed by signal"),
        ("killed", "was killed by signal 9 (SIGKILL"),
        ("exit", "ended before its work did"),
        // What the tool has started is an `arrakis` too, and comes to its end; the tool does not.
        ("child", "ended before its work did, with status 0"),
    ];
    for (how, words) in cases {
        let ended = wrong(folder.path(), how, true);
        assert_eq!(ended.status, Some(1), "{how}: {}", ended.err);
        assert!(
            ended.err.contains("error: the process that was asked ") && ended.err.contains(words),
            "{how}: {}",
            ended.err
        );
    }
    // What is an error of the tool is the same error in either process.
    for isolate in [false, true] {
        let ended = wrong(folder.path(), "run", isolate);
        assert_eq!((ended.status, ended.out.as_str()), (Some(1), ""), "{}", ended.err);
        assert!(ended.err.starts_with("error: `unruly.wrong` panicked: the tool is unwell"), "{}", ended.err);
        assert_eq!(wrong(folder.path(), "nonsense", isolate).status, Some(2));
    }
    let runs = arrakis_bench::Log::open(folder.path().join("experiments")).list().unwrap();
    let count = |status| runs.iter().filter(|run| run.status == status).count();
    assert_eq!((count(arrakis_bench::Status::Interrupted), count(arrakis_bench::Status::Failed)), (5, 2));
}

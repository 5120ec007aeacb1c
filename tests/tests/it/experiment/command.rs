//! The verbs `run`, `rerun` and `sweep`, of the bench's own command and of `arrakis`.

use std::fs;
use std::path::Path;

use arrakis_bench::command::{Plugged, run};
use arrakis_bench::{Log, Status};
use serde_json::{Value, json};

use super::golden;
use crate::fixtures::shared;

struct Ended {
    status: u8,
    out: String,
    err: String,
}

/// Runs the bench's command, as a program of a user's would.
fn program(folder: &Path, args: &[&str]) -> Ended {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let log = folder.to_str().unwrap();
    let args = ["program"].iter().chain(args).copied().chain(["--log", log]);
    let plugged = Plugged { load: &arrakis::load::checkpoint, draw: Some(&arrakis::Pictures::DEFAULT) };
    let status = run(args, &plugged, &mut out, &mut err);
    Ended { status, out: String::from_utf8(out).unwrap(), err: String::from_utf8(err).unwrap() }
}

fn arrakis(folder: &Path, args: &[&str]) -> Ended {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let args = ["arrakis"].iter().chain(args).copied().chain(["--log", folder.to_str().unwrap()]);
    let status = arrakis::command::run(args, &mut out, &mut err);
    Ended { status, out: String::from_utf8(out).unwrap(), err: String::from_utf8(err).unwrap() }
}

#[test]
fn an_experiment_is_run_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let model = golden();
    let listed = program(folder.path(), &["run"]);
    assert!(
        listed.out.contains("halves number=… [times=…]\n    Halves a number, again and again.\n"),
        "{}",
        listed.out
    );
    let ended = program(folder.path(), &["run", "halves", "number=8", "--model", &model, "--seed", "4"]);
    assert_eq!((ended.status, ended.out.as_str()), (0, "result: 1\n"), "{}", ended.err);
    let [record] = &Log::open(folder.path()).list().unwrap()[..] else { panic!("one run") };
    assert_eq!((record.seed, record.model.name.as_ref()), (4, Some(&model)));
    assert!(ended.err.contains(&format!("run {} took", record.id)), "{}", ended.err);
    let args = ["run", "borrows", "word=a b", "numbers=[1,2]", "type=[\"c\"]", "--model", &model, "--json"];
    let json: Value = serde_json::from_str(&program(folder.path(), &args).out).unwrap();
    assert_eq!(json["result"], json!({ "words": ["c", "a b gpt2"], "share": 1.5, "none": "NaN" }));
    let again = program(folder.path(), &["run", "halves", "number=8", "--model", &model, "--seed", "4", "--reuse"]);
    assert!(again.err.contains(&format!("run {} is reused", record.id)), "{}", again.err);
    let tool = program(folder.path(), &["run", "logit_lens.lens", "prompt=[1,2]", "--model", &model]);
    assert!(tool.status == 0 && tool.out.contains("logit lens"), "{}", tool.err);
}

#[test]
fn what_is_no_question_is_a_usage_error_before_the_model_is_loaded() {
    let folder = tempfile::tempdir().unwrap();
    let wrong = |args: &[&str]| {
        let ended = program(folder.path(), args);
        assert_eq!((ended.status, ended.out.as_str()), (2, ""), "{args:?}: {}", ended.err);
        ended.err.trim_end().to_owned()
    };
    insta::assert_snapshot!(wrong(&["run", "halves", "--model", "nowhere"]), @"error: `halves`: `number` must be given");
    insta::assert_snapshot!(wrong(&["run", "halves", "number=x", "--model", "nowhere"]), @r#"error: `halves`: `number` is `"x"` where number is wanted"#);
    insta::assert_snapshot!(wrong(&["run", "halfs", "--model", "nowhere"]), @"error: there is no tool and no experiment `halfs` in this program; the nearest is `halves`");
    insta::assert_snapshot!(wrong(&["run", "halves", "number=1"]), @"error: `run halves` wants `--model MODEL`");
    insta::assert_snapshot!(wrong(&["rerun", "abc", "--verify", "--no-log"]), @"error: `--verify` compares two logged runs, so that `--no-log` makes no sense");
    let ended = program(folder.path(), &["rerun", "abc"]);
    assert_eq!(ended.status, 1, "{}", ended.err);
    let ended = program(folder.path(), &["run", "halves", "number=1", "--model", "nowhere"]);
    assert!(ended.status == 1 && ended.err.contains("nowhere"), "{}", ended.err);
}

#[test]
fn a_rerun_verifies_and_a_changed_weight_fails_it() {
    let folder = tempfile::tempdir().unwrap();
    let copy = super::rerun::copied(folder.path());
    let log = folder.path().join("log");
    let ended = program(&log, &["run", "nests", "prompt=[1,2,3]", "--model", &copy, "--dtype", "float64"]);
    assert_eq!(ended.status, 0, "{}", ended.err);
    let id = Log::open(&log).list().unwrap().iter().find(|run| run.name == "nests").unwrap().id.clone();
    let ended = program(&log, &["rerun", &id[..8], "--verify"]);
    assert_eq!(ended.status, 0, "{}", ended.err);
    assert!(ended.err.contains("equal to the bit"), "{}", ended.err);

    let drifting = program(&log, &["run", "drifts", "--model", &copy]);
    assert_eq!(drifting.status, 0, "{}", drifting.err);
    let drifting = Log::open(&log).list().unwrap().iter().find(|run| run.name == "drifts").unwrap().id.clone();
    assert_eq!(program(&log, &["rerun", &drifting]).status, 0);
    let ended = program(&log, &["rerun", &drifting, "--verify"]);
    assert_eq!(ended.status, 1, "{}", ended.err);
    assert!(ended.err.contains("at row 1, column 0"), "{}", ended.err);
    assert_eq!(program(&log, &["rerun", &drifting, "--tolerance", "0.01"]).status, 0);
    assert_eq!(program(&log, &["rerun", &drifting, "--tolerance", "NaN"]).status, 2);
    let json: Value = serde_json::from_str(&program(&log, &["rerun", &drifting, "--verify", "--json"]).out).unwrap();
    assert_eq!((&json["agrees"], &json["verdict"]["bits"]), (&json!(false), &json!(["result.json"])));

    super::rerun::change_a_weight(&copy);
    let ended = program(&log, &["rerun", &id, "--verify"]);
    assert_eq!((ended.status, ended.out.as_str()), (1, ""));
    assert!(ended.err.contains("made with another model: its digest was "), "{}", ended.err);
}

#[test]
fn arrakis_does_its_own_runs_again() {
    let folder = tempfile::tempdir().unwrap();
    let model = golden();
    // The questions of the demo, on a model without a tokenizer.
    let metric = ["metric.logit_difference.answer=5", "metric.logit_difference.wrong=6"];
    let patching = [&["patching.activation", "clean=[1,2,3]", "corrupted=[1,4,3]"][..], &metric[..]].concat();
    let questions: [&[&str]; 4] = [
        &["logit_lens.lens", "prompt=[1,2,3]"],
        &["attention.heads", "length=5"],
        &["logit_attribution.direct", "prompt=[1,2,3]", "answer=5", "wrong=6"],
        &patching,
    ];
    for question in questions {
        let ended = arrakis(folder.path(), &[&["ask"], question, &["--model", &model, "--seed", "3"]].concat());
        assert_eq!(ended.status, 0, "{}", ended.err);
    }
    for record in Log::open(folder.path()).list().unwrap() {
        let ended = arrakis(folder.path(), &["rerun", &record.id, "--verify"]);
        assert_eq!(ended.status, 0, "{}: {}", record.name, ended.err);
    }
}

#[test]
fn the_demo_is_verified_by_rerun() {
    let Some(shared) = shared() else { return };
    let folder = tempfile::tempdir().unwrap();
    let (model, out) = (shared.join("models/stories260K"), folder.path().join("out"));
    let log = folder.path().join("log");
    let ended = arrakis(&log, &["demo", "--model", model.to_str().unwrap(), "--out", out.to_str().unwrap()]);
    let runs = Log::open(&log).list().unwrap();
    assert!(!runs.is_empty(), "{}", ended.err);
    for record in runs.iter().filter(|run| run.status == Status::Completed) {
        let ended = arrakis(&log, &["rerun", &record.id, "--verify"]);
        assert_eq!(ended.status, 0, "{}: {}", record.name, ended.err);
    }
}

#[test]
fn a_sweep_is_described_by_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("sweep.json");
    let (model, log) = (golden(), folder.path().join("log"));
    let write = |study: Value| fs::write(&file, study.to_string()).unwrap();
    let path = file.to_str().unwrap();
    write(json!({ "name": "halves", "model": model, "grid": { "number": [1, 2, 4], "times": [1, 2] } }));
    let ended = program(&log, &["sweep", path]);
    assert_eq!(ended.status, 0, "{}", ended.err);
    assert!(ended.out.contains("halves: result (result)\n"), "{}", ended.out);
    let again = arrakis(&log, &["sweep", path, "--workers", "2", "--json"]);
    assert_eq!(again.status, 0, "{}", again.err);
    assert!(again.err.contains("6 cells were in the log"), "{}", again.err);
    let json: Value = serde_json::from_str(&again.out).unwrap();
    let values = &json["result"]["result by number, times"]["grid"]["values"];
    assert_eq!(values, &json!([0.5, 0.25, 1.0, 0.5, 2.0, 1.0]));
    let pictures = &Log::open(&log).list().unwrap().pop().unwrap().pictures;
    assert!(pictures.contains(&"result_by_number__times.svg".to_owned()), "{pictures:?}");

    write(json!({ "name": "falls", "grid": { "how": ["error", "not"] } }));
    let ended = program(&log, &["sweep", path, "--model", &model]);
    assert_eq!(ended.status, 1, "{}", ended.err);
    write(json!({ "name": "halves", "grids": {} }));
    let ended = program(&log, &["sweep", path, "--model", &model]);
    assert_eq!(ended.status, 2, "{}", ended.err);
    assert!(ended.err.contains("is no study: unknown field `grids`"), "{}", ended.err);
}

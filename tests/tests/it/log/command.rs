//! `arrakis log`, as it is typed.

use std::fs;
use std::path::Path;

use arrakis_bench::Log;
use serde_json::Value;

use super::halves;
use crate::fixtures::root;

/// Runs a verb of the log; its exit status, results and words.
fn said(log: &Path, args: &[&str]) -> (u8, String, String) {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let log = log.to_str().unwrap();
    let args = ["arrakis", "log"].iter().chain(args).copied().chain(["--log", log]);
    let status = arrakis::command::run(args, &mut out, &mut err);
    (status, String::from_utf8(out).unwrap(), String::from_utf8(err).unwrap())
}

fn printed(log: &Path, args: &[&str]) -> String {
    let (status, out, err) = said(log, args);
    assert_eq!(status, 0, "{args:?}: {err}");
    out
}

fn json(log: &Path, args: &[&str]) -> Value {
    serde_json::from_str(&printed(log, args)).unwrap()
}

#[test]
fn runs_are_listed_shown_and_compared() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let (one, two) = (halves(folder, 1).record, halves(folder, 2).record);
    let list = printed(folder, &["list"]);
    let lines: Vec<&str> = list.lines().collect();
    assert!(lines[0].starts_with("run               started (UTC)        status     name    took"), "{list}");
    assert_eq!(lines.len(), 3);
    assert!(
        lines[1].starts_with(&one.id) && lines[1].contains("completed  halves") && lines[1].ends_with("a model  odd")
    );
    assert_eq!(json(folder, &["list", "--limit", "1", "--json"])["runs"][0]["id"], two.id.as_str());
    let query = json(folder, &["query", "tag=odd", "metrics.loss<1", "--sort", "-parameters.layer", "--json"]);
    assert_eq!((query["runs"].as_array().unwrap().len(), &query["runs"][0]["id"]), (1, &Value::from(one.id.as_str())));

    let shown = printed(folder, &["show", &one.id[..8]]);
    for part in [
        "experiment halves",
        "metric          loss = 0.25 at step 2",
        "tensor          weights [2] float64",
        "\"halves\": [",
    ] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    let shown = json(folder, &["show", &one.id, "--json"]);
    assert_eq!((&shown["run"]["id"], &shown["result"]["layer"]), (&Value::from(one.id.as_str()), &Value::from(1)));

    let versions = json(folder, &["versions", "halves", "--json"]);
    assert_eq!(versions["versions"][0]["runs"], 2);
    assert_eq!(printed(folder, &["versions", "halves"]).lines().count(), 2);
    assert_eq!(printed(folder, &["source", &one.id]), super::SOURCE);
    let (status, out, err) = said(folder, &["diff", &one.id, &two.id]);
    assert_eq!((status, err.as_str()), (0, ""));
    assert!(out.starts_with("parameters.layer: 1 and 2\nlayer: 1 of 1 numbers apart"), "{out}");
    let (_, out, err) = said(folder, &["diff", &one.id, &one.id, "--tolerance", "0.1"]);
    assert_eq!((out.as_str(), err.as_str()), ("", "all 9 numbers of the results are equal\n"));
    assert_eq!(json(folder, &["diff", &one.id, &two.id, "--json"])["results"][0]["greatest"]["by"], 1.0);
}

#[test]
fn runs_are_marked_copied_checked_and_removed() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let (one, two) = (halves(folder, 1).record.id, halves(folder, 2).record.id);
    assert_eq!(said(folder, &["tag", &one, "good", "seen"]).2, format!("run {one} is tagged odd, good, seen\n"));
    assert_eq!(said(folder, &["tag", &one, "seen", "--remove"]).2, format!("run {one} is tagged odd, good\n"));
    printed(folder, &["note", &one, "a text"]);
    assert!(printed(folder, &["show", &one]).contains(": a text\n"));
    let out = folder.join("out");
    printed(folder, &["export", &one, out.to_str().unwrap()]);
    printed(folder, &["rm", &one, &two]);
    assert_eq!(said(folder, &["list"]), (0, String::new(), format!("no run in {}\n", folder.display())));
    assert_eq!(said(folder, &["fsck"]).2, format!("no run in {}\n", folder.display()));
    printed(folder, &["import", out.to_str().unwrap()]);
    assert_eq!(said(folder, &["fsck"]), (0, String::new(), "1 runs, 7 files, 0 damaged\n".to_owned()));
    fs::write(folder.join("runs").join(&one).join("table.csv"), "other").unwrap();
    let (status, out, err) = said(folder, &["fsck"]);
    assert_eq!((status, err.as_str()), (1, "1 runs, 7 files, 2 damaged\n"));
    assert!(out.contains("table.csv: its digest is"), "{out}");
    assert_eq!(said(folder, &["fsck", "--mend", "--json"]).0, 1);
    fs::write(folder.join("runs").join(&one).join("run.json"), "{").unwrap();
    let (status, _, err) = said(folder, &["list"]);
    assert!(status == 0 && err.starts_with("not listed: `"), "{err}");
    let (status, _, err) = said(folder, &["show", &one]);
    assert!(status == 1 && err.contains("is damaged"), "{err}");
    for wrong in [&["query", "colour=red"][..], &["query"], &["list", "--sort", "colour"], &["forget"]] {
        assert_eq!(said(folder, wrong).0, 2, "{wrong:?}");
    }
    assert_eq!(said(folder, &["show", "nothing"]).0, 1);
}

#[test]
fn asking_again_may_reuse_the_run() {
    let folder = tempfile::tempdir().unwrap();
    let model = root().join("tests/golden/gpt2");
    let ask = |more: &[&str]| {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let args = ["arrakis", "ask", "logit_lens.lens", "--model", model.to_str().unwrap(), "--tokens", "1,2,3"];
        let log = ["--log", folder.path().to_str().unwrap()];
        let status = arrakis::command::run(args.iter().chain(more).chain(&log).copied(), &mut out, &mut err);
        assert_eq!(status, 0, "{}", String::from_utf8_lossy(&err));
        (String::from_utf8(out).unwrap(), String::from_utf8(err).unwrap())
    };
    let (first, _) = ask(&[]);
    let (again, words) = ask(&["--reuse"]);
    assert_eq!(first, again);
    assert!(words.contains("is reused; it took"), "{words}");
    let log = Log::open(folder.path());
    assert_eq!(log.list().unwrap().len(), 1);
    assert!(!ask(&["--reuse", "--seed", "1"]).1.contains("reused"));
    assert_eq!(log.fsck().unwrap().damage, []);
}

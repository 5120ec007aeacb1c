//! `arrakis profile`: what it prints, logs and draws.

use std::fs;

use serde_json::json;

use super::{Log, Status, arrakis, files, golden};

#[test]
fn a_profile_is_printed_logged_and_drawn() {
    let folder = tempfile::tempdir().unwrap();
    let (log, plot) = (folder.path().join("log"), folder.path().join("time.svg"));
    let model = golden("llama");
    let profile = ["profile", "--model", &model, "--tokens", "1,2,3;4,5,6"];
    let ended = arrakis(&log, &[&profile[..], &["--passes", "2", "--plot", plot.to_str().unwrap()]].concat());
    assert_eq!(ended.status, 0, "{}", ended.err);
    assert!(ended.out.starts_with("2 passes over 12 positions: "), "{}", ended.out);
    for row in ["\nattention ", "\nrotation ", "\nunembedding ", "\noutside ", "\nwhole ", "\nlayer ", "\n1 "] {
        assert!(ended.out.contains(row), "{row} in\n{}", ended.out);
    }
    assert!(fs::read_to_string(&plot).unwrap().contains("Time by component"));
    let record = &Log::open(&log).list().unwrap()[0];
    assert_eq!((record.name.as_str(), record.status), ("profile.passes", Status::Completed));
    assert_eq!(
        record.parameters,
        json!({ "prompt": [[1, 2, 3], [4, 5, 6]], "passes": 2, "warm_up": 1, "steps": false })
    );
    assert!(ended.err.contains(&record.id), "{}", ended.err);
    assert_eq!(Log::open(&log).answer(&record.id).unwrap().parts().count(), 13);
    assert!(!record.pictures.is_empty());

    // It is a tool like any other: done again, and asked by name.
    let again = arrakis(&log, &["rerun", &record.id]);
    assert_eq!(again.status, 0, "{}", again.err);
    let asked = arrakis(&log, &["ask", "profile.passes", "--model", &model, "--tokens", "1,2", "passes=1"]);
    assert_eq!(asked.status, 0, "{}", asked.err);
    let runs = Log::open(&log).list().unwrap();
    let runs: Vec<_> = runs.iter().map(|run| (run.owner == record.owner, &run.parameters["passes"])).collect();
    assert_eq!(runs, [(true, &json!(2)), (true, &json!(2)), (true, &json!(1))]);
    let refused = arrakis(&log, &["ask", "profile.passes", "--model", &model, "--tokens", "1,2", "passes=0"]);
    assert!(refused.err.contains("passes 0: give at least 1"), "{}", refused.err);
}

#[test]
fn a_profile_of_packed_weights_is_done_again_on_packed_weights() {
    let folder = tempfile::tempdir().unwrap();
    let model = golden("gpt2");
    let ended = arrakis(folder.path(), &["profile", "--model", &model, "--tokens", "1,2,3", "--packed"]);
    assert_eq!(ended.status, 0, "{}", ended.err);
    let id = Log::open(folder.path()).list().unwrap()[0].id.clone();
    let again = arrakis(folder.path(), &["rerun", &id]);
    assert_eq!(again.status, 0, "{}", again.err);
    let layouts = Log::open(folder.path()).list().unwrap().into_iter().map(|run| run.model.layout);
    assert_eq!(layouts.collect::<Vec<_>>(), [Some("packed".to_owned()), Some("packed".to_owned())]);
}

#[test]
fn a_profile_goes_step_by_step_where_it_is_asked_to() {
    let folder = tempfile::tempdir().unwrap();
    let model = golden("gpt2");
    let profile = ["profile", "--model", &model, "--tokens", "1,2,3", "--packed", "--steps", "--json", "--no-log"];
    let ended = arrakis(folder.path(), &profile);
    assert_eq!(ended.status, 0, "{}", ended.err);
    let json: serde_json::Value = serde_json::from_str(&ended.out).unwrap();
    let rows = json["answer"]["flops_by_component"]["ranking"]["entries"].as_array().unwrap();
    for component in ["scores", "pattern", "z", "norm", "outside"] {
        assert!(rows.iter().any(|row| row["label"] == component), "{component}");
    }
    assert_eq!(json["answer"]["passes"]["number"], 3.0);
    assert!(files(folder.path()).is_empty());

    let refused = arrakis(folder.path(), &["profile", "--model", &model]);
    assert_eq!((refused.status, refused.out.as_str()), (2, ""));
    assert!(refused.err.contains("nothing to read"), "{}", refused.err);
    assert_eq!(arrakis(folder.path(), &["profile", "--model", &model, "--tokens", "1", "--passes", "0"]).status, 2);
    let drawn = ["profile", "--model", &model, "--tokens", "1", "--plot", "time.gif"];
    assert!(arrakis(folder.path(), &drawn).err.contains("`.svg`, `.png` or `.html`"));
    let beyond = arrakis(folder.path(), &["profile", "--model", &model, "--tokens", "1,61"]);
    assert_eq!(beyond.status, 1);
    assert!(beyond.err.contains("token id 61"), "{}", beyond.err);
}

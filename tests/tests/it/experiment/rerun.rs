//! Runs done again: bit for bit, or told where they differ.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use arrakis_bench::{Bench, Error, Log, Study, experiment};
use arrakis_core::{Axis, Grid, Model};
use arrakis_models::{LoadOptions, load};
use serde_json::json;

use super::{Result, golden, model};

/// How often the experiment below has run.
static DRIFT: AtomicU64 = AtomicU64::new(0);

/// Gives other numbers each time: one of them grows by a millionth.
#[experiment]
fn drifts(_bench: &Bench) -> Result<Grid> {
    let drift = DRIFT.fetch_add(1, Ordering::Relaxed) as f64;
    let values = vec![1.0, f64::NAN, 2.0 + drift * 1e-6, f64::INFINITY];
    Ok(Grid::new("Drift", "number", Axis::indices("row", 2), Axis::indices("column", 2), values)?)
}

/// Copies a golden model, so that it may be changed.
pub(crate) fn copied(folder: &Path) -> String {
    let copy = folder.join("gpt2");
    fs::create_dir(&copy).unwrap();
    for name in ["config.json", "model.safetensors"] {
        fs::copy(Path::new(&golden()).join(name), copy.join(name)).unwrap();
    }
    copy.to_str().unwrap().to_owned()
}

/// Changes the last bit that a weight has in the file.
pub(crate) fn change_a_weight(model: &str) {
    let path = Path::new(model).join("model.safetensors");
    let mut bytes = fs::read(&path).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&path, bytes).unwrap();
}

#[test]
fn a_rerun_is_the_same_to_the_bit() {
    let (folder, model) = (tempfile::tempdir().unwrap(), model());
    let bench = Bench::new(&model).log_to(folder.path());
    let log = Log::open(folder.path());
    let seeded = bench.clone().seed(9);
    super::draws(&seeded).unwrap();
    seeded.ask("attention.heads", json!({ "length": 4 })).unwrap();
    super::nests(&seeded, &[1, 2, 3]).unwrap();
    super::borrows(&seeded, "a", &[f64::NAN], vec![]).unwrap();
    Study::of("halves").vary("number", [1.0, 2.0]).run(&seeded).unwrap();
    let before = log.list().unwrap();
    assert_eq!(before.len(), 8);
    for before in before {
        let again = bench.rerun(&before).unwrap();
        assert_eq!((&again.record.key, again.record.seed), (&before.key, 9), "{}", before.name);
        let verdict = log.verify(&before.id, &again.record.id, 0.0).unwrap();
        assert!(verdict.agrees(), "{}: {verdict}", before.name);
    }
}

#[test]
fn a_rerun_that_differs_says_where() {
    let (folder, model) = (tempfile::tempdir().unwrap(), model());
    let bench = Bench::new(&model).log_to(folder.path());
    let log = Log::open(folder.path());
    DRIFT.fetch_add(1, Ordering::Relaxed);
    let before = bench.perform("drifts", json!({})).unwrap().record;
    let again = bench.rerun(&before).unwrap().record;
    let verdict = log.verify(&before.id, &again.id, 0.0).unwrap();
    assert!(!verdict.agrees());
    assert!(
        verdict.to_string().contains("1 of 4 numbers apart")
            && verdict.to_string().contains(" at row 1, column 0: 2.00000"),
        "{verdict}"
    );
    assert!(log.verify(&before.id, &again.id, 1e-3).unwrap().agrees());
}

#[test]
fn another_model_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let name = copied(folder.path());
    let log = folder.path().join("log");
    let options = LoadOptions::default();
    let before = {
        let model = load(&name, &options).unwrap();
        let bench = Bench::new(&model).named(&name).log_to(&log);
        bench.perform("logit_lens.lens", json!({ "prompt": [1, 2] })).unwrap().record
    };
    let refused = |model: &dyn Model| {
        let error = Bench::new(model).named(&name).log_to(&log).rerun(&before).unwrap_err();
        assert!(matches!(error, Error::OtherModel { .. }), "{error}");
        error.to_string()
    };
    let double = load(&name, &LoadOptions { kind: tch::Kind::Double, ..options }).unwrap();
    let told = refused(&double);
    assert!(told.contains(&before.id) && told.contains("digest"), "{told}");
    let packed = load(&name, &options).unwrap().packed().unwrap();
    assert!(refused(&packed).contains("layout"));

    change_a_weight(&name);
    assert!(refused(&load(&name, &options).unwrap()).contains("digest"));
}

#[test]
fn an_experiment_of_another_program_names_the_program() {
    let (folder, model) = (tempfile::tempdir().unwrap(), model());
    let bench = Bench::new(&model).log_to(folder.path());
    super::halves(&bench, 1.0, None).unwrap();
    let mut record = Log::open(folder.path()).list().unwrap().remove(0);
    record.name = "quarters".into();
    record.owner = Some("their-heads 2.0.0".into());
    // A program that made the run and cannot do it again does not send the reader to itself.
    let error = bench.rerun(&record).unwrap_err().to_string();
    assert!(error.contains("this program has no `#[experiment]` `quarters` of `their-heads 2.0.0`"), "{error}");
    record.environment.program = Some("their-program".into());
    let error = bench.rerun(&record).unwrap_err().to_string();
    assert!(error.contains("`their-program rerun ") && error.contains("`their-heads 2.0.0`"), "{error}");
    let nameless = record.wanted().unwrap_err().to_string();
    assert!(nameless.contains("does not say which model"), "{nameless}");
}

//! Experiments: what calling one logs, how one is run by name, and what goes wrong.

mod command;
mod rerun;
mod study;
mod version;
mod walkthrough;

use std::path::Path;

use arrakis_bench::hypothesis::{Hypothesis, Samples};
use arrakis_bench::{Bench, Error, Kept, Log, Record, Status, Work, experiment, experiments};
use arrakis_core::{Answer, Axis, Grid, Host, Prompt, Series};
use arrakis_models::Decoder;
use arrakis_tools::LogitLens;
use serde::Serialize;
use serde_json::{Value, json};
use tch::Kind;

use crate::families::loaded;
use crate::fixtures;

type Result<T, E = Error> = std::result::Result<T, E>;

/// Halves a number, again and again.
///
/// The halves are metrics.
#[experiment]
pub(crate) fn halves(
    bench: &Bench,
    /// What is halved.
    number: f64,
    /// How often; three times if absent.
    times: Option<u64>,
) -> Result<f64> {
    // A remark within.
    let mut half = number;
    for step in 0..times.unwrap_or(3) {
        half /= 2.0;
        bench.metric("half", step, half)?;
    }
    Ok(half)
}

/// What an experiment of its own type returns.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct Found {
    words: Vec<String>,
    share: f64,
    none: f64,
}

#[experiment]
fn borrows(bench: &Bench, word: &str, numbers: &[f64], mut r#type: Vec<String>) -> Result<Found> {
    r#type.push(format!("{word} {}", bench.model().dims().family));
    Ok(Found { words: r#type, share: numbers.iter().sum::<f64>() / numbers.len() as f64, none: f64::NAN })
}

/// An error of the user's own.
#[derive(Debug, thiserror::Error)]
enum Own {
    #[error("too odd: {0}")]
    Odd(u64),
    #[error(transparent)]
    Bench(#[from] Error),
}

#[experiment]
fn falls(_bench: &Bench, how: &str) -> Result<(), Own> {
    match how {
        "error" => Err(Own::Odd(3)),
        "panic" => panic!("fell over"),
        _ => Ok(()),
    }
}

/// Asks tools, and runs another experiment.
#[experiment]
fn nests(bench: &Bench, prompt: &[i64]) -> arrakis_core::Result<Grid> {
    let typed = bench.run(&LogitLens::new(Prompt::Ids(prompt.to_vec())))?;
    let asked = bench.use_tools("logit_lens")?.ask("lens", json!({ "prompt": prompt }))?;
    assert_eq!(Answer::from(typed.answer).split()?.0, asked.answer.split()?.0);
    let half = halves(bench, 8.0, None)?;
    bench.tensor("prompt", &tch::Tensor::f_from_slice(prompt)?)?;
    Grid::new("Halves", "number", Axis::new("row", ["only"]), Axis::indices("column", 2), vec![half, f64::INFINITY])
}

#[experiment]
fn draws(bench: &Bench) -> Result<Series> {
    let mut stream = bench.stream("numbers");
    let numbers = (0..4).map(|_| stream.uniform()).collect();
    Ok(Series::new("Drawn", "number", Axis::indices("draw", 4), [("uniform", numbers)])?)
}

/// Tests a hypothesis by drawn arrangements.
#[experiment]
fn permutes(bench: &Bench) -> Result<f64> {
    let control = Samples::from_fn(12, |run| Ok(run as f64))?;
    let treatment = Samples::from_fn(12, |run| Ok(run as f64 * 1.5 + 1.0))?;
    let hypothesis = Hypothesis { resamples: 999, ..bench.hypothesis() };
    assert_eq!(hypothesis, Hypothesis { resamples: 999, ..bench.hypothesis() });
    Ok(hypothesis.permutation(&control, &treatment)?.p)
}

fn model() -> Decoder {
    loaded(&fixtures::root().join("tests/golden/gpt2"), Kind::Double)
}

fn golden() -> String {
    fixtures::root().join("tests/golden/gpt2").to_str().unwrap().to_owned()
}

/// The only run of that name.
fn run_of(folder: &Path, name: &str) -> Record {
    let mut named: Vec<Record> = Log::open(folder).list().unwrap();
    named.retain(|record| record.name == name);
    assert_eq!(named.len(), 1);
    named.remove(0)
}

#[test]
fn calling_an_experiment_logs_a_run() {
    let (folder, model) = (tempfile::tempdir().unwrap(), model());
    let bench = Bench::new(&model).log_to(folder.path()).seed(5);
    assert_eq!(halves(&bench, 12.0, Some(2)).unwrap(), 3.0);
    let record = run_of(folder.path(), "halves");
    assert_eq!((record.what, record.status, record.seed), (Work::Experiment, Status::Completed, 5));
    assert_eq!(record.parameters, json!({ "number": 12.0, "times": 2 }));
    assert_eq!(record.owner.as_deref(), Some("arrakis-tests 0.1.0"));
    let known = experiment("halves").unwrap();
    assert_eq!(record.version.as_deref(), Some(known.version));
    let log = Log::open(folder.path());
    assert_eq!(log.metrics(&record.id).unwrap().len(), 2);
    assert_eq!(log.answer(&record.id).unwrap().split().unwrap().0, json!({ "result": { "number": 3.0 } }));
    assert_eq!(log.source(&record.id).unwrap(), known.source);
}

#[test]
fn an_experiment_says_what_it_is() {
    let known = experiment("halves").unwrap();
    assert_eq!((known.owner, known.path().as_str()), ("arrakis-tests 0.1.0", "it::experiment::halves"));
    assert_eq!(known.doc, "Halves a number, again and again.\n\nThe halves are metrics.");
    insta::assert_snapshot!(known.source);
    assert_eq!(known.version, "0f47d5e82faf2815d658ca321d1f08d56059dc3ffc7c56596fcc8d253b2e83bd");
    let fields = known.fields();
    let named: Vec<(&str, &str, bool)> =
        fields.iter().map(|field| (field.name.as_str(), field.doc.as_str(), field.required)).collect();
    assert_eq!(named, [("number", "What is halved.", true), ("times", "How often; three times if absent.", false)]);
    assert!(experiments().is_sorted_by_key(|known| known.name));
    assert_eq!(experiment("experiment::halves").unwrap().path(), known.path());
}

#[test]
fn a_hypothesis_is_tested_by_the_seed_of_the_run() {
    let (folder, model) = (tempfile::tempdir().unwrap(), model());
    let bench = Bench::new(&model).log_to(folder.path());
    let p = |seed: u64| permutes(&bench.clone().seed(seed)).unwrap();
    assert_eq!(p(1), p(1));
    assert_ne!(p(1), p(2), "other arrangements are drawn");
    let runs = Log::open(folder.path()).list().unwrap();
    assert!(runs.iter().all(|run| run.streams == ["hypothesis"]), "{:?}", runs[0].streams);
    let (mine, other) = (bench.clone().seed(3).hypothesis(), bench.hypothesis());
    assert!(mine.seed != other.seed && mine.seed < 1 << 53);
    assert_eq!(Hypothesis { seed: 0, ..mine }, Hypothesis::default());
}

#[test]
fn results_and_arguments_of_any_type_are_read_back() {
    let (folder, model) = (tempfile::tempdir().unwrap(), model());
    let bench = Bench::new(&model).log_to(folder.path());
    let found = borrows(&bench, "a", &[1.0, f64::INFINITY], vec!["b".into()]).unwrap();
    assert_eq!((found.words.as_slice(), found.share), (&["b".to_owned(), "a gpt2".into()][..], f64::INFINITY));
    let record = run_of(folder.path(), "borrows");
    assert_eq!(record.parameters, json!({ "word": "a", "numbers": [1.0, "Infinity"], "type": ["b"] }));
    let result: Value = Log::open(folder.path()).result_json(&record.id).unwrap();
    assert_eq!(result, json!({ "words": ["b", "a gpt2"], "share": "Infinity", "none": "NaN" }));
    let again = experiment("borrows").unwrap().run(&bench, record.parameters.clone()).unwrap();
    let Kept::Json(kept) = again.answer else { panic!("a value of its own type is JSON") };
    assert_eq!((kept, again.record.key), (result, record.key));
}

#[test]
fn a_run_by_name_is_the_run_of_a_call() {
    let (folder, model) = (tempfile::tempdir().unwrap(), model());
    let bench = Bench::new(&model).log_to(folder.path());
    let named = bench.perform("halves", json!({ "number": 8 })).unwrap();
    halves(&bench, 8.0, None).unwrap();
    let keys: Vec<String> = Log::open(folder.path()).list().unwrap().into_iter().map(|record| record.key).collect();
    assert_eq!(keys, [named.record.key.clone(), named.record.key.clone()]);
    let recalled = bench.clone().reuse(true).perform("halves", json!({ "number": 8.0, "times": null })).unwrap();
    assert!(recalled.reused && keys.len() == Log::open(folder.path()).list().unwrap().len());
    let other = bench.reuse(true).seed(1).perform("halves", json!({ "number": 8 })).unwrap();
    assert!(!other.reused);
}

#[test]
fn wrong_arguments_are_named_before_anything_is_written() {
    let (folder, model) = (tempfile::tempdir().unwrap(), model());
    let bench = Bench::new(&model).log_to(folder.path());
    let wrong = |name: &str, arguments: Value| {
        let error = bench.perform(name, arguments.clone()).unwrap_err().to_string();
        assert_eq!(error, Bench::check(name, arguments).unwrap_err().to_string());
        error
    };
    insta::assert_snapshot!(wrong("halves", json!({})), @"`halves`: `number` must be given");
    insta::assert_snapshot!(wrong("halves", json!({ "number": 1, "tmes": 2 })), @"`halves`: there is no argument `tmes`; the nearest is `times`");
    insta::assert_snapshot!(wrong("halves", json!({ "number": "one" })), @r#"`halves`: `number` is `"one"` where number is wanted"#);
    insta::assert_snapshot!(wrong("halves", json!({ "number": 1, "times": -1 })), @"`halves`: `times` is `-1` where at least 0 is wanted");
    insta::assert_snapshot!(wrong("halves", json!([1])), @"`halves`: parameters are a JSON object, and this is `[1]`");
    insta::assert_snapshot!(wrong("borrows", json!({ "word": 1 })), @"`borrows`: `numbers` and `type` must be given");
    insta::assert_snapshot!(wrong("halfs", json!({})), @"there is no tool and no experiment `halfs` in this program; the nearest is `halves`");
    insta::assert_snapshot!(experiment("halfs").unwrap_err(), @"there is no experiment `halfs` in this program; the nearest is `halves`");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn tools_are_calls_and_experiments_are_children() {
    let (folder, model) = (tempfile::tempdir().unwrap(), model());
    let bench = Bench::new(&model).log_to(folder.path());
    nests(&bench, &[1, 2, 3]).unwrap();
    let (parent, child) = (run_of(folder.path(), "nests"), run_of(folder.path(), "halves"));
    assert_eq!((child.parent.as_ref(), parent.parent.as_ref()), (Some(&parent.id), None));
    let calls: Vec<&str> = parent.calls.iter().map(|call| call.tool.as_str()).collect();
    assert_eq!(calls, ["logit_lens.lens", "logit_lens.lens"]);
    assert_eq!(parent.calls[0].digest, parent.calls[1].digest);
    assert!(parent.tensors.contains_key("prompt"));
    assert_eq!(Log::open(folder.path()).list().unwrap().len(), 2);
}

#[test]
fn an_experiment_that_fails_or_panics_is_logged_and_its_error_is_its_own() {
    let (folder, model) = (tempfile::tempdir().unwrap(), model());
    let bench = Bench::new(&model).log_to(folder.path());
    assert!(matches!(falls(&bench, "error"), Err(Own::Odd(3))));
    let panicked = falls(&bench, "panic").unwrap_err();
    assert_eq!(panicked.to_string(), "`falls` panicked: fell over");
    assert!(matches!(panicked, Own::Bench(Error::Panicked { .. })));
    falls(&bench, "not").unwrap();
    let told = bench.perform("falls", json!({ "how": "error" })).unwrap_err();
    assert_eq!(told.to_string(), "too odd: 3");
    let runs = Log::open(folder.path()).list().unwrap();
    let ends: Vec<(Status, Option<&str>)> = runs.iter().map(|run| (run.status, run.error.as_deref())).collect();
    let odd = (Status::Failed, Some("too odd: 3"));
    assert_eq!(ends, [odd, (Status::Failed, Some("`falls` panicked: fell over")), (Status::Completed, None), odd]);
}

/// Wants everything to stop.
struct Stop;

impl Host for Stop {
    fn cancelled(&self) -> bool {
        true
    }
}

#[experiment]
fn waits(bench: &Bench) -> Result<(), Own> {
    Ok(bench.progress(1, 2)?)
}

#[test]
fn a_cancelled_experiment_is_interrupted() {
    let (folder, model) = (tempfile::tempdir().unwrap(), model());
    let bench = Bench::new(&model).log_to(folder.path()).host(&Stop);
    assert!(matches!(waits(&bench), Err(Own::Bench(Error::Core(arrakis_core::Error::Cancelled)))));
    assert_eq!(run_of(folder.path(), "waits").status, Status::Interrupted);
}

#[test]
fn the_tools_of_a_subject_are_at_hand() {
    let model = model();
    let bench = Bench::new(&model).unlogged();
    let lens = bench.use_tools("logit_lens").unwrap();
    assert!(lens.questions().contains(&"lens"));
    let asked = lens.ask("lens", json!({ "prompt": [1, 2] })).unwrap();
    let typed = lens.run(&LogitLens::new(Prompt::Ids(vec![1, 2]))).unwrap();
    assert_eq!(asked.answer.split().unwrap().0, Answer::from(typed.answer).split().unwrap().0);
    let error = bench.use_tools("logit_lense").err().unwrap().to_string();
    assert!(error.contains("the nearest is `logit_lens`"), "{error}");
    let error =
        bench.use_tools("attention").unwrap().run(&LogitLens::new(Prompt::Ids(vec![1, 2]))).unwrap_err().to_string();
    assert!(error.contains("it is no tool of `attention`"), "{error}");
}

//! What logging costs, and finding again: 10,000 small runs written, listed and queried.
//!
//! `cargo bench -p arrakis-bench --bench log` prints the times; `scripts/peers/mlflow_log.py` does the same in MLflow's
//! SQLite store.

use std::path::Path;
use std::time::{Duration, Instant};

use arrakis_bench::{Bench, Log, Query, Subject};
use arrakis_models::{LoadOptions, load};
use serde_json::json;

const RUNS: u64 = 10_000;
/// How often a list or a query is timed.
const ROUNDS: usize = 5;

fn main() {
    // `cargo bench` passes `--bench`; `cargo test` runs nothing here.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    let here = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder on the disk");
    let plain = times(Log::open(here.path().join("plain")), RUNS);
    report("logging a run", &plain);
    let synced = times(Log::open(here.path().join("synced")).synced(), RUNS / 50);
    report("logging a run, on the disk before it goes on", &synced);

    let log = || Log::open(here.path().join("plain"));
    let terms = ["parameters.layer>=3", "metrics.loss<0.5", "status=completed"];
    let query = || Query::parse(terms).and_then(|query| query.sort("-metrics.loss")).expect("a query");
    let rounds = |work: &mut dyn FnMut()| -> Vec<Duration> {
        let timed = |()| {
            let start = Instant::now();
            work();
            start.elapsed()
        };
        std::iter::repeat_n((), ROUNDS).map(timed).collect()
    };
    let index = here.path().join("plain/index");
    report(
        "list of a new process, no index",
        &rounds(&mut || {
            let _ = std::fs::remove_file(&index);
            assert_eq!(log().list().expect("a list").len() as u64, RUNS);
        }),
    );
    report("list of a new process", &rounds(&mut || assert_eq!(log().list().expect("a list").len() as u64, RUNS)));
    let found = log().query(&query()).expect("an answer").records.len();
    report("query of a new process", &rounds(&mut || drop(log().query(&query()).expect("an answer"))));
    let warm = log();
    warm.list().expect("a list");
    report("list once more", &rounds(&mut || drop(warm.list().expect("a list"))));
    report("query once more", &rounds(&mut || drop(warm.query(&query()).expect("an answer"))));
    println!("{found} of {RUNS} runs match {terms:?}");
}

/// How long each of so many small runs takes: five parameters, three metrics, a result.
fn times(log: Log, runs: u64) -> Vec<Duration> {
    let checkpoint = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden/gpt2");
    let model = load(&checkpoint.to_string_lossy(), &LoadOptions::default()).expect("the golden model");
    let bench = Bench::new(&model).logged(log);
    let run = |number: u64| {
        let parameters =
            json!({ "layer": number % 12, "head": number % 7, "rate": 0.1, "text": "a text", "number": number });
        let subject = Subject::experiment("small", parameters);
        let start = Instant::now();
        let asked = bench.conduct(&subject, |bench| {
            for (step, metric) in ["loss", "accuracy", "gap"].into_iter().enumerate() {
                bench.metric(metric, step as u64, (number % 1_000) as f64 / 1_000.0)?;
            }
            bench.result(&[1.0, 2.0, 3.0])
        });
        asked.expect("a run");
        start.elapsed()
    };
    run(0);
    // The first run digests the model and the program, once in a process.
    (1..runs).map(run).collect()
}

fn report(what: &str, times: &[Duration]) {
    let mut sorted = times.to_vec();
    sorted.sort();
    let ms = |time: Duration| time.as_secs_f64() * 1e3;
    let (middle, most) = (sorted[sorted.len() / 2], sorted[sorted.len() * 99 / 100]);
    println!("{what:<46} median {:>9.3} ms   99 % within {:>9.3} ms", ms(middle), ms(most));
}

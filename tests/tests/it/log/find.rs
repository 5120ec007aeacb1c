//! Runs are found, and told apart.

use std::path::Path;

use arrakis_bench::{Bench, Log, Query, Record, Subject, compare_answers};
use arrakis_core::{Answer, Axis, Grid, Ranking, Series, Stack};
use serde_json::json;
use tch::Tensor;

use super::{SOURCE, halves, halves_of};
use crate::named::Named;

fn found(log: &Log, terms: &[&str]) -> Vec<u64> {
    let records = log.query(&Query::parse(terms).unwrap()).unwrap().records;
    records.iter().map(layer).collect()
}

fn layer(record: &Record) -> u64 {
    record.parameters["layer"].as_u64().unwrap()
}

#[test]
fn runs_are_found_by_whatever_they_have() {
    let folder = tempfile::tempdir().unwrap();
    let log = Log::open(folder.path());
    for layer in 0..6 {
        halves(folder.path(), layer);
    }
    let records = log.list().unwrap();
    log.tag(&records[3].id, "strange").unwrap();
    log.note(&records[3].id, "Look at this again").unwrap();
    let all = [0, 1, 2, 3, 4, 5];
    for (terms, wanted) in [
        (&[][..], &all[..]),
        (&["name=halves"], &all),
        (&["what=tool"], &[]),
        (&["parameters.layer>=4"], &[4, 5]),
        (&["parameters.layer=4.0"], &[4]),
        (&["parameters.layer!=4", "parameters.layer>2"], &[3, 5]),
        // The last loss is a quarter of the layer.
        (&["metrics.loss<0.75", "metrics.loss > 0.25"], &[2]),
        (&["tag=odd"], &[1, 3, 5]),
        (&["tag!=odd"], &[0, 2, 4]),
        // Runs without the field are other than any value.
        (&["tag!=strange"], &[0, 1, 2, 4, 5]),
        (&["note!=Look at this again"], &[0, 1, 2, 4, 5]),
        (&["parent!=none"], &all),
        (&["status~complet"], &all),
        (&["tag=odd", "tag=strange"], &[3]),
        (&["note~LOOK AT"], &[3]),
        (&["note~missing"], &[]),
        (&["status=completed", "model=a model"], &all),
        (&["status!=completed"], &[]),
        (&["started<2026-01-01"], &[]),
        (&["started>=2026-01-01", "seconds<100"], &all),
        (&["device=cpu", "dtype=float32", "owner~arrakis-tests"], &all),
        (&["parent=none"], &[]),
    ] {
        assert_eq!(found(&log, terms), wanted, "{terms:?}");
    }
    let moment = records[2].started.to_string();
    assert_eq!(found(&log, &[&format!("started={moment}")]), [2]);
    assert_eq!(found(&log, &[&format!("started>{moment}")]), [3, 4, 5]);
    let day = &moment[..10];
    assert_eq!(found(&log, &[&format!("started>={day}")]), all);
    assert_eq!(found(&log, &[&format!("started>{day}")]), [0; 0], "a day is the whole of it");
}

#[test]
fn runs_are_sorted_and_limited() {
    let folder = tempfile::tempdir().unwrap();
    let log = Log::open(folder.path());
    for layer in [3, 1, 2, 0] {
        halves(folder.path(), layer);
    }
    let layers = |query: Query| log.query(&query).unwrap().records.iter().map(layer).collect::<Vec<_>>();
    assert_eq!(layers(Query::default()), [3, 1, 2, 0]);
    assert_eq!(layers(Query::default().limit(2)), [2, 0], "the last ones");
    assert_eq!(layers(Query::default().sort("parameters.layer").unwrap()), [0, 1, 2, 3]);
    assert_eq!(layers(Query::default().sort("-metrics.loss").unwrap().limit(3)), [3, 2, 1]);
    // Runs without the field come last, whatever the order.
    let model = Named::new();
    Bench::new(&model)
        .log_to(folder.path())
        .conduct(&Subject::experiment("no loss", json!({ "layer": 9 })), |_| Ok(()))
        .unwrap();
    assert_eq!(layers(Query::default().sort("metrics.loss").unwrap()), [0, 1, 2, 3, 9]);
    assert_eq!(layers(Query::default().sort("-metrics.loss").unwrap()), [3, 2, 1, 0, 9]);
}

#[test]
fn a_query_that_could_mean_nothing_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let log = Log::open(folder.path());
    assert_eq!(found(&log, &["parameters.layr=1"]), [0; 0], "nothing is known of a log without runs");
    halves(folder.path(), 1);
    let wrong = |term: &str| match Query::parse([term]) {
        Err(error) => error.to_string(),
        Ok(query) => log.query(&query).unwrap_err().to_string(),
    };
    assert_eq!(wrong("parameters.layr=1"), "`parameters.layr`: no run has it; the nearest is `parameters.layer`");
    assert_eq!(wrong("metrics.los<1"), "`metrics.los`: no run has it; the nearest is `metrics.loss`");
    assert!(
        wrong("stat=1").starts_with("`stat=1`: there is no field `stat`; the nearest is `status`; there are id, key")
    );
    assert!(wrong("layer").contains("a term is a field, one of"));
    assert!(wrong("parameters.=1").contains("there is no field"));
    assert!(wrong("started>yesterday").contains("`yesterday` is no date"));
    assert!(Query::default().sort("metric.loss").is_err());
    insta::assert_snapshot!(wrong("seconds<abc"), @"`seconds<abc`: `abc` is no number, and `seconds` is one");
    insta::assert_snapshot!(wrong("metrics.loss>=low"), @"`metrics.loss>=low`: `low` is no number, and `metrics.loss` is one");
    insta::assert_snapshot!(wrong("memory>2G"), @"`memory>2G`: `2G` is no number, and `memory` is one");
    insta::assert_snapshot!(wrong("status=completd"), @"`status=completd`: `completd` is no value of `status`; the nearest is `completed`; there are running, completed, failed, interrupted");
    insta::assert_snapshot!(wrong("status!=done"), @"`status!=done`: `done` is no value of `status`; there are running, completed, failed, interrupted");
    insta::assert_snapshot!(wrong("what=toll"), @"`what=toll`: `toll` is no value of `what`; the nearest is `tool`; there are tool, experiment, study");
    for fine in ["metrics.loss<Infinity", "metrics.loss!=NaN", "seed=1e3", "threads>-1"] {
        assert!(Query::parse([fine]).is_ok(), "{fine}");
    }
}

#[test]
fn versions_are_codes_with_their_runs() {
    let folder = tempfile::tempdir().unwrap();
    let log = Log::open(folder.path());
    let other = SOURCE.replace("Halves", "Whole halves");
    halves(folder.path(), 1);
    let last = halves(folder.path(), 2).record;
    halves_of(&other, folder.path(), 1).unwrap();
    let versions = log.versions("halves").unwrap();
    let runs: Vec<usize> = versions.iter().map(|version| version.runs).collect();
    assert_eq!((runs, &versions[0].last_run), (vec![2, 1], &last.id));
    assert_eq!(log.source(&versions[1].version[..10]).unwrap(), other);
    assert_eq!(log.source(&last.id[..10]).unwrap(), SOURCE);
    let error = log.versions("halfs").unwrap_err().to_string();
    assert_eq!(error, "there is no version of an experiment `halfs` in the log; the nearest is `halves`");
    assert!(log.source("nothing").unwrap_err().to_string().starts_with("there is no run `nothing`"));
    // The last run of a version takes its source along.
    for record in log.list().unwrap().iter().filter(|record| record.version == last.version) {
        log.remove(&record.id).unwrap();
    }
    assert_eq!(log.versions("halves").unwrap().len(), 1);
    assert!(log.source(last.version.as_ref().unwrap()).is_err());
}

#[test]
fn a_diff_says_what_differs_and_where_most() {
    let folder = tempfile::tempdir().unwrap();
    let log = Log::open(folder.path());
    let first = halves(folder.path(), 4).record.id;
    let same = halves(folder.path(), 4).record.id;
    let other = halves_of(&SOURCE.replace("Halves.", "Thirds."), folder.path(), 5).unwrap().record.id;
    let diff = log.diff(&first, &same, 0.0).unwrap();
    assert!(
        diff.same_numbers()
            && diff.code.is_none()
            && diff.asked.is_empty()
            && diff.environment.is_empty()
            && diff.files.is_empty()
    );

    let diff = log.diff(&first, &other, 0.0).unwrap();
    assert!(!diff.same_numbers());
    let code = diff.code.unwrap();
    assert!(code.contains("-    // Halves.\n+    // Thirds.\n"), "{code}");
    let fields: Vec<&str> = diff.asked.iter().map(|change| change.field.as_str()).collect();
    assert_eq!(fields, ["version", "parameters.layer"]);
    let shown: Vec<String> = diff.results.iter().chain(&diff.metrics).map(ToString::to_string).collect();
    assert_eq!(
        shown,
        [
            "layer: 1 of 1 numbers apart; the greatest difference is 1e0: 4 and 5",
            "halves: 3 of 3 numbers apart; the greatest difference is 1e0 at 0: 4 and 5",
            "weights: 2 of 2 numbers apart; the greatest difference is 1e0 at [0]: 4 and 5",
            "loss: 3 of 3 numbers apart; the greatest difference is 1e0 at step 0: 4 and 5",
        ]
    );
    assert_eq!(diff.files, ["table.csv"]);
    assert!(log.diff(&first, &other, 1.0).unwrap().same_numbers());
    assert_eq!(log.diff(&first, &other, 0.6).unwrap().results[1].apart, 1);
}

fn answer(cell: f64, point: f64, rank: f64, tensor: f64) -> Answer {
    let axis = |name: &str| Axis::indices(name, 3);
    let values = |odd: f64| vec![0.0, 1.0, f64::NAN, f64::INFINITY, odd, 5.0, 6.0, 7.0, 8.0];
    Answer::new()
        .with("grid", Grid::new("Grid", "logit", axis("layer"), axis("head"), values(cell)).unwrap())
        .with("series", Series::new("Series", "logit", axis("layer"), [("loss", vec![0.0, 1.0, point])]).unwrap())
        .with("ranking", Ranking::new("Ranking", "logit", [("a", 1.0), ("b", rank)]))
        .with("number", 1.0)
        .with("text", "text")
        .with(
            "stack",
            Stack::new("Stack", "logit", vec![axis("a"), axis("b")], Tensor::from_slice(&values(tensor)).view([3, 3]))
                .unwrap(),
        )
}

#[test]
fn numbers_of_answers_are_compared_cell_by_cell() {
    let first = answer(4.0, 2.0, 0.5, 4.0);
    let shown = |other: &Answer, tolerance: f64| -> Vec<String> {
        let found = compare_answers(&first, other, tolerance).unwrap();
        found.iter().filter(|difference| !difference.is_none()).map(ToString::to_string).collect()
    };
    assert_eq!(shown(&first.clone(), 0.0), [""; 0], "NaN and infinities agree with themselves");
    insta::assert_snapshot!(shown(&answer(4.5, 3.0, 0.75, -1.0), 0.0).join("\n"), @r"
    grid: 1 of 9 numbers apart; the greatest difference is 5e-1 at layer 1, head 1: 4 and 4.5
    series: 1 of 3 numbers apart; the greatest difference is 1e0 at layer 2, line loss: 2 and 3
    ranking: 1 of 2 numbers apart; the greatest difference is 2.5e-1 at b: 0.5 and 0.75
    stack: 1 of 9 numbers apart; the greatest difference is 5e0 at [1, 1]: 4 and -1
    ");
    assert_eq!(shown(&answer(4.5, 3.0, 0.75, -1.0), 1.0).len(), 1);
    assert_eq!(shown(&answer(f64::from_bits(4.0_f64.to_bits() + 1), 2.0, 0.5, 4.0), 0.0).len(), 1, "to the bit");
    assert_eq!(shown(&answer(f64::NAN, 2.0, 0.5, f64::NEG_INFINITY), 1e300).len(), 2);
    let less = Answer::new().with("number", 1.0).with("text", "other").with("new", 1.0);
    let shown = shown(&less, 0.0).join("\n");
    assert!(shown.contains("grid: only the first has it"), "{shown}");
    assert!(shown.contains("text: \"text\" and \"other\" at text"), "{shown}");
    assert!(shown.contains("new: only the second has it"), "{shown}");
}

#[test]
fn a_log_that_is_nowhere_is_empty() {
    let log = Log::open(Path::new("nowhere/at/all"));
    assert_eq!(log.list().unwrap(), []);
    assert_eq!(log.query(&Query::default()).unwrap().records, []);
}

#[test]
fn no_number_is_last_whichever_way_runs_are_sorted_and_no_id_is_no_run() {
    let folder = tempfile::tempdir().unwrap();
    let model = Named::new();
    let bench = Bench::new(&model).log_to(folder.path());
    for loss in [2.0, f64::NAN, 1.0] {
        bench.conduct(&Subject::experiment("loss", json!({})), |bench| bench.metric("loss", 0, loss)).unwrap();
    }
    let log = Log::open(folder.path());
    for (field, wanted) in [("metrics.loss", [1.0, 2.0]), ("-metrics.loss", [2.0, 1.0])] {
        let records = log.query(&Query::default().sort(field).unwrap()).unwrap().records;
        let losses: Vec<f64> = records.iter().map(|record| record.metrics[0].value).collect();
        assert!(losses[..2] == wanted && losses[2].is_nan(), "{field}: {losses:?}");
    }
    let error = log.get("").unwrap_err().to_string();
    assert!(error.contains("no run"), "{error}");
}

#[test]
fn whole_numbers_compare_as_what_they_are() {
    let folder = tempfile::tempdir().unwrap();
    let model = Named::new();
    let log = Log::open(folder.path());
    let big = 1_u64 << 53;
    let seeds = [big + 1, u64::MAX, big, u64::MAX - 1];
    for seed in seeds {
        let bench = Bench::new(&model).log_to(folder.path()).seed(seed);
        let subject = Subject::experiment("seeded", json!({ "seed": seed, "below": -(big as i64) - 1 }));
        bench.conduct(&subject, |_| Ok(())).unwrap();
    }
    let count = |term: &str| log.query(&Query::parse([term]).unwrap()).unwrap().records.len();
    for field in ["seed", "parameters.seed"] {
        assert_eq!(count(&format!("{field}={}", big + 1)), 1);
        assert_eq!(count(&format!("{field}!={big}")), 3);
        assert_eq!(count(&format!("{field}>{big}")), 3);
        assert_eq!(count(&format!("{field}<={big}")), 1);
        assert_eq!(count(&format!("{field}>={}", u64::MAX)), 1);
        assert_eq!(count(&format!("{field}<18446744073709551616")), 4);
        assert_eq!(count(&format!("{field}>0.5")), 4);
        assert_eq!(count(&format!("{field}=9007199254740992.0")), 1, "a double that is whole");
        let sorted = |sort: &str| {
            let records = log.query(&Query::default().sort(sort).unwrap()).unwrap().records;
            records.iter().map(|record| record.seed).collect::<Vec<u64>>()
        };
        assert_eq!(sorted(field), [big, big + 1, u64::MAX - 1, u64::MAX]);
        assert_eq!(sorted(&format!("-{field}")), [u64::MAX, u64::MAX - 1, big + 1, big]);
    }
    assert_eq!(count(&format!("parameters.below<-{big}")), 4);
    assert_eq!(count(&format!("parameters.below=-{big}")), 0);
}

#[test]
fn values_of_one_step_are_compared_in_their_order() {
    let folder = tempfile::tempdir().unwrap();
    let model = Named::new();
    let log = Log::open(folder.path());
    let run = |values: &[(u64, f64)]| {
        let work = |bench: &Bench<'_>| values.iter().try_for_each(|(step, value)| bench.metric("loss", *step, *value));
        let subject = Subject::experiment("steps", json!({}));
        Bench::new(&model).log_to(folder.path()).conduct(&subject, work).unwrap().record.id
    };
    let first = run(&[(0, 1.0), (1, 2.0), (0, 3.0), (0, 4.0)]);
    let other = run(&[(0, 1.5), (1, 2.0), (0, 3.0), (0, 4.25)]);
    let less = run(&[(0, 1.0), (1, 2.0), (0, 3.0)]);
    let shown = |a: &str, b: &str| log.diff(a, b, 0.0).unwrap().metrics[0].to_string();
    assert_eq!(shown(&first, &first), "loss: 0 of 4 numbers apart");
    assert_eq!(
        shown(&first, &other),
        "loss: 2 of 4 numbers apart; the greatest difference is 5e-1 at step 0: 1 and 1.5"
    );
    assert_eq!(shown(&first, &less), "loss: 0 of 3 numbers apart; only the first has step 0, value 3");
    let last = run(&[(0, 1.0), (1, 2.0), (0, 3.0), (0, 5.0)]);
    assert!(shown(&first, &last).ends_with("1e0 at step 0, value 3: 4 and 5"));
}

//! Studies: their cells, their table, and going on after a stop.

use std::cell::Cell as Count;
use std::num::NonZero;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};

use arrakis_bench::{Bench, Kept, Log, Status, Studied, Study, Work, Workers, experiment};
use arrakis_core::{Grid, Host, Model, Part, Series};
use serde_json::{Value, json};

use super::{Result, golden, model};

/// How often the experiment below has run in this process.
static RUN: AtomicUsize = AtomicUsize::new(0);

/// A product, and a draw of its random stream.
#[experiment]
fn product(bench: &Bench, a: f64, b: f64, folder: &str) -> Result<Value> {
    let _ = folder;
    RUN.fetch_add(1, Ordering::Relaxed);
    assert!(a != 13.0, "bad luck");
    bench.metric("sum", 0, a + b)?;
    bench.metric("product", 0, -1.0)?;
    Ok(json!({ "product": a * b, "drawn": { "uniform": bench.stream("draw").uniform() }, "word": "no number" }))
}

/// A study whose cells are of this folder's test alone.
fn study(folder: &Path) -> Study {
    let study = Study::of("product").fixed("folder", folder.to_str().unwrap());
    study.vary("a", [1.0, 2.0]).vary("b", [3.0, 4.0, 5.0])
}

fn grid<'a>(studied: &'a Studied, name: &str) -> &'a Grid {
    match studied.asked.answer.get(name) {
        Some(Part::Grid(grid)) => grid,
        other => panic!("{name}: {other:?}"),
    }
}

#[test]
fn a_study_is_a_table_and_a_heatmap_of_each_measure() {
    let (folder, model) = (tempfile::tempdir().unwrap(), model());
    let bench = Bench::new(&model).log_to(folder.path());
    let studied = study(folder.path()).run(&bench).unwrap();
    let table = grid(&studied, "table");
    assert_eq!(table.columns.labels, ["product", "drawn.uniform", "sum", "metrics.product"]);
    assert_eq!(table.rows.labels[4], "a 2.0, b 4.0");
    assert_eq!((table.get(4, 0), table.get(4, 2)), (Some(8.0), Some(6.0)));
    let heatmap = grid(&studied, "product by a, b");
    assert_eq!((heatmap.rows.name.as_str(), heatmap.columns.name.as_str()), ("a", "b"));
    assert_eq!(heatmap.values, [3.0, 4.0, 5.0, 6.0, 8.0, 10.0]);

    let runs = Log::open(folder.path()).list().unwrap();
    let (parents, parts): (Vec<_>, Vec<_>) = runs.iter().partition(|run| run.parent.is_none());
    let [parent] = parents[..] else { panic!("one run of the whole") };
    assert_eq!((parent.what, parent.name.as_str(), parent.status), (Work::Study, "product", Status::Completed));
    assert_eq!(parts.len(), 6);
    assert!(parts.iter().all(|part| part.parent.as_ref() == Some(&parent.id) && part.what == Work::Experiment));
    assert_eq!(serde_json::from_value::<Study>(parent.parameters.clone()).unwrap(), study(folder.path()));
}

#[test]
fn seeds_lists_and_tools_are_swept_too() {
    let model = model();
    let bench = Bench::new(&model).unlogged();
    let seeded = Study::of("product")
        .fixed("a", 1)
        .fixed("b", 2)
        .fixed("folder", "")
        .seeds([7, 8, 7])
        .measure(["drawn.uniform"]);
    let studied = seeded.run(&bench).unwrap();
    let Some(Part::Series(Series { axis, lines, .. })) = studied.asked.answer.get("drawn.uniform by seed") else {
        panic!("one axis is a line")
    };
    assert_eq!((axis.name.as_str(), axis.labels.as_slice()), ("seed", &["7", "8", "7"].map(String::from)[..]));
    assert!(lines[0].values[0] == lines[0].values[2] && lines[0].values[0] != lines[0].values[1]);

    let list: Study = serde_json::from_value(json!({
        "name": "logit_lens.lens", "fixed": { "prompt": [1, 2, 3] }, "list": [{ "top": 1 }, { "top": 2, "position": 1 }],
    }))
    .unwrap();
    let studied = list.run(&bench).unwrap();
    assert_eq!(grid(&studied, "table").rows.labels, ["top 1", "top 2, position 1"]);
    assert!(studied.asked.answer.get("logit_gap by case").is_some());

    let nested: Study = serde_json::from_value(json!({
        "name": "patching.activation", "fixed": { "clean": [1, 2], "corrupted": [3, 2], "kinds": ["z"] },
        "grid": { "metric.logit_difference.answer": [4, 5], "metric.logit_difference.wrong": [6] },
    }))
    .unwrap();
    let metric = json!({ "logit_difference": { "answer": 5, "wrong": 6 } });
    assert_eq!(nested.cells().unwrap()[1].parameters["metric"], metric);
    nested.check().unwrap();
}

/// Stops after some cells.
struct Impatient(Count<u64>);

impl Host for Impatient {
    fn progress(&self, done: u64, _: u64) {
        self.0.set(done);
    }

    fn cancelled(&self) -> bool {
        self.0.get() >= 4
    }
}

#[test]
fn a_stopped_study_goes_on_and_computes_no_cell_twice() {
    let (folder, model) = (tempfile::tempdir().unwrap(), model());
    let bench = Bench::new(&model).log_to(folder.path()).reuse(true);
    let host = Impatient(Count::new(0));
    let error = study(folder.path()).run(&bench.clone().host(&host)).unwrap_err();
    assert_eq!(error.to_string(), "cancelled");
    let log = Log::open(folder.path());
    let there = |status: Status| log.list().unwrap().iter().filter(|run| run.status == status).count();
    assert_eq!((there(Status::Completed), there(Status::Interrupted)), (4, 1));
    let studied = study(folder.path()).run(&bench).unwrap();
    assert_eq!((studied.recalled, there(Status::Completed)), (4, 7));
    let cells = std::fs::read_to_string(studied.asked.folder.as_ref().unwrap().join("cells.json")).unwrap();
    let cells: Vec<Value> = serde_json::from_str(&cells).unwrap();
    let recalled: Vec<bool> = cells.iter().map(|cell| cell["recalled"].as_bool().unwrap()).collect();
    assert_eq!(recalled, [true, true, true, true, false, false]);
    assert_eq!(log.get(cells[4]["run"].as_str().unwrap()).unwrap().parent.as_ref(), Some(&studied.asked.record.id));
    let whole = study(folder.path()).run(&bench.clone().reuse(false)).unwrap();
    assert_eq!((whole.recalled, there(Status::Completed)), (0, 14));
    assert_eq!(grid(&whole, "table").values, grid(&studied, "table").values);
}

#[test]
fn a_killed_study_goes_on_in_another_process() {
    const FOLDER: &str = "ARRAKIS_TEST_KILLED_STUDY";
    /// Ends the process in the middle of a study.
    struct Deadly;
    impl Host for Deadly {
        fn progress(&self, done: u64, _: u64) {
            if done == 3 {
                std::process::abort();
            }
        }
    }
    let model = model();
    if let Some(folder) = std::env::var_os(FOLDER) {
        let folder = Path::new(&folder);
        let _ = study(folder).run(&Bench::new(&model).log_to(folder).host(&Deadly));
        unreachable!("the process has ended");
    }
    let folder = tempfile::tempdir().unwrap();
    let name = "experiment::study::a_killed_study_goes_on_in_another_process";
    let mut child = Command::new(std::env::current_exe().unwrap());
    let ended = child.args([name, "--exact"]).env(FOLDER, folder.path()).output().unwrap();
    assert!(!ended.status.success());
    let studied = study(folder.path()).run(&Bench::new(&model).log_to(folder.path()).reuse(true)).unwrap();
    assert_eq!((studied.recalled, studied.failed.len()), (3, 0));
    let runs = Log::open(folder.path()).list().unwrap();
    let ends: Vec<Status> = runs.iter().filter(|run| run.what == Work::Study).map(|run| run.status).collect();
    assert_eq!(ends, [Status::Interrupted, Status::Completed]);
}

#[test]
fn workers_give_what_one_gives() {
    let (folder, model) = (tempfile::tempdir().unwrap(), model());
    let bench = Bench::new(&model).named(golden()).log_to(folder.path());
    let load = || Ok(Box::new(super::model()) as Box<dyn Model>);
    let workers = Workers { count: NonZero::new(3).unwrap(), load: &load, draw: None };
    let lens: Study = serde_json::from_value(json!({
        "name": "logit_lens.lens", "grid": { "prompt": [[1, 2], [2, 3], [3, 4], [4, 5], [5, 6]] }, "seeds": [1, 2],
    }))
    .unwrap();
    let together = lens.run_with(&bench, &workers).unwrap();
    let alone = lens.run(&bench.clone().reuse(true)).unwrap();
    assert_eq!(alone.recalled, 10, "a worker's cell is the one that the bench itself would run");
    assert_eq!(grid(&together, "table").values, grid(&alone, "table").values);
    let again = lens.run(&bench).unwrap();
    assert_eq!(grid(&together, "table").values, grid(&again, "table").values);

    let other = || Ok(Box::new(crate::families::loaded(golden().as_ref(), tch::Kind::Float)) as Box<dyn Model>);
    let error = lens.run_with(&bench, &Workers { load: &other, ..workers }).unwrap_err().to_string();
    assert!(error.contains("a worker loaded another model"), "{error}");
}

#[test]
fn a_cell_that_fails_leaves_the_others() {
    let (folder, model) = (tempfile::tempdir().unwrap(), model());
    let bench = Bench::new(&model).log_to(folder.path());
    let unlucky = Study::of("product").fixed("folder", "").fixed("b", 1.0);
    let studied = unlucky.clone().vary("a", [1.0, 13.0]).run(&bench).unwrap();
    assert_eq!(studied.failed, [("a 13.0".to_owned(), "`product` panicked: bad luck".to_owned())]);
    let table = grid(&studied, "table");
    assert!(table.get(0, 0) == Some(1.0) && table.get(1, 0).unwrap().is_nan());
    assert!(studied.asked.record.notes[0].text.contains("bad luck"));
    let error = unlucky.vary("a", [13.0]).run(&bench).unwrap_err().to_string();
    assert_eq!(error, "study of `product`: every cell failed, `a 13.0` first: `product` panicked: bad luck");
    assert!(matches!(bench.perform("product", json!({ "a": 1, "b": 2, "folder": "" })).unwrap().answer, Kept::Json(_)));
}

#[test]
fn a_study_that_has_no_meaning_is_refused_before_anything_runs() {
    let (folder, model) = (tempfile::tempdir().unwrap(), model());
    let bench = Bench::new(&model).log_to(folder.path());
    let refused = |study: Value| {
        let study: Study = serde_json::from_value(study).unwrap();
        study.run(&bench).unwrap_err().to_string()
    };
    insta::assert_snapshot!(refused(json!({ "name": "product" })), @"study of `product`: there is nothing to vary; give `grid`, `list` or `seeds`");
    insta::assert_snapshot!(refused(json!({ "name": "product", "grid": { "a": [] } })), @"study of `product`: `a` has no values in `grid`; give at least one");
    insta::assert_snapshot!(refused(json!({ "name": "product", "grid": { "a": [1] }, "list": [{ "b": 1 }] })), @"study of `product`: `grid` and `list` are both given; give one of them");
    insta::assert_snapshot!(refused(json!({ "name": "product", "grid": { "a": [1] } })), @"`product`: `b` and `folder` must be given");
    insta::assert_snapshot!(refused(json!({ "name": "product", "fixed": { "b": 1, "folder": "" }, "grid": { "a": [1, "two"] } })), @r#"`product`: `a` is `"two"` where number is wanted"#);
    insta::assert_snapshot!(refused(json!({ "name": "produce", "seeds": [1] })), @"there is no tool and no experiment `produce` in this program; the nearest is `product`");
    let fixed = json!({ "a": 1, "b": 1, "folder": "" });
    insta::assert_snapshot!(refused(json!({ "name": "product", "fixed": fixed, "seeds": [1], "measures": ["produce"] })), @r#"study of `product`: no cell gave a number `produce`; there are ["product", "drawn.uniform", "sum", "metrics.product"]"#);
    let error = serde_json::from_value::<Study>(json!({ "name": "product", "grid": { "a": 1 } })).unwrap_err();
    insta::assert_snapshot!(error, @"`grid.a` is a list of values, and this is `1`");
}

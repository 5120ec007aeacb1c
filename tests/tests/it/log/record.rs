//! What a run records of itself.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use arrakis_bench::{Bench, Error, Log, Outcome, Status, Subject, Work, json as to_json};
use arrakis_core::{Answer, Axis, Draw, HookPoint, Host, Kept, PlotSpec, Stack};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tch::{Kind, Tensor};

use super::{SOURCE, expected, half, halves};
use crate::bench::{Numbers, Trouble, files};
use crate::named::Named;

#[test]
fn an_experiment_is_read_back_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let asked = halves(folder.path(), 4);
    let log = Log::open(folder.path());
    let record = log.get(&asked.record.id).unwrap();
    assert_eq!(record, asked.record);
    assert_eq!((record.what, record.status, record.name.as_str()), (Work::Experiment, Status::Completed, "halves"));
    assert_eq!(record.outcome, Some(Outcome::Value));
    assert_eq!(log.result::<serde_json::Value>(&record.id).unwrap(), expected(4));
    assert_eq!(log.source(&record.id).unwrap(), SOURCE);
    assert_eq!(log.source(record.version.as_deref().unwrap()).unwrap(), SOURCE);
    let metrics = log.metrics(&record.id).unwrap();
    let values: Vec<(u64, f64)> = metrics.iter().map(|metric| (metric.step, metric.value)).collect();
    assert_eq!(values, [(0, 4.0), (1, 2.0), (2, 1.0)]);
    assert_eq!(record.metrics, metrics[2..]);
    assert_eq!((record.tags, record.notes[0].text.as_str()), (vec!["even".to_owned()], "half and half"));
    assert_eq!(record.pictures, ["halves.svg"]);
    let names: Vec<&str> = record.files.keys().map(String::as_str).collect();
    let wanted = ["halves.svg", "metrics.jsonl", "result.json", "source.rs", "table.csv", "weights.safetensors"];
    assert_eq!(names, wanted);
    for (name, file) in &record.files {
        let bytes = fs::read(log.run_folder(&record.id).join(name)).unwrap();
        assert_eq!((blake3::hash(&bytes).to_hex().as_str(), bytes.len() as u64), (file.digest.as_str(), file.bytes));
    }
    let tensor = &record.tensors["weights"];
    assert_eq!(
        (tensor.file.as_str(), tensor.dtype.as_str(), &tensor.shape[..]),
        ("weights.safetensors", "float64", &[2][..])
    );
    let bytes: Vec<u8> = [half(4, 0), half(4, 1)].iter().flat_map(|number| number.to_le_bytes()).collect();
    assert_eq!(tensor.digest, blake3::hash(&bytes).to_hex().as_str());
    assert!(record.peak_memory.unwrap() > 1 << 20);
    let environment = &record.environment;
    assert_eq!(environment.executable.as_ref().map(String::len), Some(64));
    assert_eq!(log.fsck().unwrap().damage, []);
}

#[test]
fn tools_asked_in_an_experiment_are_its_calls_and_runs_its_children() {
    let folder = tempfile::tempdir().unwrap();
    let model = Named::new();
    let bench = Bench::new(&model).log_to(folder.path()).seed(5);
    let numbers = |count| Numbers { count, trouble: Trouble::None };
    let asked = bench
        .conduct(&Subject::experiment("outer", json!({})), |bench| {
            bench.run(&numbers(2))?;
            bench.ask("test.numbers", json!({ "count": 2 }))?;
            bench.ask("test.numbers", json!({ "count": 3 }))?;
            assert!(bench.ask("test.numbers", json!({ "count": 3, "trouble": "panic" })).is_err());
            bench.stream("own").uniform();
            bench.conduct(&Subject::experiment("inner", json!({ "of": bench.run_id() })), |bench| {
                bench.stream("inner").uniform();
                Ok(())
            })?;
            Ok(())
        })
        .unwrap();
    let record = asked.record;
    assert_eq!(record.streams, ["numbers", "own"]);
    let calls: Vec<(&str, u64)> =
        record.calls.iter().map(|call| (call.tool.as_str(), call.parameters["count"].as_u64().unwrap())).collect();
    assert_eq!(calls, [("test.numbers", 2), ("test.numbers", 2), ("test.numbers", 3), ("test.numbers", 3)]);
    assert_eq!(record.calls[0].digest, record.calls[1].digest, "the same question has the same answer");
    assert_ne!(record.calls[1].digest, record.calls[2].digest);
    assert_eq!(record.calls[3].error.as_deref(), Some("`test.numbers` panicked: the tool fell over"));
    let log = Log::open(folder.path());
    assert_eq!(log.list().unwrap().len(), 2);
    let children = log.children(&record.id).unwrap();
    assert_eq!(
        (children.len(), children[0].name.as_str(), &children[0].streams[..]),
        (1, "inner", &["inner".to_owned()][..])
    );
    assert_eq!((children[0].parent.as_ref(), children[0].seed), (Some(&record.id), 5));
    assert_eq!(children[0].parameters["of"], json!(record.id));
}

#[test]
fn numbers_that_json_has_no_word_for_survive_anywhere() {
    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    enum Case {
        Unit,
        New(f64),
        Pair(f32, i64),
        Named { x: Option<f64>, text: String },
    }
    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    struct Everything {
        list: Vec<f64>,
        cases: Vec<Case>,
        map: BTreeMap<u32, (f64, String)>,
        none: Option<f64>,
        nothing: (),
        exact: f64,
        whole: u64,
    }
    let value = Everything {
        list: vec![f64::INFINITY, f64::NEG_INFINITY, -0.0, f64::MIN_POSITIVE, 0.1 + 0.2],
        cases: vec![
            Case::Unit,
            Case::New(f64::INFINITY),
            Case::Pair(f32::NEG_INFINITY, -3),
            Case::Named { x: Some(f64::INFINITY), text: "NaN".into() },
        ],
        map: BTreeMap::from([(7, (f64::INFINITY, "Infinity".into()))]),
        none: None,
        nothing: (),
        exact: 0.123_456_789_012_345_68,
        whole: u64::MAX,
    };
    let folder = tempfile::tempdir().unwrap();
    let model = Named::new();
    let bench = Bench::new(&model).log_to(folder.path());
    let asked = bench
        .conduct(&Subject::experiment("odd", json!({})), |bench| {
            bench.metric("nan", 0, f64::NAN)?;
            bench.result(&value)
        })
        .unwrap();
    let log = Log::open(folder.path());
    let id = &asked.record.id;
    assert_eq!(log.result::<Everything>(id).unwrap(), value);
    let text = fs::read_to_string(log.run_folder(id).join("result.json")).unwrap();
    assert_eq!(text.matches("null").count(), 2, "what was null, and nothing else: {text}");
    assert!(log.metrics(id).unwrap()[0].value.is_nan());
    assert!(log.get(id).unwrap().metrics[0].value.is_nan());
    let nan: Vec<f64> = to_json::from_value(to_json::to_value(&[f64::NAN, 1.0]).unwrap()).unwrap();
    assert!(nan[0].is_nan());
    assert!(to_json::from_value::<f64>(json!("nonsense")).is_err());
}

#[test]
fn doubles_come_back_to_the_bit() {
    let mut stream = arrakis_core::Stream::new(3, "doubles");
    let numbers: Vec<f64> =
        (0..10_000).map(|_| stream.normal() * 10_f64.powf(stream.uniform() * 40.0 - 20.0)).collect();
    let text = to_json::to_value(&numbers).unwrap().to_string();
    let back: Vec<f64> = serde_json::from_str(&text).unwrap();
    assert_eq!(back, numbers);
}

#[test]
fn what_belongs_to_a_run_is_refused_elsewhere() {
    let folder = tempfile::tempdir().unwrap();
    let model = Named::new();
    let bench = Bench::new(&model).log_to(folder.path());
    let error = bench.metric("loss", 0, 1.0).unwrap_err().to_string();
    assert_eq!(error, "a metric belongs to a run; record it in an experiment, or within `conduct`");
    let mut kept = None;
    let subject = Subject::experiment("names", json!({}));
    bench
        .conduct(&subject, |bench| {
            for name in ["run.json", "result.json", "README.md", "../up", ".hidden", "", "a/b", "new\nline"] {
                assert!(bench.file(name, b"").is_err(), "{name:?}");
            }
            assert!(bench.tensor("a/b", &Tensor::from(1.0)).is_err());
            assert!(bench.tag("two words").is_err());
            bench.result(&1)?;
            let error = bench.result(&2).unwrap_err().to_string();
            assert!(error.starts_with("result: the run has one already"), "{error}");
            kept = Some(bench.clone());
            Ok(())
        })
        .unwrap();
    let kept = kept.unwrap();
    let error = kept.metric("late", 0, 0.0).unwrap_err().to_string();
    assert!(error.ends_with("it has ended"), "{error}");
    let log = Log::open(folder.path());
    assert_eq!(log.fsck().unwrap().damage, []);
    log.remove(&kept.run_id().unwrap()).unwrap();
}

#[test]
fn a_second_answer_is_refused_and_leaves_the_first() {
    let folder = tempfile::tempdir().unwrap();
    let model = Named::new();
    let bench = Bench::new(&model).log_to(folder.path());
    let answer = |value: f64| {
        let axes = vec![Axis::indices("a", 1), Axis::indices("b", 1)];
        Answer::new()
            .with("stack", Stack::new("Stack", "number", axes, Tensor::from_slice(&[value]).view([1, 1])).unwrap())
    };
    let asked = bench
        .conduct(&Subject::experiment("twice", json!({})), |bench| {
            bench.tensor("other", &Tensor::from(1.0))?;
            bench.answer(&answer(1.0))?;
            assert!(bench.answer(&answer(2.0)).is_err());
            let error = bench.tensor("stack", &Tensor::from(3.0)).unwrap_err().to_string();
            assert!(error.contains("the run has one in `tensors.safetensors`"), "{error}");
            Ok(())
        })
        .unwrap();
    let log = Log::open(folder.path());
    let back = log.answer(&asked.record.id).unwrap();
    assert_eq!(back.split().unwrap().1[0].1, Tensor::from_slice(&[1.0]).view([1, 1]));
    assert_eq!(log.fsck().unwrap().damage, []);
}

/// Falls over in the middle of a picture.
struct Clumsy;

impl Draw for Clumsy {
    fn draw(&self, _: &Answer, folder: &Path) -> arrakis_core::Result<Vec<PathBuf>> {
        fs::write(folder.join("half.svg"), "<svg").unwrap();
        panic!("the pen broke");
    }

    fn reads(&self, _: &PlotSpec, _: &[HookPoint]) -> arrakis_core::Result<Vec<HookPoint>> {
        panic!("it has no eyes");
    }

    fn plot(&self, _: &PlotSpec, _: Kept<'_>, _: &Path) -> arrakis_core::Result<()> {
        panic!("the pen broke");
    }
}

#[test]
fn a_panic_while_drawing_leaves_nothing_half_written() {
    let folder = tempfile::tempdir().unwrap();
    let model = Named::new();
    let bench = Bench::new(&model).log_to(folder.path()).draw(&Clumsy);
    let error = bench.ask("test.numbers", json!({ "count": 1 })).unwrap_err().to_string();
    assert_eq!(error, "`test.numbers` panicked: the pen broke");
    let log = Log::open(folder.path());
    let record = log.list().unwrap().pop().unwrap();
    assert_eq!(record.status, Status::Failed);
    assert_eq!(files(&log.run_folder(&record.id)), ["result.json", "run.json", "tensors.safetensors"]);
    assert_eq!(log.fsck().unwrap().damage, []);
}

struct Impatient;

impl Host for Impatient {
    fn cancelled(&self) -> bool {
        true
    }
}

#[test]
fn an_experiment_ends_as_it_ended() {
    let folder = tempfile::tempdir().unwrap();
    let model = Named::new();
    let bench = Bench::new(&model).log_to(folder.path());
    let log = Log::open(folder.path());
    let subject = Subject::experiment("ends", json!({}));
    let last = || log.list().unwrap().pop().unwrap();
    let other: Box<dyn std::error::Error + Send + Sync> = "no such luck".into();
    let error = bench.conduct::<()>(&subject, |_| Err(Error::from(other))).unwrap_err();
    assert_eq!(error.to_string(), "no such luck");
    assert_eq!((last().status, last().error.as_deref()), (Status::Failed, Some("no such luck")));
    assert!(bench.conduct::<()>(&subject, |_| panic!("fell over")).is_err());
    assert_eq!((last().status, last().error.as_deref()), (Status::Failed, Some("`ends` panicked: fell over")));
    // LibTorch's words without the C++ backtrace behind them.
    assert!(bench.conduct(&subject, |_| Ok(Tensor::from(1.0).reshape([2]))).is_err());
    let why = last().error.unwrap();
    assert!(why.contains("invalid for input of size 1") && !why.contains("Exception raised"), "{why}");
    let cancelled = bench.clone().host(&Impatient).conduct(&subject, |bench| {
        bench.metric("step", 1, 1.0)?;
        bench.progress(1, 2)
    });
    assert!(cancelled.is_err());
    assert_eq!((last().status, last().metrics.len()), (Status::Interrupted, 1));
    assert_eq!(log.fsck().unwrap().damage, []);
}

#[test]
fn tensors_of_every_kind_have_digests_of_their_own() {
    let folder = tempfile::tempdir().unwrap();
    let model = Named::new();
    let bench = Bench::new(&model).log_to(folder.path());
    let asked = bench
        .conduct(&Subject::experiment("kinds", json!({})), |bench| {
            for kind in [Kind::Float, Kind::Half, Kind::Int64, Kind::Bool] {
                let tensor = Tensor::from_slice(&[0.0, 0.0, 2.0, 1.0]).view([2, 2]).to_kind(kind);
                bench.tensor(&format!("{kind:?}"), &tensor)?;
                bench.tensor(&format!("{kind:?} turned"), &tensor.tr())?;
            }
            Ok(())
        })
        .unwrap();
    let digests: std::collections::BTreeSet<&String> =
        asked.record.tensors.values().map(|tensor| &tensor.digest).collect();
    assert_eq!((asked.record.tensors.len(), digests.len()), (8, 8));
    assert_eq!(files(&asked.folder.unwrap()).len(), 9);
}

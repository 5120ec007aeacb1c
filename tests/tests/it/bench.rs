//! The bench and its log: what is written, what is read back, and what is left behind when things go wrong.

use std::cell::RefCell;
use std::fs;
use std::path::{Path, PathBuf};

use arrakis_bench::{Asked, Bench, Error, Log, Record, Status};
use arrakis_core::print::Room;
use arrakis_core::{
    Answer, Axis, Context, Draw, Grid, HookPoint, Host, Kept, PlotSpec, Result, Stack, Tool, register_tools,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tch::{Kind, Tensor};

use crate::named::{Named, refuse};

/// Draws random numbers, or does what a broken tool does.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Numbers {
    /// How many.
    pub(crate) count: usize,
    /// What goes wrong, if anything.
    #[serde(default)]
    pub(crate) trouble: Trouble,
}

#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Trouble {
    #[default]
    None,
    Error,
    Panic,
}

impl Tool for Numbers {
    const NAME: &'static str = "test.numbers";
    type Output = Answer;

    fn run(&self, cx: &Context<'_>) -> Result<Answer> {
        match self.trouble {
            Trouble::None => {}
            Trouble::Error => return refuse(),
            Trouble::Panic => panic!("the tool fell over"),
        }
        let mut stream = cx.stream("numbers");
        let values: Vec<f64> = (0..self.count).map(|_| stream.uniform()).collect();
        let axes = || (Axis::new("row", ["only"]), Axis::indices("column", self.count));
        let shape = [1, 1, self.count as i64];
        let stack = Stack::new(
            "Stack",
            "number",
            vec![Axis::indices("a", 1), Axis::indices("b", 1), axes().1],
            Tensor::f_from_slice(&values)?.f_view(shape)?,
        )?;
        let mut odd = values.clone();
        odd.push(f64::NAN);
        odd.push(f64::NEG_INFINITY);
        let odd = Grid::new("Odd", "number", axes().0, Axis::indices("column", odd.len()), odd)?;
        Ok(Answer::new().with("odd", odd).with("stack", stack).with("count", self.count as f64))
    }
}

register_tools!(Numbers);

/// Writes one file, or fails.
struct Pen {
    fails: bool,
}

impl Draw for Pen {
    fn draw(&self, answer: &Answer, folder: &Path) -> Result<Vec<PathBuf>> {
        if self.fails {
            return Err(arrakis_core::Error::Invalid { what: "pen".into(), why: "it is dry".into() });
        }
        let path = folder.join("odd.svg");
        fs::write(&path, answer.text(Room { width: 80, rows: 36 })).unwrap();
        Ok(vec![path])
    }

    fn reads(&self, _: &PlotSpec, known: &[HookPoint]) -> Result<Vec<HookPoint>> {
        Ok(known.to_vec())
    }

    fn plot(&self, spec: &PlotSpec, _: Kept<'_>, file: &Path) -> Result<()> {
        fs::write(file, &spec.kind).unwrap();
        Ok(())
    }
}

#[derive(Default)]
struct Listener(RefCell<Vec<String>>);

impl Host for Listener {
    fn log(&self, line: &str) {
        self.0.borrow_mut().push(line.to_owned());
    }
}

fn ask(folder: &Path, parameters: Value) -> Result<Asked<Answer>, Error> {
    Bench::new(&Named::new()).log_to(folder).ask("test.numbers", parameters)
}

fn json_of(answer: &Answer) -> Value {
    answer.split().unwrap().0
}

pub(crate) fn files(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// Writes a record as the bench does, with its digest at the end.
pub(crate) fn write_record(path: &Path, record: &Record) {
    let text = serde_json::to_string_pretty(record).unwrap();
    let body = text.strip_suffix("\n}").unwrap();
    let digest = blake3::hash(body.as_bytes()).to_hex();
    fs::write(path, format!("{body},\n  \"digest\": \"{digest}\"\n}}\n")).unwrap();
}

#[test]
fn a_run_is_read_back_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let (model, pen) = (Named::new(), Pen { fails: false });
    let bench = Bench::new(&model).named("a name").log_to(folder.path()).seed(3).draw(&pen);
    let asked = bench.run(&Numbers { count: 2, trouble: Trouble::None }).unwrap();
    let run = asked.folder.clone().unwrap();
    assert_eq!(files(&run), ["odd.svg", "result.json", "run.json", "tensors.safetensors"]);
    assert_eq!(asked.pictures(), [run.join("odd.svg")]);

    let log = Log::open(folder.path());
    let record = log.get(&asked.record.id[..6]).unwrap();
    assert_eq!(record, asked.record);
    assert_eq!(record.status, Status::Completed);
    assert_eq!(record.parameters, json!({ "count": 2, "trouble": "none" }));
    assert_eq!((record.seed, record.model.name.as_deref()), (3, Some("a name")));
    assert_eq!(record.environment.libtorch.as_deref(), Some("2.11.0"));
    assert!(record.ended.unwrap() >= record.started);

    let answer = log.answer(&record.id).unwrap();
    assert_eq!(json_of(&answer), json_of(&asked.answer));
    assert_eq!(answer.split().unwrap().1[0].1, asked.answer.split().unwrap().1[0].1);
    let text = fs::read_to_string(run.join("result.json")).unwrap();
    assert!(text.contains("\"NaN\"") && text.contains("\"-Infinity\"") && !text.contains("null"));
}

#[test]
fn the_key_is_of_what_determines_the_result() {
    let folder = tempfile::tempdir().unwrap();
    let model = Named::new();
    let bench = Bench::new(&model).log_to(folder.path());
    let key = |bench: &Bench, parameters: Value| bench.ask("test.numbers", parameters).unwrap().record.key;
    let first = key(&bench, json!({ "count": 2 }));
    assert_eq!(first, key(&bench, json!({ "trouble": "none", "count": 2 })), "defaults and order change nothing");
    assert_eq!(first, bench.run(&Numbers { count: 2, trouble: Trouble::None }).unwrap().record.key);
    assert_eq!(first, key(&bench.clone().named("another name"), json!({ "count": 2 })));
    assert_ne!(first, key(&bench, json!({ "count": 3 })));
    assert_ne!(first, key(&bench.clone().seed(1), json!({ "count": 2 })));
    let records = Log::open(folder.path()).list().unwrap();
    assert_eq!(records.len(), 6);
    assert!(records.is_sorted_by_key(|record| record.started));
}

#[test]
fn the_seed_determines_the_answer() {
    let folder = tempfile::tempdir().unwrap();
    let answer = || json_of(&ask(folder.path(), json!({ "count": 4 })).unwrap().answer);
    assert_eq!(answer(), answer());
}

#[test]
fn a_failed_run_is_logged_with_its_error() {
    let folder = tempfile::tempdir().unwrap();
    let error = ask(folder.path(), json!({ "count": 1, "trouble": "error" })).unwrap_err();
    assert_eq!(error.to_string(), "this model has no tokenizer; give token ids in place of text");
    let log = Log::open(folder.path());
    let record = &log.list().unwrap()[0];
    assert_eq!((record.status, record.error.as_deref()), (Status::Failed, Some(error.to_string().as_str())));
    assert_eq!(files(&log.run_folder(&record.id)), ["run.json"]);
    let error = log.answer(&record.id).unwrap_err().to_string();
    assert!(error.contains("has no result: it is failed (this model has no tokenizer"), "{error}");
}

#[test]
fn a_panic_is_an_error_with_its_message() {
    let folder = tempfile::tempdir().unwrap();
    let error = ask(folder.path(), json!({ "count": 1, "trouble": "panic" })).unwrap_err();
    assert_eq!(error.to_string(), "`test.numbers` panicked: the tool fell over");
    assert_eq!(Log::open(folder.path()).list().unwrap()[0].status, Status::Failed);
}

#[test]
fn a_picture_that_fails_costs_no_result() {
    let folder = tempfile::tempdir().unwrap();
    let (model, pen, listener) = (Named::new(), Pen { fails: true }, Listener::default());
    let bench = Bench::new(&model).log_to(folder.path()).draw(&pen).host(&listener);
    let asked = bench.ask("test.numbers", json!({ "count": 1 })).unwrap();
    assert_eq!(asked.record.status, Status::Completed);
    assert_eq!(asked.record.warnings, ["no picture: pen: it is dry"]);
    assert_eq!(*listener.0.borrow(), asked.record.warnings);
}

#[test]
fn wrong_parameters_are_named_before_anything_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let wrong = |parameters: Value| ask(folder.path(), parameters).unwrap_err().to_string();
    insta::assert_snapshot!(wrong(json!({ "count": 1, "truble": "none" })), @"`test.numbers`: there is no field `truble`; the nearest is `trouble`; `arrakis tools show test.numbers` lists its fields");
    insta::assert_snapshot!(wrong(json!({})), @"`test.numbers`: `count` must be given; `arrakis tools show test.numbers` lists its fields");
    insta::assert_snapshot!(wrong(json!([1])), @"`test.numbers`: parameters are a JSON object, and this is `[1]`; `arrakis tools show test.numbers` lists its fields");
    let error = wrong(json!({ "count": -1 }));
    assert!(error.contains("is `-1` where at least 0 is wanted"), "{error}");
    let error = Bench::new(&Named::new()).log_to(folder.path()).ask("test.number", json!({})).unwrap_err();
    insta::assert_snapshot!(error, @"there is no tool `test.number`; the nearest is `test.numbers`; `arrakis tools` lists them");
    assert!(files(folder.path()).is_empty());
}

#[test]
fn nothing_is_logged_where_nothing_is_wanted() {
    let model = Named::new();
    let asked = Bench::new(&model).unlogged().ask("test.numbers", json!({ "count": 1 })).unwrap();
    assert_eq!((asked.folder, asked.record.status), (None, Status::Completed));
}

#[test]
fn a_log_that_cannot_be_written_is_an_error_before_the_tool_runs() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("taken");
    fs::write(&file, "").unwrap();
    let error = ask(&file, json!({ "count": 1, "trouble": "panic" })).unwrap_err().to_string();
    assert!(error.starts_with("cannot make `") && error.contains("taken/runs`"), "{error}");
}

#[test]
fn a_run_whose_process_is_gone_is_interrupted() {
    let folder = tempfile::tempdir().unwrap();
    let asked = ask(folder.path(), json!({ "count": 1 })).unwrap();
    let path = asked.folder.unwrap().join("run.json");
    let mut record = asked.record;
    (record.status, record.ended) = (Status::Running, None);
    write_record(&path, &record);
    let log = Log::open(folder.path());
    assert_eq!(log.get(&record.id).unwrap().status, Status::Interrupted);
    let lock = fs::File::open(path.parent().unwrap()).unwrap();
    lock.lock().unwrap();
    assert_eq!(log.get(&record.id).unwrap().status, Status::Running);
    assert!(log.answer(&record.id).unwrap_err().to_string().ends_with("has no result: it is running"));
}

#[test]
fn what_is_not_there_or_damaged_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let log = Log::open(folder.path());
    assert!(log.list().unwrap().is_empty());
    let error = log.get("abc").unwrap_err().to_string();
    assert_eq!(error, format!("there is no run `abc` in `{}`", folder.path().display()));
    for id in ["aaab", "aaac"] {
        let mut record = ask(folder.path(), json!({ "count": 1 })).unwrap().record;
        fs::rename(log.run_folder(&record.id), log.run_folder(id)).unwrap();
        record.id = id.into();
        write_record(&log.run_folder(id).join("run.json"), &record);
    }
    assert_eq!(
        log.get("aaa").unwrap_err().to_string(),
        "`aaa` begins 2 runs, aaab and aaac among them; give more of it"
    );
    fs::rename(log.run_folder("aaab"), log.run_folder("moved")).unwrap();
    assert!(log.get("moved").unwrap_err().to_string().ends_with("is damaged: it is of run `aaab`"));
    fs::rename(log.run_folder("moved"), log.run_folder("aaab")).unwrap();
    let path = log.run_folder("aaab").join("run.json");
    fs::write(&path, "{ \"format\": 99 }").unwrap();
    assert!(matches!(log.get("aaab").unwrap_err(), Error::Newer { format: 99, .. }));
    fs::write(&path, "{ \"format\": 1").unwrap();
    assert!(matches!(log.get("aaab").unwrap_err(), Error::Damaged { .. }));
    fs::write(log.run_folder("aaac").join("tensors.safetensors"), "short").unwrap();
    assert!(matches!(log.answer("aaac").unwrap_err(), Error::Damaged { .. }));
}

#[test]
fn tensors_keep_their_kind_and_shape() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tensors.safetensors");
    let kinds = [Kind::Bool, Kind::Int64, Kind::Half, Kind::BFloat16, Kind::Float, Kind::Double];
    let tensors: Vec<(String, Tensor)> = kinds
        .iter()
        .map(|kind| (format!("{kind:?}"), Tensor::from_slice(&[0.0, 1.0, 2.5, -3.0]).view([2, 2]).to_kind(*kind).tr()))
        .collect();
    arrakis_bench::write_tensors(&path, tensors.iter().map(|(name, tensor)| (name.clone(), tensor))).unwrap();
    let read = arrakis_bench::read_tensors(&path).unwrap();
    for (name, tensor) in &tensors {
        let found = &read.iter().find(|(known, _)| known == name).unwrap().1;
        assert_eq!((found.kind(), found.size()), (tensor.kind(), tensor.size()));
        assert_eq!(found, tensor);
    }
    assert_eq!(files(folder.path()), ["tensors.safetensors"]);
    let error = arrakis_bench::write_tensors(&folder.path().join("no/such/folder"), []).unwrap_err().to_string();
    assert!(error.starts_with("cannot write `"), "{error}");
}

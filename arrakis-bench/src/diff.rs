//! `diff`: what two runs differ in — code, parameters, environment, numbers.

use std::collections::{BTreeSet, HashMap};

use serde::Serialize;
use serde_json::{Map, Value};

use crate::writing::{METRICS, RESULT, SOURCE, TENSORS};
use crate::{
    Difference, Error, Log, Metric, Outcome, Record, Result, Status, compare_answers, compare_json, compare_tensors,
    tensors,
};

/// The fields of a record that say what was asked.
const ASKED: [&str; 10] =
    ["what", "name", "owner", "version", "parameters", "seed", "memory_limit", "model", "plugins", "read"];

/// What two runs differ in.
#[derive(Debug, Clone, Serialize)]
pub struct Diff {
    /// The id of the first run.
    pub a: String,
    /// The id of the second.
    pub b: String,
    /// The code as a unified diff, where it differs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// What the runs were asked: name, version, parameters, seed, model, files.
    pub asked: Vec<Change>,
    /// What they ran on.
    pub environment: Vec<Change>,
    /// The results, part by part, equal parts too; nothing where one of them has none.
    pub results: Vec<Difference>,
    /// The metrics, one by one.
    pub metrics: Vec<Difference>,
    /// The tools that were asked within, where the answers or the questions differ.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub calls: Vec<String>,
    /// Pictures and files of the runs' own, or outside the log, that are not equal, or that only one of them has.
    pub files: Vec<String>,
    /// What could not be compared, and why.
    pub notes: Vec<String>,
}

/// A field that differs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Change {
    /// The field, and the path into it: `parameters.layer`.
    pub field: String,
    /// What the first run has, if it has it.
    pub a: Option<Value>,
    /// What the second has.
    pub b: Option<Value>,
}

impl Diff {
    /// Whether results and metrics are equal within the tolerance, and both runs have a result.
    #[must_use]
    pub fn same_numbers(&self) -> bool {
        self.notes.is_empty() && self.results.iter().chain(&self.metrics).all(Difference::is_none)
    }
}

impl Log {
    /// What two runs differ in; numbers at most `tolerance` apart are equal.
    pub fn diff(&self, a: &str, b: &str, tolerance: f64) -> Result<Diff> {
        let (a, b) = (self.get(a)?, self.get(b)?);
        let mut diff = Diff {
            code: self.code(&a, &b)?,
            asked: changes(&a, &b, &ASKED)?,
            environment: environment(&a, &b)?,
            results: Vec::new(),
            metrics: self.compare_metrics(&a, &b, tolerance)?,
            calls: calls(&a, &b),
            files: files(&a, &b),
            notes: Vec::new(),
            a: a.id.clone(),
            b: b.id.clone(),
        };
        for record in [&a, &b] {
            if record.status != Status::Completed {
                diff.notes.push(format!("run {} has no result: it is {}", record.id, record.status));
            }
        }
        if diff.notes.is_empty() {
            self.compare_results(&a, &b, tolerance, &mut diff)?;
        }
        Ok(diff)
    }

    fn code(&self, a: &Record, b: &Record) -> Result<Option<String>> {
        let source = |record: &Record| {
            if record.files.contains_key(SOURCE) { self.source(&record.id) } else { Ok(String::new()) }
        };
        let (code_a, code_b) = (source(a)?, source(b)?);
        if code_a == code_b {
            return Ok(None);
        }
        let diff = similar::TextDiff::from_lines(&code_a, &code_b);
        let (a, b) = (format!("{}/{SOURCE}", a.id), format!("{}/{SOURCE}", b.id));
        Ok(Some(diff.unified_diff().context_radius(3).header(&a, &b).to_string()))
    }

    fn compare_results(&self, a: &Record, b: &Record, tolerance: f64, diff: &mut Diff) -> Result<()> {
        match (a.kind(), b.kind()) {
            (None, None) => {}
            (Some(Outcome::Answer), Some(Outcome::Answer)) => {
                diff.results = compare_answers(&self.answer(&a.id)?, &self.answer(&b.id)?, tolerance)?;
            }
            (Some(Outcome::Value), Some(Outcome::Value)) => {
                diff.results = compare_json(&self.result_json(&a.id)?, &self.result_json(&b.id)?, tolerance);
            }
            (a, b) => {
                let shown = |kind: Option<Outcome>| kind.map_or("none".to_owned(), |kind| kind.to_string());
                diff.notes.push(format!("the results are of two kinds: {} and {}", shown(a), shown(b)));
            }
        }
        // The tensors of an answer belong to it; these are the experiment's own.
        let own = |record: &Record| -> BTreeSet<String> {
            let own = record.tensors.iter().filter(|(_, tensor)| tensor.file != TENSORS);
            own.map(|(name, _)| name.clone()).collect()
        };
        let (own_a, own_b) = (own(a), own(b));
        for name in own_a.intersection(&own_b) {
            let (a, b) = (self.tensor(a, name)?, self.tensor(b, name)?);
            diff.results.push(compare_tensors(name, &a, &b, tolerance)?);
        }
        for name in own_a.symmetric_difference(&own_b) {
            let only = if own_a.contains(name) { &a.id } else { &b.id };
            diff.notes.push(format!("only run {only} has the tensor `{name}`"));
        }
        Ok(())
    }

    /// A tensor of a run, by its name.
    fn tensor(&self, record: &Record, name: &str) -> Result<tch::Tensor> {
        let file = &record.tensors[name].file;
        let path = self.run_folder(&record.id).join(file);
        let mut named = tensors::tensors_in(&self.bytes(record, file)?, &path)?;
        let place = named.iter().position(|(known, _)| known == name);
        let place = place.ok_or_else(|| Error::damaged(&path, format!("it has no tensor `{name}`")))?;
        Ok(named.swap_remove(place).1)
    }

    fn compare_metrics(&self, a: &Record, b: &Record, tolerance: f64) -> Result<Vec<Difference>> {
        let json = |record: &Record| -> Result<Value> {
            let mut metrics = Map::new();
            let mut values: HashMap<(String, u64), u64> = HashMap::new();
            for Metric { name, step, value } in self.metrics(&record.id)? {
                let place = values.entry((name.clone(), step)).or_default();
                *place += 1;
                let place = if *place == 1 { format!("step {step}") } else { format!("step {step}, value {place}") };
                if let Value::Object(steps) = metrics.entry(name).or_insert_with(|| Value::Object(Map::new())) {
                    steps.insert(place, arrakis_core::number::to_value(value));
                }
            }
            Ok(Value::Object(metrics))
        };
        Ok(compare_json(&json(a)?, &json(b)?, tolerance))
    }
}

/// The calls of two runs that are not the same question with the same answer, to the bit.
fn calls(a: &Record, b: &Record) -> Vec<String> {
    let of = |record: &'_ Record, place: usize| record.calls.get(place).map(|call| call.tool.clone());
    let same = |place: usize| match (a.calls.get(place), b.calls.get(place)) {
        (Some(a), Some(b)) => {
            (&a.tool, &a.parameters, &a.digest, &a.error) == (&b.tool, &b.parameters, &b.digest, &b.error)
        }
        _ => false,
    };
    let places = (0..a.calls.len().max(b.calls.len())).filter(|place| !same(*place));
    places
        .map(|place| format!("call {place}, `{}`", of(a, place).or_else(|| of(b, place)).unwrap_or_default()))
        .collect()
}

/// The files that differ and are not compared in another way.
fn files(a: &Record, b: &Record) -> Vec<String> {
    let tensors = |record: &Record, name: &String| record.tensors.values().any(|tensor| tensor.file == *name);
    let other =
        |name: &&String| ![RESULT, SOURCE, METRICS].contains(&name.as_str()) && !tensors(a, name) && !tensors(b, name);
    let names: BTreeSet<&String> = a.files.keys().chain(b.files.keys()).filter(other).collect();
    let own = names.into_iter().filter(|name| a.files.get(*name) != b.files.get(*name));
    let paths: BTreeSet<&String> = a.wrote.keys().chain(b.wrote.keys()).collect();
    let outside = paths.into_iter().filter(|path| a.wrote.get(*path) != b.wrote.get(*path));
    own.chain(outside).cloned().collect()
}

/// What the environments differ in, the process apart.
fn environment(a: &Record, b: &Record) -> Result<Vec<Change>> {
    let mut changes = changes(a, b, &["environment"])?;
    changes.retain(|change| change.field != "environment.pid");
    Ok(changes)
}

/// The fields of two records that differ, from among those.
fn changes(a: &Record, b: &Record, fields: &[&str]) -> Result<Vec<Change>> {
    let json = |record: &Record| serde_json::to_value(record).map_err(arrakis_core::Error::from);
    let (a, b) = (json(a)?, json(b)?);
    let mut changes = Vec::new();
    for field in fields {
        changed(a.get(*field), b.get(*field), field, &mut changes);
    }
    Ok(changes)
}

fn changed(a: Option<&Value>, b: Option<&Value>, field: &str, changes: &mut Vec<Change>) {
    match (a, b) {
        (a, b) if a == b => {}
        (Some(Value::Object(a)), Some(Value::Object(b))) => {
            let keys = a.keys().chain(b.keys().filter(|key| !a.contains_key(*key)));
            for key in keys {
                changed(a.get(key), b.get(key), &format!("{field}.{key}"), changes);
            }
        }
        (a, b) => changes.push(Change { field: field.to_owned(), a: a.cloned(), b: b.cloned() }),
    }
}

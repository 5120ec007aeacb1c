//! A run as text: what is known of it, and its result.

use std::fmt::Display;

use arrakis_core::print::Room;
use serde_json::{Value, json};

use super::{Said, json_of, lines};
use crate::{Log, Record, Result, Status, page};

/// What is known of a run, and its result.
pub(super) fn run(log: &Log, run: &str, json: bool, room: Room) -> Result<Said> {
    let record = log.get(run)?;
    let folder = log.run_folder(&record.id);
    let completed = record.status == Status::Completed;
    if json {
        let result = if completed && record.kind().is_some() { log.result_json(&record.id)? } else { Value::Null };
        return Ok(Said::json(&json!({ "run": json_of(&record)?, "folder": folder, "result": result })));
    }
    let mut said = vec![format!("{} {}", record.what, record.name)];
    said.extend(page::facts(&record).into_iter().map(|(name, value)| line(name, value)));
    said.push(line("folder", folder.display()));
    said.extend(recorded(&record));
    let children = log.children(&record.id)?;
    said.extend(
        children.iter().map(|child| line("part", format_args!("{} {} {}", child.id, child.status, child.name))),
    );
    if completed {
        said.extend([String::new(), page::result(log, &record, room)?]);
    }
    Ok(Said::results(lines(said)))
}

fn line(name: &str, value: impl Display) -> String {
    format!("{name:15} {value}")
}

/// What a run recorded of itself.
fn recorded(record: &Record) -> Vec<String> {
    let mut said = vec![line("parameters", &record.parameters)];
    for (name, file) in &record.files {
        said.push(line("file", format_args!("{name}, {} bytes", file.bytes)));
    }
    for (name, tensor) in &record.tensors {
        said.push(line("tensor", format_args!("{name} {:?} {} in {}", tensor.shape, tensor.dtype, tensor.file)));
    }
    for call in &record.calls {
        let ended = call.error.as_deref().or(call.digest.as_deref().map(page::short)).unwrap_or_default();
        said.push(line("asked", format_args!("{} {} ({:.2} s): {ended}", call.tool, call.parameters, call.seconds)));
    }
    for metric in &record.metrics {
        said.push(line("metric", format_args!("{} = {} at step {}", metric.name, metric.value, metric.step)));
    }
    for note in &record.notes {
        said.push(line("note", format_args!("{}: {}", note.written, note.text)));
    }
    said.extend(record.warnings.iter().map(|warning| line("warning", warning)));
    said
}

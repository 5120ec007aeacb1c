//! A run as a page of Markdown.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use arrakis_core::print::Room;
use serde_json::Value;

use crate::writing::SOURCE;
use crate::{FileRecord, Log, Outcome, Record, Result, Status};

/// The rows and columns of its tables.
const ROOM: Room = Room { width: 100, rows: 36 };

/// The page of a run: what it is, its result, its pictures, its code.
pub(crate) fn page(log: &Log, record: &Record) -> Result<String> {
    let mut page = format!("# {} {}\n\n", record.what, record.name);
    for (name, value) in facts(record) {
        let _ = writeln!(page, "- {name}: {value}");
    }
    section(&mut page, "Parameters", &fenced("json", &pretty(&record.parameters)));
    if record.status == Status::Completed {
        section(&mut page, "Result", &fenced("", &result(log, record, ROOM)?));
    }
    if !record.metrics.is_empty() {
        let row = |metric: &crate::Metric| format!("| {} | {} | {} |\n", metric.name, metric.step, metric.value);
        let rows: String = record.metrics.iter().map(row).collect();
        section(&mut page, "Metrics", &format!("| metric | last step | value |\n|---|---|---|\n{rows}"));
    }
    if !record.pictures.is_empty() {
        let pictures: Vec<String> = record.pictures.iter().map(|name| format!("![{name}](<{name}>)\n")).collect();
        section(&mut page, "Pictures", &pictures.join("\n"));
    }
    if !record.notes.is_empty() {
        let notes: Vec<String> = record.notes.iter().map(|note| format!("- {}: {}", note.written, note.text)).collect();
        section(&mut page, "Notes", &notes.join("\n"));
    }
    if record.files.contains_key(SOURCE) {
        section(&mut page, "Code", &fenced("rust", &log.source(&record.id)?));
    }
    Ok(page)
}

/// What is known of a run, by name.
pub(crate) fn facts(record: &Record) -> Vec<(&'static str, String)> {
    let environment = &record.environment;
    let git = environment.git.as_ref().map(|git| match &git.dirty {
        Some(dirty) => format!("{}, changed ({})", git.commit, short(dirty)),
        None => git.commit.clone(),
    });
    let model = [
        Some(record.model.name.clone().unwrap_or_else(|| record.model.family.clone())),
        Some(format!("digest {}", short(&record.model.digest))),
        record.model.layout.clone(),
    ];
    let joined = |words: &[Option<String>]| words.iter().flatten().cloned().collect::<Vec<_>>().join(", ");
    let error = record.error.as_ref().map(|error| format!(" ({error})")).unwrap_or_default();
    let libtorch = environment.libtorch.as_ref().map(|version| format!("LibTorch {version}"));
    let list = |words: &[String]| (!words.is_empty()).then(|| words.join(", "));
    let plugins: Vec<String> =
        record.plugins.iter().map(|plugin| format!("{} {}", plugin.name, short(&plugin.digest))).collect();
    let files = |files: &BTreeMap<String, FileRecord>| {
        let files: Vec<String> = files.iter().map(|(path, file)| format!("{path} ({})", short(&file.digest))).collect();
        list(&files)
    };
    let facts = [
        ("run", Some(record.id.clone())),
        ("status", Some(format!("{}{error}", record.status))),
        ("started", Some(record.started.to_string())),
        ("seconds", record.seconds.map(|seconds| format!("{seconds:.3}"))),
        ("peak memory", record.peak_memory.map(|bytes| format!("{} MiB", bytes >> 20))),
        ("part of", record.parent.clone()),
        ("from", record.owner.clone()),
        ("version", record.version.clone()),
        ("model", Some(joined(&model))),
        ("seed", Some(record.seed.to_string())),
        ("random streams", list(&record.streams)),
        ("read", files(&record.read)),
        ("wrote", files(&record.wrote)),
        (
            "ran on",
            Some(joined(&[
                Some(environment.device.clone()),
                environment.accelerator.clone(),
                Some(environment.dtype.clone()),
                Some(format!("{} threads", environment.threads)),
            ])),
        ),
        (
            "with",
            Some(joined(&[
                Some(format!("arrakis {}", environment.arrakis)),
                libtorch,
                Some(environment.system.clone()),
            ])),
        ),
        ("plugins", list(&plugins)),
        ("program", environment.program.clone()),
        ("commit", git),
        ("tags", list(&record.tags)),
        ("key", Some(record.key.clone())),
    ];
    facts.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
}

/// The result of a run as text: shapes as tables, anything else as JSON.
pub(crate) fn result(log: &Log, record: &Record, room: Room) -> Result<String> {
    match record.kind() {
        Some(Outcome::Value) => Ok(pretty(&log.result_json(&record.id)?)),
        Some(Outcome::Answer) => Ok(log.answer(&record.id)?.text(room)),
        None => Ok("none was stored".to_owned()),
    }
}

pub(crate) fn pretty(value: &Value) -> String {
    serde_json::to_string_pretty(value).unwrap_or_else(|_| value.to_string())
}

/// The first letters of a digest, which tell it from others.
pub(crate) fn short(digest: &str) -> &str {
    digest.get(..12).unwrap_or(digest)
}

fn section(page: &mut String, title: &str, text: &str) {
    let _ = write!(page, "\n## {title}\n\n{}\n", text.trim_end());
}

/// A block of code, fenced by more quotes than it has in a row.
fn fenced(language: &str, text: &str) -> String {
    let longest = text.split(|letter| letter != '`').map(str::len).max().unwrap_or(0);
    let fence = "`".repeat(longest.max(2) + 1);
    format!("{fence}{language}\n{}\n{fence}", text.trim_end())
}

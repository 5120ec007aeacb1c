//! Runs and versions as tables.

use jiff::Timestamp;
use serde_json::json;

use super::table::table;
use super::{Choice, Said, json_of, lines};
use crate::{Listing, Log, Query, Record, Result, page};

/// The runs that every term holds for.
pub(super) fn runs(log: &Log, terms: &[String], choice: &Choice) -> Result<Said> {
    let mut query = Query::parse(terms)?;
    if let Some(field) = &choice.sort {
        query = query.sort(field)?;
    }
    if let Some(limit) = choice.limit {
        query = query.limit(limit.get());
    }
    let Listing { records, damaged } = log.query(&query)?;
    let mut words: Vec<String> = damaged.iter().map(|damage| format!("not listed: {damage}")).collect();
    if records.is_empty() {
        let folder = log.folder().display();
        words.push(if terms.is_empty() {
            format!("no run in {folder}")
        } else {
            format!("no run of {folder} matches")
        });
    }
    let said = if choice.json {
        let damaged: Vec<String> = damaged.iter().map(ToString::to_string).collect();
        Said::json(&json!({ "runs": json_of(&records)?, "damaged": damaged }))
    } else {
        let head = ["run", "started (UTC)", "status", "name", "took", "model", "tags"];
        Said::results(table(head, records.iter().map(row)))
    };
    Ok(Said { words: lines(words), ..said })
}

fn row(record: &Record) -> [String; 7] {
    [
        record.id.clone(),
        second(record.started),
        record.status.to_string(),
        record.name.clone(),
        record.seconds.map(|seconds| format!("{seconds:.2} s")).unwrap_or_default(),
        record.model.name.clone().unwrap_or_else(|| record.model.family.clone()),
        record.tags.join(","),
    ]
}

/// The codes that an experiment has had.
pub(super) fn versions(log: &Log, name: &str, json: bool) -> Result<Said> {
    let versions = log.versions(name)?;
    if json {
        return Ok(Said::json(&json!({ "name": name, "versions": json_of(&versions)? })));
    }
    let rows = versions.iter().map(|version| {
        let short = page::short(&version.version).to_owned();
        let last_run = version.last_run.clone();
        [short, version.runs.to_string(), second(version.first), second(version.last), last_run]
    });
    Ok(Said::results(table(["version", "runs", "first (UTC)", "last (UTC)", "last run"], rows)))
}

/// A moment to the second: `2026-01-31 12:00:00`.
fn second(moment: Timestamp) -> String {
    moment.to_string().get(..19).unwrap_or_default().replace('T', " ")
}

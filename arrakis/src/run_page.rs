//! What a page says of a run: what it was, what it was asked, what it found, and its source.

use anyhow::Result;
use arrakis_bench::{Error, Log, Outcome, Record, Status};
use arrakis_core::{Axis, Series};
use arrakis_graph::Page;

/// Adds a run to a page; a result that cannot be read is said and spoils nothing.
pub(crate) fn add(page: Page, log: &Log, record: &Record) -> Result<Page> {
    let mut page = page.facts(&facts(record));
    for note in &record.notes {
        page = page.paragraph(&format!("{}: {}", note.written, note.text));
    }
    if let Some(error) = &record.error {
        page = page.paragraph(&format!("error: {error}"));
    }
    for warning in &record.warnings {
        page = page.paragraph(&format!("warning: {warning}"));
    }
    page = page.listing("parameters", &pretty(&record.parameters));
    page = result(page, log, record);
    page = metrics(page, log, record)?;
    if !record.calls.is_empty() {
        let rows: Vec<Vec<arrakis_graph::Cell>> = record
            .calls
            .iter()
            .map(|call| {
                let error = call.error.clone().unwrap_or_default();
                vec![
                    call.tool.clone().into(),
                    call.parameters.to_string().into(),
                    seconds(call.seconds).into(),
                    error.into(),
                ]
            })
            .collect();
        page = page.heading("Tools that were asked").table(&["tool", "parameters", "seconds", "error"], &rows);
    }
    Ok(match log.source(&record.id) {
        Ok(text) => page.listing("source", &text),
        Err(Error::NoSource { .. }) => page,
        Err(error) => page.paragraph(&format!("the source cannot be read: {error}")),
    })
}

fn result(page: Page, log: &Log, record: &Record) -> Page {
    if record.status != Status::Completed {
        return page;
    }
    if record.outcome == Some(Outcome::Value) {
        return match log.result_json(&record.id) {
            Ok(value) => page.listing("result", &pretty(&value)),
            Err(error) => page.paragraph(&format!("the result cannot be read: {error}")),
        };
    }
    let answer = match log.answer(&record.id) {
        Ok(answer) => answer,
        Err(error) => return page.paragraph(&format!("the result cannot be read: {error}")),
    };
    // A part that cannot be drawn, an empty one say, leaves the page as it was.
    let drawn = page.clone().answer(&answer);
    drawn.unwrap_or_else(|error| page.paragraph(&format!("{error}")).listing("result", &answer.to_string()))
}

/// Each metric as a line over its steps.
fn metrics(mut page: Page, log: &Log, record: &Record) -> Result<Page> {
    if record.metrics.is_empty() {
        return Ok(page);
    }
    let all = match log.metrics(&record.id) {
        Ok(all) => all,
        Err(error) => return Ok(page.paragraph(&format!("the metrics cannot be read: {error}"))),
    };
    for last in &record.metrics {
        let of_name = || all.iter().filter(|metric| metric.name == last.name);
        let axis = Axis::new("step", of_name().map(|metric| metric.step.to_string()));
        let line = (String::new(), of_name().map(|metric| metric.value).collect());
        if !axis.is_empty() {
            page = page.picture(&Series::new(last.name.clone(), last.name.clone(), axis, [line])?)?;
        }
    }
    Ok(page)
}

fn facts(record: &Record) -> Vec<(String, String)> {
    let mut facts = vec![
        ("run", record.id.clone()),
        ("status", record.status.to_string()),
        ("started", moment(&record.started.to_string())),
    ];
    facts.extend(record.seconds.map(|taken| ("seconds", seconds(taken))));
    facts.extend(record.model.name.clone().map(|name| ("model", name)));
    facts.push(("family", record.model.family.clone()));
    facts.push(("weights", record.model.digest.chars().take(12).collect()));
    facts.push(("seed", record.seed.to_string()));
    facts.extend(record.version.clone().map(|version| ("version", version.chars().take(12).collect())));
    facts.extend(record.peak_memory.map(|bytes| ("peak memory", format!("{:.0} MB", bytes as f64 / 1e6))));
    let lists = [
        ("read", record.read.keys().cloned().collect::<Vec<String>>()),
        ("wrote", record.wrote.keys().cloned().collect()),
        ("tags", record.tags.clone()),
    ];
    let given = lists.into_iter().filter(|(_, words)| !words.is_empty());
    facts.extend(given.map(|(name, words)| (name, words.join(", "))));
    facts.into_iter().map(|(name, fact)| (name.to_owned(), fact)).collect()
}

/// A moment to the second: `2026-11-25 10:38:26`, in UTC.
pub(crate) fn moment(stamp: &str) -> String {
    stamp.split(['.', 'Z']).next().unwrap_or(stamp).replace('T', " ")
}

/// Parameters as they would be typed, `field=value`, without those that are absent.
pub(crate) fn asked(parameters: &serde_json::Value) -> String {
    let Some(fields) = parameters.as_object() else { return parameters.to_string() };
    let given = fields.iter().filter(|(_, value)| !value.is_null());
    let written = |value: &serde_json::Value| match value.as_str() {
        Some(text) => format!("'{text}'"),
        None => value.to_string(),
    };
    given.map(|(name, value)| format!("{name}={}", written(value))).collect::<Vec<_>>().join(" ")
}

pub(crate) fn seconds(seconds: f64) -> String {
    format!("{seconds:.2}")
}

pub(crate) fn pretty(value: &serde_json::Value) -> String {
    serde_json::to_string_pretty(value).unwrap_or_else(|_| value.to_string())
}

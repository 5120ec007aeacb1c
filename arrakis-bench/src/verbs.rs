//! The verbs of the log, as words of a command line: `arrakis log …`, and the same in a program of the user's own.

mod table;

use std::path::PathBuf;

use arrakis_core::print::Room;
use clap::Subcommand;
use serde::Serialize;
use serde_json::{Value, json};

use crate::{Diff, Error, Listing, Log, Query, Record, Result, Status, page};

/// The verbs of the log.
#[derive(Debug, Clone, Subcommand)]
pub enum LogVerb {
    /// The runs, the last one last
    List {
        /// Which of them, in which order
        #[command(flatten)]
        choice: Choice,
    },
    /// The runs that every term holds for
    Query {
        /// Terms such as `name=logit_lens.lens`, `status!=completed`, `parameters.layer>=3`, `metrics.loss<0.5`,
        /// `tag=good`, `started>=2026-01-31`, `note~strange`
        #[arg(required = true, value_name = "TERM")]
        terms: Vec<String>,
        /// Which of them, in which order
        #[command(flatten)]
        choice: Choice,
    },
    /// What is known of a run, and its result
    Show {
        /// The run, or the first letters of its id
        run: String,
        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
    /// The codes that an experiment has had
    Versions {
        /// The experiment
        name: String,
        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
    /// The exact code of a run or of a version
    Source {
        /// The run or the version, or the first letters of it
        run_or_version: String,
    },
    /// What two runs differ in: code, parameters, environment, numbers
    Diff {
        /// The first run
        a: String,
        /// The second
        b: String,
        /// How far apart two numbers may be that count as equal
        #[arg(long, default_value_t = 0.0, value_name = "NUMBER")]
        tolerance: f64,
        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
    /// Mark a run with words to find it by
    Tag {
        /// The run
        run: String,
        /// The words
        #[arg(required = true, value_name = "TAG")]
        tags: Vec<String>,
        /// Take the words from the run instead
        #[arg(long)]
        remove: bool,
    },
    /// Write a text about a run
    Note {
        /// The run
        run: String,
        /// The text
        text: String,
    },
    /// Remove runs, and what only they had
    Rm {
        /// The runs
        #[arg(required = true, value_name = "RUN")]
        runs: Vec<String>,
        /// Remove the runs that are parts of them too
        #[arg(long)]
        children: bool,
    },
    /// Look at every byte of the log and name all damage
    Fsck {
        /// Remove what was left behind and what no run has
        #[arg(long)]
        mend: bool,
        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
    /// Copy a run to a folder that can be read without Arrakis
    Export {
        /// The run
        run: String,
        /// The folder; it does not exist yet
        folder: PathBuf,
    },
    /// Take an exported run into the log
    Import {
        /// The folder
        folder: PathBuf,
    },
}

/// Which of the runs, in which order.
#[derive(Debug, Clone, clap::Args)]
pub struct Choice {
    /// Order them by a field, from the greatest to the least if it begins with `-`: `-metrics.loss`, `seconds`
    #[arg(long, value_name = "FIELD", allow_hyphen_values = true)]
    sort: Option<String>,
    /// Give at most so many: the last ones, or the first ones of an order
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// What a verb says, and how the command is to end.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Said {
    /// Results, for stdout.
    pub results: String,
    /// Words about them, for stderr.
    pub words: String,
    /// The exit status: 1 where damage was found.
    pub status: u8,
}

impl Said {
    fn results(results: impl Into<String>) -> Self {
        Self { results: results.into(), ..Self::default() }
    }

    fn words(words: impl Into<String>) -> Self {
        Self { words: words.into(), ..Self::default() }
    }

    fn json(value: &Value) -> Self {
        Self::results(format!("{value}\n"))
    }
}

impl LogVerb {
    /// Does what the verb says; tables are to fit into `room`.
    pub fn run(&self, log: &Log, room: Room) -> Result<Said> {
        match self {
            Self::List { choice } => choice.list(log, &[]),
            Self::Query { terms, choice } => choice.list(log, terms),
            Self::Show { run, json } => show(log, run, *json, room),
            Self::Versions { name, json } => versions(log, name, *json),
            Self::Source { run_or_version } => Ok(Said::results(log.source(run_or_version)?)),
            Self::Diff { a, b, tolerance, json } => diff(&log.diff(a, b, *tolerance)?, *json),
            Self::Tag { run, tags, remove } => tag(log, run, tags, *remove),
            Self::Note { run, text } => {
                let record = log.note(run, text)?;
                Ok(Said::words(format!("run {} has {} notes\n", record.id, record.notes.len())))
            }
            Self::Rm { runs, children } => remove(log, runs, *children),
            Self::Fsck { mend, json } => fsck(log, *mend, *json),
            Self::Export { run, folder } => {
                let record = log.export(run, folder)?;
                Ok(Said::words(format!("run {} is in {}\n", record.id, folder.display())))
            }
            Self::Import { folder } => {
                let record = log.import(folder)?;
                Ok(Said::words(format!("run {} is in {}\n", record.id, log.run_folder(&record.id).display())))
            }
        }
    }
}

impl Choice {
    fn list(&self, log: &Log, terms: &[String]) -> Result<Said> {
        let mut query = Query::parse(terms)?;
        if let Some(field) = &self.sort {
            query = query.sort(field)?;
        }
        if let Some(limit) = self.limit {
            query = query.limit(limit);
        }
        let Listing { records, damaged } = log.query(&query)?;
        let damaged: Vec<String> = damaged.iter().map(ToString::to_string).collect();
        let mut said = if self.json {
            Said::json(&json!({ "runs": json_of(&records)?, "damaged": damaged }))
        } else {
            Said::results(runs(&records))
        };
        for damage in damaged {
            said.words.push_str(&format!("not listed: {damage}\n"));
        }
        if records.is_empty() {
            let folder = log.folder().display();
            let none =
                if terms.is_empty() { format!("no run in {folder}") } else { format!("no run of {folder} matches") };
            said.words.push_str(&(none + "\n"));
        }
        Ok(said)
    }
}

fn runs(records: &[Record]) -> String {
    let rows = records.iter().map(|record| {
        let seconds = record.seconds.map(|seconds| format!("{seconds:.2} s")).unwrap_or_default();
        let model = record.model.name.clone().unwrap_or_else(|| record.model.family.clone());
        let started = record.started.to_string();
        let started = started.get(..19).unwrap_or_default().replace('T', " ");
        let tags = record.tags.join(",");
        [record.id.clone(), started, record.status.to_string(), record.name.clone(), seconds, model, tags]
    });
    table::table(["run", "started (UTC)", "status", "name", "took", "model", "tags"], rows)
}

fn show(log: &Log, run: &str, json: bool, room: Room) -> Result<Said> {
    let record = log.get(run)?;
    let folder = log.run_folder(&record.id);
    if json {
        let result = if record.status == Status::Completed && (record.outcome.is_some() || record.format == 1) {
            log.result_json(&record.id)?
        } else {
            Value::Null
        };
        return Ok(Said::json(&json!({ "run": json_of(&record)?, "folder": folder, "result": result })));
    }
    let mut text = format!("{} {}\n", record.what, record.name);
    let mut line = |name: &str, value: &dyn std::fmt::Display| text.push_str(&format!("{name:15} {value}\n"));
    for (name, value) in page::facts(&record) {
        line(name, &value);
    }
    line("folder", &folder.display());
    line("parameters", &record.parameters);
    for (name, file) in &record.files {
        line("file", &format_args!("{name}, {} bytes", file.bytes));
    }
    for (name, tensor) in &record.tensors {
        line("tensor", &format_args!("{name} {:?} {} in {}", tensor.shape, tensor.dtype, tensor.file));
    }
    for call in &record.calls {
        let ended = call.error.as_deref().or(call.digest.as_deref().map(page::short)).unwrap_or_default();
        line("asked", &format_args!("{} {} ({:.2} s): {ended}", call.tool, call.parameters, call.seconds));
    }
    for metric in &record.metrics {
        line("metric", &format_args!("{} = {} at step {}", metric.name, metric.value, metric.step));
    }
    for child in log.children(&record.id)? {
        line("part", &format_args!("{} {} {}", child.id, child.status, child.name));
    }
    for note in &record.notes {
        line("note", &format_args!("{}: {}", note.written, note.text));
    }
    for warning in &record.warnings {
        line("warning", warning);
    }
    if record.status == Status::Completed {
        text.push_str(&format!("\n{}\n", page::result(log, &record, room)?));
    }
    Ok(Said::results(text))
}

fn versions(log: &Log, name: &str, json: bool) -> Result<Said> {
    let versions = log.versions(name)?;
    if json {
        return Ok(Said::json(&json!({ "name": name, "versions": json_of(&versions)? })));
    }
    let rows = versions.iter().map(|version| {
        let second = |time: jiff::Timestamp| time.to_string().get(..19).unwrap_or_default().replace('T', " ");
        [
            page::short(&version.version).to_owned(),
            version.runs.to_string(),
            second(version.first),
            second(version.last),
            version.last_run.clone(),
        ]
    });
    Ok(Said::results(table::table(["version", "runs", "first (UTC)", "last (UTC)", "last run"], rows)))
}

fn diff(diff: &Diff, json: bool) -> Result<Said> {
    if json {
        return Ok(Said::json(&json_of(diff)?));
    }
    let mut text = String::new();
    if let Some(code) = &diff.code {
        text.push_str(code);
    }
    for change in diff.asked.iter().chain(&diff.environment) {
        let shown = |value: &Option<Value>| value.as_ref().map_or("(absent)".to_owned(), ToString::to_string);
        text.push_str(&format!("{}: {} and {}\n", change.field, shown(&change.a), shown(&change.b)));
    }
    let parts: Vec<_> = diff.results.iter().chain(&diff.metrics).collect();
    for part in parts.iter().filter(|part| !part.is_none()) {
        text.push_str(&format!("{part}\n"));
    }
    for note in &diff.notes {
        text.push_str(&format!("{note}\n"));
    }
    let mut said = Said::results(text);
    if diff.same_numbers() {
        let numbers: usize = parts.iter().map(|part| part.numbers).sum();
        said.words = format!("all {numbers} numbers of the results are equal\n");
    }
    Ok(said)
}

fn tag(log: &Log, run: &str, tags: &[String], remove: bool) -> Result<Said> {
    let mut record = log.get(run)?;
    for tag in tags {
        record = if remove { log.untag(&record.id, tag)? } else { log.tag(&record.id, tag)? };
    }
    Ok(Said::words(format!("run {} is tagged {}\n", record.id, record.tags.join(", "))))
}

fn remove(log: &Log, runs: &[String], children: bool) -> Result<Said> {
    // A wrong id is told of before anything is removed.
    let mut ids = runs.iter().map(|run| log.resolve(run)).collect::<Result<Vec<String>>>()?;
    if children {
        let mut place = 0;
        while let Some(id) = ids.get(place).cloned() {
            ids.extend(log.children(&id)?.into_iter().map(|child| child.id));
            place += 1;
        }
    }
    let mut said = Said::default();
    for id in ids {
        // A run that is named twice, or as a child too, is gone by now.
        match log.remove(&id) {
            Ok(id) => said.words.push_str(&format!("removed {id}\n")),
            Err(Error::NoRun { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(said)
}

fn fsck(log: &Log, mend: bool, json: bool) -> Result<Said> {
    let found = if mend { log.mend()? } else { log.fsck()? };
    let status = u8::from(!found.damage.is_empty());
    if json {
        let damage: Vec<Value> =
            found.damage.iter().map(|damage| json!({ "path": damage.path, "why": damage.why })).collect();
        let json = json!({ "runs": found.runs, "files": found.files, "damage": damage });
        return Ok(Said { status, ..Said::json(&json) });
    }
    let results = found.damage.iter().map(|damage| format!("{damage}\n")).collect();
    let words = format!("{} runs, {} files, {} damaged\n", found.runs, found.files, found.damage.len());
    Ok(Said { results, words, status })
}

fn json_of(value: &impl Serialize) -> Result<Value> {
    Ok(serde_json::to_value(value).map_err(arrakis_core::Error::from)?)
}

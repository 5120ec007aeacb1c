//! The verbs of the log, as words of a command line: `arrakis log …`, and the same in a program of the user's own.

mod differing;
mod listed;
mod shown;
mod table;

use std::num::NonZero;
use std::path::PathBuf;

use arrakis_core::print::Room;
use clap::Subcommand;
use serde::Serialize;
use serde_json::{Value, json};

use crate::{Error, Log, Result};

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
    /// Look at every byte of the log and name all damage; what a killed process was making or removing is cleared away
    Fsck {
        /// Remove also what Arrakis left half-written, and contents that no run has
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
    limit: Option<NonZero<usize>>,
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

    fn json_of(value: &impl Serialize) -> Result<Self> {
        Ok(Self::json(&json_of(value)?))
    }

    fn json(value: &Value) -> Self {
        Self::results(format!("{value}\n"))
    }
}

impl LogVerb {
    /// Does what the verb says; tables are to fit into `room`.
    pub fn run(&self, log: &Log, room: Room) -> Result<Said> {
        match self {
            Self::List { choice } => listed::runs(log, &[], choice),
            Self::Query { terms, choice } => listed::runs(log, terms, choice),
            Self::Show { run, json } => shown::run(log, run, *json, room),
            Self::Versions { name, json } => listed::versions(log, name, *json),
            Self::Source { run_or_version } => {
                let code = log.source(run_or_version)?;
                let end = if code.ends_with('\n') { "" } else { "\n" };
                Ok(Said::results(code + end))
            }
            Self::Diff { a, b, tolerance, json } => differing::said(&log.diff(a, b, *tolerance)?, *json),
            Self::Tag { run, tags, remove } => tag(log, run, tags, *remove),
            Self::Note { run, text } => {
                let record = log.note(run, text)?;
                let count = record.notes.len();
                Ok(Said::words(format!("run {} has {count} note{}\n", record.id, if count == 1 { "" } else { "s" })))
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

/// Texts, each on a line of its own.
fn lines(texts: impl IntoIterator<Item = impl ToString>) -> String {
    texts.into_iter().flat_map(|text| [text.to_string(), "\n".to_owned()]).collect()
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
    let mut removed = Vec::new();
    for id in ids {
        match log.remove(&id) {
            Ok(id) => removed.push(format!("removed {id}")),
            // Named twice, or as a child too.
            Err(Error::NoRun { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(Said::words(lines(removed)))
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
    let words = if found.runs == 0 && found.damage.is_empty() {
        format!("no run in {}\n", log.folder().display())
    } else {
        format!("{} runs, {} files, {} damaged\n", found.runs, found.files, found.damage.len())
    };
    Ok(Said { results: lines(&found.damage), words, status })
}

fn json_of(value: &impl Serialize) -> Result<Value> {
    Ok(serde_json::to_value(value).map_err(arrakis_core::Error::from)?)
}

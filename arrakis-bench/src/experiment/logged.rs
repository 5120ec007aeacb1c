//! An experiment as a run: what the expansion of `#[experiment]` calls.

use std::fmt::Display;

use arrakis_core::ParameterFile;

use super::{Experiment, Kept, Recorded};
use crate::{Asked, Bench, Error, Log, Outcome, Record, Result, Subject};

/// Conducts a run of an experiment whose arguments are recorded, and gives its value.
///
/// The error of the body is given back as it is; the run remembers its words.
pub fn conduct<'a, T, E: Display + From<Error>>(
    bench: &Bench<'a>,
    experiment: &'static Experiment,
    recorded: Recorded,
    keep: fn(&T) -> Result<Kept>,
    body: impl FnOnce(&Bench<'a>) -> Result<T, E>,
) -> Result<T, E> {
    let mut failure = None;
    let asked = bench.conduct(&subject(experiment, recorded)?, |bench| {
        let value = body(bench).map_err(|error| {
            let told = words(bench, &error);
            failure = Some(error);
            told
        })?;
        store(bench, &keep(&value)?)?;
        Ok(value)
    });
    match (asked, failure) {
        (Ok(asked), _) => Ok(asked.answer),
        (Err(_), Some(failure)) => Err(failure),
        (Err(error), None) => Err(error.into()),
    }
}

/// Conducts a run of an experiment, or recalls one, and gives what is kept of its value.
pub fn perform<'a, T, E: Display>(
    bench: &Bench<'a>,
    experiment: &'static Experiment,
    recorded: Recorded,
    keep: fn(&T) -> Result<Kept>,
    body: impl FnOnce(&Bench<'a>) -> Result<T, E>,
) -> Result<Asked<Kept>> {
    let subject = subject(experiment, recorded)?;
    if let Some(recalled) = bench.recalled(&subject, kept)? {
        return Ok(recalled);
    }
    bench.conduct(&subject, |bench| {
        let kept = keep(&body(bench).map_err(|error| words(bench, &error))?)?;
        store(bench, &kept)?;
        Ok(kept)
    })
}

/// What was kept of the result of a run.
fn kept(log: &Log, record: &Record) -> Result<Kept> {
    Ok(match record.outcome {
        Some(Outcome::Value) => Kept::Json(log.result_json(&record.id)?),
        _ => Kept::Answer(log.answer(&record.id)?),
    })
}

fn subject(experiment: &Experiment, recorded: Recorded) -> Result<Subject> {
    let arguments = recorded.into_value();
    let files = ParameterFile::of(&experiment.schema(), &arguments)?;
    let subject = Subject::experiment(experiment.name, arguments).owner(experiment.owner);
    Ok(subject.version(experiment.version, experiment.source).files(files))
}

fn store(bench: &Bench<'_>, kept: &Kept) -> Result<()> {
    match kept {
        Kept::Answer(answer) => bench.answer(answer),
        Kept::Json(value) => bench.result(value),
    }
}

/// The error of an experiment as the run remembers it: its words, or that it was cancelled.
fn words(bench: &Bench<'_>, error: &impl Display) -> Error {
    if bench.listener().cancelled() {
        arrakis_core::Error::Cancelled.into()
    } else {
        Error::Other(format!("{error:#}").into())
    }
}

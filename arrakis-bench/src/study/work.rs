//! The work of a study: its cells are run, and make one table.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::thread;

use arrakis_core::{Answer, Error as CoreError, FileUse};
use serde_json::{Value, json};

use super::Study;
use super::cells::Cell;
use super::numbers::numbers;
use super::table::Measured;
use super::team::{Team, Told, Workers};
use crate::{Asked, Bench, Error, Record, Result, Subject, outside};

/// The file that says which run each cell is.
pub(crate) const CELLS: &str = "cells.json";

/// What a study gave.
#[derive(Debug, Clone)]
pub struct Studied {
    /// The run of the whole, its cells being the parts: the table, and a picture for each measure.
    pub asked: Asked<Answer>,
    /// How many cells were in the log already.
    pub recalled: usize,
    /// Each cell that failed, with its error.
    pub failed: Vec<(String, String)>,
}

impl Study {
    /// Runs every cell in order, as a part of one run that has the table.
    ///
    /// On a bench that [reuses](Bench::reuse) runs, a cell that is in the log is not computed again, so that a study
    /// that was stopped goes on; such a run stays a part of the run that it was made for. The file `cells.json` says
    /// which run each cell is. A cell that fails leaves NaN, and the others go on; an error if all fail.
    pub fn run(&self, bench: &Bench<'_>) -> Result<Studied> {
        self.run_by(bench, None)
    }

    /// Runs every cell as [`run`](Self::run) does, several at once.
    ///
    /// Each worker uses LibTorch's threads as the bench does, so that a cell is the same whoever computes it.
    pub fn run_with(&self, bench: &Bench<'_>, workers: &Workers<'_>) -> Result<Studied> {
        self.run_by(bench, Some(workers))
    }

    /// The error that a run would give before its first cell; also where two cells would write one file.
    pub fn check(&self) -> Result<()> {
        let mut written: HashMap<PathBuf, String> = HashMap::new();
        for cell in self.cells()? {
            let label = cell.label();
            let files = Bench::files(&self.name, Value::Object(cell.parameters))?;
            outside::check(&files)?;
            for file in files.into_iter().filter(|file| file.usage == FileUse::Written) {
                let path = file.path.display().to_string();
                if let Some(other) = written.insert(file.path, label.clone()) {
                    let parameter = file.parameter;
                    let why = format!("the cells `{other}` and `{label}` would both write `{path}`");
                    return Err(self.refused(format!("{why}; vary `{parameter}` too")));
                }
            }
        }
        Ok(())
    }

    fn run_by(&self, bench: &Bench<'_>, workers: Option<&Workers<'_>>) -> Result<Studied> {
        self.check()?;
        let cells = self.cells()?;
        let (mut recalled, mut failed) = (0, Vec::new());
        let asked = bench.conduct(&Subject::study(&self.name, crate::json::to_value(self)?), |bench| {
            let work = Work { study: self, cells: &cells, next: AtomicUsize::new(0), stop: AtomicBool::new(false) };
            let mut measured: Vec<Measured> = vec![None; cells.len()];
            let mut runs = Vec::new();
            for (place, outcome) in work.run(bench, workers)? {
                let label = cells[place].label();
                match outcome {
                    Ok(done) => {
                        if let Some(whole) = &bench.running {
                            whole.inherit(&done.record)?;
                        }
                        recalled += usize::from(done.recalled);
                        measured[place] = Some(done.numbers);
                        runs.push(json!({ "cell": label, "run": done.record.id, "recalled": done.recalled }));
                    }
                    Err(error) => {
                        bench.note(format!("the cell `{label}` failed: {error}"))?;
                        runs.push(json!({ "cell": label, "error": error.to_string() }));
                        failed.push((label, error.to_string()));
                    }
                }
            }
            bench.file(CELLS, format!("{:#}\n", Value::Array(runs)).as_bytes())?;
            if let (true, Some((cell, why))) = (failed.len() == cells.len(), failed.first()) {
                return Err(self.refused(format!("every cell failed, `{cell}` first: {why}")));
            }
            let answer = self.table(&cells, &measured)?;
            bench.answer(&answer)?;
            Ok(answer)
        })?;
        Ok(Studied { asked, recalled, failed })
    }
}

/// The cells at work, shared by the workers.
pub(super) struct Work<'a> {
    pub(super) study: &'a Study,
    cells: &'a [Cell],
    next: AtomicUsize,
    pub(super) stop: AtomicBool,
}

/// A cell that was run.
pub(super) struct Done {
    numbers: Vec<(String, f64)>,
    /// The record of its run.
    record: Box<Record>,
    /// Whether the run was in the log.
    recalled: bool,
}

impl Work<'_> {
    /// Runs all cells, by several workers if there are any; the outcomes in the order of the cells.
    fn run(&self, bench: &Bench<'_>, workers: Option<&Workers<'_>>) -> Result<Vec<(usize, Result<Done>)>> {
        // Runs of their own, not calls of the whole.
        let mut parts = bench.clone();
        parts.running = None;
        parts.parent = bench.run_id();
        let team = Team::of(&parts)?;
        let (sender, receiver) = channel();
        let mut outcomes = Vec::new();
        thread::scope(|scope| {
            if let Some(workers) = workers {
                for _ in 1..workers.count.get().min(self.cells.len()) {
                    let (sender, team) = (sender.clone(), &team);
                    scope.spawn(move || team.help(self, workers, &sender));
                }
            }
            drop(sender);
            let done = self.lead(bench, &parts, &receiver, &mut outcomes);
            // Whoever is still at work learns that nobody waits for it.
            self.stop.store(done.is_err(), Ordering::Relaxed);
            done
        })?;
        outcomes.sort_by_key(|(place, _)| *place);
        Ok(outcomes)
    }

    /// Works on the bench's own model, and listens to the others.
    fn lead(
        &self,
        bench: &Bench<'_>,
        parts: &Bench<'_>,
        receiver: &Receiver<Told>,
        outcomes: &mut Vec<(usize, Result<Done>)>,
    ) -> Result<()> {
        let mut hear = |told: Told| -> Result<()> {
            match told {
                Told::Done(_, Err(Error::Core(CoreError::Cancelled))) => return Err(CoreError::Cancelled.into()),
                Told::Done(place, outcome) => outcomes.push((place, outcome)),
                Told::Line(line) => bench.listener().log(&line),
                Told::Lost(error) => return Err(error),
            }
            bench.progress(outcomes.len() as u64, self.cells.len() as u64)
        };
        while let Some(place) = self.take() {
            hear(Told::Done(place, self.cell(parts, place)))?;
            receiver.try_iter().try_for_each(&mut hear)?;
        }
        receiver.iter().try_for_each(hear)
    }

    /// The next cell that nobody has taken.
    pub(super) fn take(&self) -> Option<usize> {
        let place = self.next.fetch_add(1, Ordering::Relaxed);
        (place < self.cells.len() && !self.stop.load(Ordering::Relaxed)).then_some(place)
    }

    pub(super) fn cell(&self, bench: &Bench<'_>, place: usize) -> Result<Done> {
        let cell = &self.cells[place];
        let bench = match cell.seed {
            Some(seed) => bench.clone().seed(seed),
            None => bench.clone(),
        };
        let asked = bench.perform(&self.study.name, Value::Object(cell.parameters.clone()))?;
        Ok(Done { numbers: numbers(&asked), record: Box::new(asked.record), recalled: asked.reused })
    }
}

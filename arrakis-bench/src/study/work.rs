//! The work of a study: its cells run one after another, or by several workers that each have a model.

use std::num::NonZero;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use arrakis_core::{Answer, Draw, Error as CoreError, Host, Model, Part, number};
use serde_json::Value;

use super::Study;
use super::cells::Cell;
use super::table::Measured;
use crate::{Asked, Bench, Error, Kept, Log, Result, Subject, json};

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

/// Several cells at once.
pub struct Workers<'a> {
    /// How many.
    pub count: NonZero<usize>,
    /// Loads the model of a worker, which is the one of the bench: a model serves one thread.
    pub load: &'a (dyn Fn() -> arrakis_core::Result<Box<dyn Model>> + Sync),
    /// Who draws the answers of the workers, if anybody does.
    pub draw: Option<&'a (dyn Draw + Sync)>,
}

impl Study {
    /// Runs every cell in order, as a part of one run that has the table.
    ///
    /// On a bench that [reuses](Bench::reuse) runs, a cell that is in the log is not computed again, so that a study
    /// that was stopped goes on. A cell that fails leaves NaN, and the others go on; an error if all fail.
    pub fn run(&self, bench: &Bench<'_>) -> Result<Studied> {
        self.run_by(bench, None)
    }

    /// Runs every cell as [`run`](Self::run) does, several at once.
    ///
    /// Each worker uses LibTorch's threads as the bench does, so that a cell is the same whoever computes it.
    pub fn run_with(&self, bench: &Bench<'_>, workers: &Workers<'_>) -> Result<Studied> {
        self.run_by(bench, Some(workers))
    }

    /// The error that a run would give before its first cell.
    pub fn check(&self) -> Result<()> {
        self.cells()?.into_iter().try_for_each(|cell| Bench::check(&self.name, Value::Object(cell.parameters)))
    }

    fn run_by(&self, bench: &Bench<'_>, workers: Option<&Workers<'_>>) -> Result<Studied> {
        self.check()?;
        let cells = self.cells()?;
        let (mut recalled, mut failed) = (0, Vec::new());
        let asked = bench.conduct(&Subject::study(&self.name, json::to_value(self)?), |bench| {
            let work = Work { study: self, cells: &cells, next: AtomicUsize::new(0), stop: AtomicBool::new(false) };
            let mut measured: Vec<Measured> = vec![None; cells.len()];
            for (place, outcome) in work.run(bench, workers)? {
                match outcome {
                    Ok(done) => {
                        recalled += usize::from(done.recalled);
                        measured[place] = Some(done.numbers);
                    }
                    Err(error) => {
                        bench.note(format!("the cell `{}` failed: {error}", cells[place].label()))?;
                        failed.push((cells[place].label(), error.to_string()));
                    }
                }
            }
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
struct Work<'a> {
    study: &'a Study,
    cells: &'a [Cell],
    next: AtomicUsize,
    stop: AtomicBool,
}

/// A cell that was run.
struct Done {
    numbers: Vec<(String, f64)>,
    recalled: bool,
}

/// What a worker tells.
enum Told {
    Done(usize, Result<Done>),
    Line(String),
    /// It cannot work at all.
    Lost(Error),
}

impl Work<'_> {
    /// Runs all cells; the outcomes in the order of the cells.
    fn run(&self, bench: &Bench<'_>, workers: Option<&Workers<'_>>) -> Result<Vec<(usize, Result<Done>)>> {
        // Runs of their own, not calls of the whole.
        let mut parts = bench.clone();
        parts.running = None;
        parts.parent = bench.run_id();
        let team = self.team(&parts)?;
        let (sender, receiver) = channel();
        let mut outcomes = Vec::new();
        thread::scope(|scope| {
            if let Some(workers) = workers {
                for _ in 1..workers.count.get().min(self.cells.len()) {
                    let (sender, team) = (sender.clone(), &team);
                    scope.spawn(move || self.help(team, workers, &sender));
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

    /// Works in a thread of its own.
    fn help(&self, team: &Team, workers: &Workers<'_>, sender: &Sender<Told>) {
        let tell = |told: Told| drop(sender.send(told));
        tch::set_num_threads(team.threads);
        let loaded = (workers.load)().and_then(|model| Ok((model.digest()?, model)));
        let model = match loaded {
            Ok((digest, model)) if digest == team.digest => model,
            Ok((is, _)) => return tell(Told::Lost(team.other_model(&is))),
            Err(error) => return tell(Told::Lost(error.into())),
        };
        let host = Far { sender, stop: &self.stop };
        let bench = team.bench(&*model, &host, workers.draw);
        while let Some(place) = self.take() {
            tell(Told::Done(place, self.cell(&bench, place)));
        }
    }

    /// The next cell that nobody has taken.
    fn take(&self) -> Option<usize> {
        let place = self.next.fetch_add(1, Ordering::Relaxed);
        (place < self.cells.len() && !self.stop.load(Ordering::Relaxed)).then_some(place)
    }

    fn cell(&self, bench: &Bench<'_>, place: usize) -> Result<Done> {
        let cell = &self.cells[place];
        let bench = match cell.seed {
            Some(seed) => bench.clone().seed(seed),
            None => bench.clone(),
        };
        let asked = bench.perform(&self.study.name, Value::Object(cell.parameters.clone()))?;
        Ok(Done { numbers: numbers(&asked), recalled: asked.reused })
    }

    fn team(&self, bench: &Bench<'_>) -> Result<Team> {
        Ok(Team {
            digest: bench.model().digest()?,
            threads: tch::get_num_threads(),
            study: self.study.name.clone(),
            name: bench.name.clone(),
            log: bench.log().cloned(),
            seed: bench.seed,
            memory_limit: bench.context().memory_limit(),
            reuse: bench.reuse,
            parent: bench.parent.clone(),
        })
    }
}

/// What the benches of all workers have in common.
struct Team {
    digest: String,
    threads: i32,
    study: String,
    name: Option<String>,
    log: Option<Log>,
    seed: u64,
    memory_limit: Option<u64>,
    reuse: bool,
    parent: Option<String>,
}

impl Team {
    fn bench<'b>(&self, model: &'b dyn Model, host: &'b dyn Host, draw: Option<&'b (dyn Draw + Sync)>) -> Bench<'b> {
        let mut bench = Bench::new(model).seed(self.seed).host(host).reuse(self.reuse);
        bench.name.clone_from(&self.name);
        bench.parent.clone_from(&self.parent);
        bench = match &self.log {
            Some(log) => bench.logged(log.clone()),
            None => bench.unlogged(),
        };
        if let Some(draw) = draw {
            bench = bench.draw(draw);
        }
        match self.memory_limit {
            Some(bytes) => bench.memory_limit(bytes),
            None => bench,
        }
    }

    fn other_model(&self, is: &str) -> Error {
        let why = format!("a worker loaded another model: its digest is {is}, and the bench's {}", self.digest);
        Error::Study { name: self.study.clone(), why }
    }
}

/// The host of a worker, which tells the leader.
struct Far<'a> {
    sender: &'a Sender<Told>,
    stop: &'a AtomicBool,
}

impl Host for Far<'_> {
    fn log(&self, line: &str) {
        let _ = self.sender.send(Told::Line(line.to_owned()));
    }

    fn cancelled(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}

/// The numbers of a run: those of its result, and the last value of each metric.
fn numbers(asked: &Asked<Kept>) -> Vec<(String, f64)> {
    let mut numbers = Vec::new();
    match &asked.answer {
        Kept::Answer(answer) => numbers.extend(answer.parts().filter_map(|(name, part)| match part {
            Part::Number(number) => Some((name.to_owned(), *number)),
            _ => None,
        })),
        Kept::Json(value) => leaves("", value, &mut numbers),
    }
    numbers.extend(asked.record.metrics.iter().map(|metric| (metric.name.clone(), metric.value)));
    numbers
}

/// The numbers within objects, by their path.
fn leaves(path: &str, value: &Value, numbers: &mut Vec<(String, f64)>) {
    match value {
        Value::Object(object) => object.iter().for_each(|(name, value)| {
            let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
            leaves(&path, value, numbers);
        }),
        Value::Number(_) | Value::String(_) => {
            if let Ok(number) = number::from_value(value) {
                numbers.push((if path.is_empty() { "result" } else { path }.to_owned(), number));
            }
        }
        _ => {}
    }
}

//! Several cells at once: workers in threads of their own, each with a model, for a model serves one thread.

use std::num::NonZero;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Sender;

use arrakis_core::{Draw, Host, Model};

use super::work::{Done, Work};
use crate::{Bench, Error, Log, Result};

/// Several cells at once.
pub struct Workers<'a> {
    /// How many, the one that works on the bench's own model among them.
    pub count: NonZero<usize>,
    /// Loads the model of another worker: the same as the bench's.
    pub load: &'a (dyn Fn() -> arrakis_core::Result<Box<dyn Model>> + Sync),
    /// Who draws the answers of the other workers, if anybody does.
    pub draw: Option<&'a (dyn Draw + Sync)>,
}

/// What a worker tells.
pub(super) enum Told {
    /// The outcome of a cell.
    Done(usize, Result<Done>),
    /// A line for the log.
    Line(String),
    /// It cannot work at all.
    Lost(Error),
}

/// What the benches of all workers have in common.
pub(super) struct Team {
    /// The model: its digest, and how its weights are laid out.
    model: (String, Option<&'static str>),
    threads: i32,
    name: Option<String>,
    log: Option<Log>,
    seed: u64,
    memory_limit: Option<u64>,
    reuse: bool,
    parent: Option<String>,
}

impl Team {
    /// Of a bench, whose threads LibTorch gives to each worker: a cell is then the same whoever computes it.
    pub(super) fn of(bench: &Bench<'_>) -> Result<Self> {
        Ok(Self {
            model: (bench.model().digest()?, bench.model().layout()),
            threads: tch::get_num_threads(),
            name: bench.name.clone(),
            log: bench.log().cloned(),
            seed: bench.seed,
            memory_limit: bench.memory_limit,
            reuse: bench.reuse,
            parent: bench.parent.clone(),
        })
    }

    /// Works on cells until there are none.
    pub(super) fn help(&self, work: &Work<'_>, workers: &Workers<'_>, sender: &Sender<Told>) {
        // Nobody listens any more where the work was given up.
        let tell = |told: Told| drop(sender.send(told));
        tch::set_num_threads(self.threads);
        let loaded = (workers.load)().and_then(|model| Ok(((model.digest()?, model.layout()), model)));
        let model = match loaded {
            Ok((is, model)) if is == self.model => model,
            Ok((is, _)) => {
                let why = format!("a worker loaded another model: it is {is:?}, and the bench's {:?}", self.model);
                return tell(Told::Lost(work.study.refused(why)));
            }
            Err(error) => return tell(Told::Lost(error.into())),
        };
        let host = Far { sender, stop: &work.stop };
        let bench = self.bench(&*model, &host, workers.draw);
        while let Some(place) = work.take() {
            tell(Told::Done(place, work.cell(&bench, place)));
        }
    }

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

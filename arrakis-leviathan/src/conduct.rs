//! Trainings as runs of a bench.

use arrakis_bench::{Bench, Subject};

use crate::Result;
use crate::checkpoint::Folder;
use crate::metrics::Line;
use crate::trainer::{Trained, Trainer};

/// Whose runs trainings are.
const OWNER: &str = concat!("arrakis-leviathan ", env!("CARGO_PKG_VERSION"));

impl Trainer<'_> {
    /// Trains as [`run`](Self::run) does, as a run `leviathan.train` of a bench, whose host may cancel it.
    ///
    /// Model, training and text are the run's parameters, losses its metrics, and what the training came to its result.
    /// Where it goes on from an earlier run, that one's losses are its metrics too.
    ///
    /// # Errors
    /// Those of [`run`](Self::run), and those of a log.
    pub fn conduct(&mut self, bench: &Bench<'_>, folder: &Folder) -> Result<Trained> {
        let subject = Subject::experiment("leviathan.train", self.claimed()).owner(OWNER);
        let seeds = self.training.seeds.clone();
        let asked = bench.conduct(&subject, |bench| {
            self.text.file.as_deref().map_or(Ok(()), |file| bench.reads(file))?;
            let told = |line: &Line| Ok(record(bench, &seeds, line)?);
            let trained = self.run_told(folder, bench.listener(), told)?;
            bench.result(&trained)?;
            Ok(trained)
        });
        Ok(asked?.answer)
    }
}

/// The losses of an evaluation as metrics of the run at work.
fn record(bench: &Bench<'_>, seeds: &[u64], line: &Line) -> Result<(), arrakis_bench::Error> {
    for (seed, (trained, judged)) in seeds.iter().zip(line.training_nats.iter().zip(&line.validation_nats)) {
        bench.metric(format!("training nats, seed {seed}"), line.step, *trained)?;
        bench.metric(format!("validation nats, seed {seed}"), line.step, *judged)?;
    }
    bench.metric("seconds", line.step, line.seconds)
}

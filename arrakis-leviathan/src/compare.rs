//! Several models trained on the same text with the same seeds, and what tells them apart.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use arrakis_bench::Bench;
use arrakis_core::{Axis, Grid, Series};

use crate::metrics::{self, Line};
use crate::text::Text;
use crate::train::{leviathan_train, options};
use crate::trainer::{Trained, Trainer};
use crate::training::Training;
use crate::vocabulary::Cut;
use crate::{Config, Error, Precision, Result};

/// One of the models compared, and how it is trained.
#[derive(Debug, Clone, PartialEq)]
pub struct Contestant {
    /// What it is called in tables; the name of its folder, with `-` in place of what a path does not take.
    pub name: String,
    /// What it is.
    pub config: Config,
    /// How it is trained; all contestants have the same seeds.
    pub training: Training,
}

/// What became of a contestant.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// What it is called.
    pub name: String,
    /// What its training came to.
    pub trained: Trained,
    /// How it went.
    pub lines: Vec<Line>,
}

impl Outcome {
    /// Seconds of one step of all seeds.
    #[must_use]
    pub fn seconds_per_step(&self) -> f64 {
        self.trained.seconds / self.trained.steps.max(1) as f64
    }
}

/// Trains every contestant in a folder of its own below `folder` and as a run of `bench`, on the device of its model, or goes
/// on where an earlier run stood; those that are done already are only judged again.
///
/// # Errors
/// Contestants with other seeds than the first or the same name, and the errors of a training.
pub fn compare(
    contestants: &[Contestant],
    (text, cut): (&Path, Cut),
    precision: Precision,
    folder: &Path,
    bench: &Bench<'_>,
) -> Result<Vec<Outcome>> {
    let [first, others @ ..] = contestants else {
        return Err(Error::config("contestants", "there are none"));
    };
    if others.iter().any(|other| other.training.seeds != first.training.seeds) {
        return Err(Error::config("seeds", "contestants are paired by seed, so all have the same"));
    }
    for (place, contestant) in contestants.iter().enumerate() {
        if contestants[..place].iter().any(|other| other.name == contestant.name) {
            return Err(Error::config("contestants", format!("`{}` is there twice", contestant.name)));
        }
    }
    // Everything is checked before the first hour is spent.
    let words = Text::read(text, cut)?;
    for Contestant { config, training, .. } in contestants {
        Trainer::on(config, training, (&words, text), &options(bench, precision))?;
    }
    let mut outcomes = Vec::new();
    for contestant in contestants {
        bench.listener().log(&format!("{}: {} parameters", contestant.name, contestant.config.parameters()));
        let folder = contestant.folder(folder);
        let Contestant { config, training, .. } = contestant;
        let trained = leviathan_train(bench, text, cut, config, training, precision, Some(folder.clone()))?;
        outcomes.push(Outcome { name: contestant.name.clone(), trained, lines: metrics::read(&folder)? });
    }
    Ok(outcomes)
}

impl Contestant {
    /// The folder that it is trained in, below that of a comparison.
    #[must_use]
    pub fn folder(&self, below: &Path) -> PathBuf {
        let plain = |c: char| if c.is_ascii_alphanumeric() || c == '_' { c } else { '-' };
        below.join(self.name.chars().map(plain).collect::<String>())
    }
}

/// The same contestants with as many steps as take each as long as the first one's training took, by the steps measured.
#[must_use]
pub fn at_equal_time(contestants: &[Contestant], outcomes: &[Outcome]) -> Vec<Contestant> {
    let Some(first) = outcomes.first() else { return Vec::new() };
    let each = contestants.iter().zip(outcomes).map(|(contestant, outcome)| {
        let steps = (first.trained.seconds / outcome.seconds_per_step()).round().max(1.0) as u64;
        let training = &contestant.training;
        let warm_up = training.warm_up * steps / training.steps.max(1);
        Contestant {
            training: Training { steps, warm_up: warm_up.min(steps), ..training.clone() },
            ..contestant.clone()
        }
    });
    each.collect()
}

/// The validation loss of each contestant as it was trained, a line for each seed: nats over steps.
///
/// NaN where one was not evaluated and another was.
pub fn curves(outcomes: &[Outcome]) -> Result<Series> {
    let steps: BTreeSet<u64> = outcomes.iter().flat_map(|outcome| outcome.lines.iter().map(|line| line.step)).collect();
    let axis = Axis::new("step", steps.iter().map(ToString::to_string));
    let lines = outcomes.iter().flat_map(|outcome| {
        outcome.trained.seeds.iter().enumerate().map(|(place, seed)| {
            let known: BTreeMap<u64, f64> =
                outcome.lines.iter().filter_map(|line| Some((line.step, *line.validation_nats.get(place)?))).collect();
            let losses = steps.iter().map(|step| known.get(step).copied().unwrap_or(f64::NAN));
            (format!("{}, seed {seed}", outcome.name), losses.collect::<Vec<f64>>())
        })
    });
    Ok(Series::new("validation loss", "nats per token", axis, lines)?)
}

/// The final loss of every contestant with every seed, in nats for each token: what all tests are made of.
pub fn losses(outcomes: &[Outcome]) -> Result<Grid> {
    let seeds = outcomes.first().map(|first| first.trained.seeds.clone()).unwrap_or_default();
    let rows = Axis::new("model", outcomes.iter().map(|outcome| outcome.name.clone()));
    let columns = Axis::new("seed", seeds.iter().map(ToString::to_string));
    let values = outcomes.iter().flat_map(|outcome| outcome.trained.nats.clone()).collect();
    Ok(Grid::new("validation loss", "nats per token", rows, columns, values)?)
}

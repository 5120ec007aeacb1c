//! A training as an experiment: a run of the log, which can be done again.

use std::path::{Path, PathBuf};

use arrakis_bench::{Bench, experiment};
use arrakis_models::LoadOptions;

use crate::checkpoint::Folder;
use crate::metrics::Line;
use crate::text::Text;
use crate::trainer::{Trained, Trainer};
use crate::training::Training;
use crate::vocabulary::Cut;
use crate::{Config, Error, Precision, Result};

/// Trains a model, or several that differ by their seed, on the device of the bench's model, and judges each.
///
/// Losses are the metrics of the run, those of an earlier run too where the training goes on from it. A run that is done
/// again ([`Bench::rerun`]) begins anew beside its folder, and comes to the same weights to the bit.
#[experiment]
pub fn leviathan_train(
    bench: &Bench<'_>,
    /// The text; nine tenths are trained on, the rest is what models are judged by.
    #[schemars(extend("x-file" = "read"))]
    text: &Path,
    /// What its tokens are.
    cut: Cut,
    /// What is trained.
    model: &Config,
    /// How it is trained.
    training: &Training,
    /// What passes are computed in.
    dtype: Precision,
    /// Where the training stands after each evaluation, and goes on from; if absent, nothing is kept.
    folder: Option<PathBuf>,
) -> Result<Trained> {
    let words = Text::read(text, cut)?;
    let mut trainer = Trainer::on(model, training, (&words, text), &options(bench, dtype))?;
    let scratch;
    let folder = if let Some(folder) = folder.filter(|_| !bench.is_rerun()) {
        folder
    } else {
        scratch = tempfile::tempdir().map_err(Error::file("make", &std::env::temp_dir()))?;
        scratch.path().join("training")
    };
    trainer.run_told(&Folder::open(folder)?, bench.listener(), |line| Ok(record(bench, &training.seeds, line)?))
}

/// How passes of trainings on a bench are computed: on the device of its model.
pub(crate) fn options(bench: &Bench<'_>, dtype: Precision) -> LoadOptions {
    LoadOptions { kind: dtype.kind(), device: bench.model().device() }
}

/// The losses of an evaluation as metrics of the run at work.
fn record(bench: &Bench<'_>, seeds: &[u64], line: &Line) -> Result<(), arrakis_bench::Error> {
    for (seed, (trained, judged)) in seeds.iter().zip(line.training_nats.iter().zip(&line.validation_nats)) {
        bench.metric(format!("training nats, seed {seed}"), line.step, *trained)?;
        bench.metric(format!("validation nats, seed {seed}"), line.step, *judged)?;
    }
    Ok(())
}

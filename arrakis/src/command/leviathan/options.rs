//! What a model to be trained is, and how it is trained, as options.

use std::path::{Path, PathBuf};

use anyhow::Result;
use arrakis_leviathan::{Config, Cut, FeedForward, Leviathan, Mixer, Positions, Precision, Text, Training};
use arrakis_models::LoadOptions;
use clap::Args;

use crate::command::options::Options;
use crate::loaded::UNTRAINED;

#[derive(Debug, Args)]
pub(super) struct Setting {
    /// Print one JSON object
    #[arg(long)]
    pub(super) json: bool,
    #[command(flatten)]
    shape: Shape,
    #[command(flatten)]
    schedule: Schedule,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Model")]
struct Shape {
    /// Blocks
    #[arg(long, default_value_t = 2, value_name = "N")]
    layers: usize,
    /// Heads of a block
    #[arg(long, default_value_t = 2, value_name = "N")]
    heads: usize,
    /// The residual stream
    #[arg(long, default_value_t = 40, value_name = "N")]
    d_model: usize,
    /// As many neurons as keep a model within this many parameters
    #[arg(long, default_value_t = 50_000, value_name = "N")]
    parameters: u64,
    /// The neurons of a block or an expert, in place of `--parameters`
    #[arg(long, value_name = "N", conflicts_with = "parameters")]
    d_mlp: Option<usize>,
    /// Positions
    #[arg(long, default_value_t = 512, value_name = "N")]
    context: usize,
    /// `rotary`, `learned` or `none`; an involution has nothing to rotate
    #[arg(long, default_value_t = Positions::Rotary)]
    positions: Positions,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Training")]
struct Schedule {
    /// The text; nine tenths are trained on, the rest is what models are judged by
    #[arg(long, value_name = "FILE")]
    text: PathBuf,
    /// `characters`, or `bpe:SIZE`
    #[arg(long, default_value_t = Cut::Characters)]
    cut: Cut,
    /// How many models, with seeds from `--seed` on, are trained side by side
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    seeds: u32,
    /// Steps of the optimiser
    #[arg(long, default_value_t = Training::default().steps, value_name = "N")]
    steps: u64,
    /// Windows of each seed in a step
    #[arg(long, default_value_t = Training::default().batch, value_name = "N")]
    batch: usize,
    /// The greatest learning rate
    #[arg(long, default_value_t = Training::default().rate)]
    rate: f64,
    /// Steps in which the rate rises
    #[arg(long, default_value_t = Training::default().warm_up, value_name = "N")]
    warm_up: u64,
    /// Weight decay of matrices
    #[arg(long, default_value_t = Training::default().decay)]
    decay: f64,
    /// The greatest norm of a gradient
    #[arg(long, default_value_t = Training::default().clip)]
    clip: f64,
    /// The part of what blocks write that is dropped
    #[arg(long, default_value_t = Training::default().dropout)]
    dropout: f64,
    /// Steps between evaluations, each of which writes a checkpoint
    #[arg(long, default_value_t = Training::default().evaluate_every, value_name = "N")]
    evaluate_every: u64,
    /// Windows that an evaluation looks at
    #[arg(long, default_value_t = Training::default().windows, value_name = "N")]
    windows: usize,
    /// Evaluations without progress after which a training ends; never if absent
    #[arg(long, value_name = "N")]
    patience: Option<u64>,
}

impl Setting {
    /// The text, cut into tokens, and how models are trained on it.
    pub(super) fn read(&self, options: &Options) -> Result<(Text, Training)> {
        Ok((Text::read(&self.schedule.text, self.schedule.cut)?, self.schedule.training(options.seed())))
    }

    /// The file of the text, and how it is cut into tokens.
    pub(super) fn text(&self) -> (&Path, Cut) {
        (&self.schedule.text, self.schedule.cut)
    }

    /// The model of a mixer and a feed-forward for a text.
    pub(super) fn config(&self, mixer: Mixer, feed_forward: FeedForward, text: &Text) -> Result<Config> {
        let shape = &self.shape;
        let config = Config {
            n_layers: shape.layers,
            n_heads: shape.heads,
            d_model: shape.d_model,
            d_mlp: shape.d_mlp.unwrap_or(1),
            vocab: text.vocabulary.len(),
            context: shape.context,
            positions: shape.positions.with(mixer),
            mixer,
            feed_forward,
        };
        config.check()?;
        Ok(if shape.d_mlp.is_some() { config } else { config.fitted(shape.parameters)? })
    }
}

impl Schedule {
    /// The training; seeds go on from `seed`.
    fn training(&self, seed: u64) -> Training {
        Training {
            seeds: (0..u64::from(self.seeds)).map(|place| seed.wrapping_add(place)).collect(),
            steps: self.steps,
            batch: self.batch,
            rate: self.rate,
            warm_up: self.warm_up.min(self.steps),
            decay: self.decay,
            clip: self.clip,
            dropout: self.dropout,
            evaluate_every: self.evaluate_every,
            windows: self.windows,
            patience: self.patience,
            ..Training::default()
        }
    }
}

/// What is computed in, and the first model before its training.
pub(super) fn untrained(config: &Config, options: &Options) -> Result<(Precision, Leviathan)> {
    let LoadOptions { kind, device } = options.load_options()?;
    let precision = Precision::of(kind)?;
    let untrained = Leviathan::new(config, options.seed())?;
    Ok((precision, untrained.to(&LoadOptions { kind: precision.of_weights(), device })?))
}

/// The name by which the model of a training is loaded as it was before it.
pub(super) fn untrained_name(folder: &Path) -> String {
    format!("{UNTRAINED}{}", folder.display())
}

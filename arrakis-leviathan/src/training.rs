//! How a model is trained: everything that a run of it depends on beside the model and the text.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// How a model is trained.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Training {
    /// The seeds of the models that are trained side by side, each on its own windows.
    pub seeds: Vec<u64>,
    /// Steps of the optimiser.
    pub steps: u64,
    /// Windows of each seed in a step.
    pub batch: usize,
    /// The greatest learning rate.
    pub rate: f64,
    /// The part of the greatest rate that the cosine ends at.
    pub least_rate: f64,
    /// Steps in which the rate rises to its greatest.
    pub warm_up: u64,
    /// Weight decay of matrices.
    pub decay: f64,
    /// The averages' memory of gradients and of their squares.
    pub betas: [f64; 2],
    /// The greatest norm of a model's gradient; longer ones are scaled down to it.
    pub clip: f64,
    /// The part of what blocks write, and of what enters the first, that is dropped.
    pub dropout: f64,
    /// The weight of the loss that spreads positions over experts.
    pub balance: f64,
    /// How many positions an expert takes in a step, in parts of its even share; the others pass it by.
    pub capacity: f64,
    /// Steps between evaluations; a checkpoint is written at each.
    pub evaluate_every: u64,
    /// Windows of the validation part that an evaluation looks at.
    pub windows: usize,
    /// Evaluations without a new least loss after which a model has ended, and a training when all have; never if absent.
    pub patience: Option<u64>,
}

impl Default for Training {
    /// One small model of characters.
    fn default() -> Self {
        Self {
            seeds: vec![0],
            steps: 2000,
            batch: 8,
            rate: 3e-3,
            least_rate: 0.1,
            warm_up: 100,
            decay: 0.1,
            betas: [0.9, 0.99],
            clip: 1.0,
            dropout: 0.0,
            balance: 0.01,
            capacity: 1.25,
            evaluate_every: 250,
            windows: 32,
            patience: None,
        }
    }
}

impl Training {
    /// An error that names the first field that makes no training.
    pub fn check(&self) -> Result<()> {
        let refuse = |what: &str, why: &str| Err(Error::config(what, why));
        let positive = |value: f64| value.is_finite() && value > 0.0;
        let mut seeds = self.seeds.clone();
        seeds.sort_unstable();
        seeds.dedup();
        if self.seeds.is_empty() || seeds.len() != self.seeds.len() {
            return refuse("seeds", "there is at least one, and no two are the same");
        }
        if self.steps == 0 || self.batch == 0 || self.evaluate_every == 0 || self.windows == 0 {
            return refuse("steps, batch, evaluate_every and windows", "each is at least 1");
        }
        if self.warm_up > self.steps {
            return refuse("warm_up", "it is no longer than the training");
        }
        if !positive(self.rate) || !positive(self.clip) || !positive(self.capacity) {
            return refuse("rate, clip and capacity", "each is a positive number");
        }
        if !(0.0..=1.0).contains(&self.least_rate) {
            return refuse("least_rate", "it is a part of the greatest rate, between 0 and 1");
        }
        if !(0.0..1.0).contains(&self.dropout) || !self.betas.iter().all(|beta| (0.0..1.0).contains(beta)) {
            return refuse("dropout and betas", "each is at least 0 and below 1");
        }
        if !(self.decay.is_finite() && self.decay >= 0.0 && self.balance.is_finite() && self.balance >= 0.0) {
            return refuse("decay and balance", "each is 0 or a positive number");
        }
        Ok(())
    }

    /// The learning rate of a step, counted from 0: a straight rise, then half a cosine (Loshchilov and Hutter 2017).
    #[must_use]
    pub fn rate_at(&self, step: u64) -> f64 {
        if step < self.warm_up {
            return self.rate * (step + 1) as f64 / self.warm_up as f64;
        }
        let done = (step - self.warm_up) as f64 / (self.steps - self.warm_up).max(1) as f64;
        let least = self.rate * self.least_rate;
        least + 0.5 * (self.rate - least) * (1.0 + (std::f64::consts::PI * done).cos())
    }
}

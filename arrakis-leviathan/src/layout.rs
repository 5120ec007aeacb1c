//! Which numbers a model has: every parameter with its shape, how it begins, and whether it decays.

use std::collections::BTreeMap;

use crate::config::{Config, FeedForward, Lags, Mixer, Positions};

/// What a parameter is for; shapes leave out the stack of models, which is the first dimension of every tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Role {
    /// Token embedding: `[vocab, d_model]`.
    Embed,
    /// Learned positions: `[context, d_model]`.
    Position,
    /// Norm before the mixer: `[d_model]`.
    Norm1,
    Norm1Bias,
    /// Queries, keys and values side by side, or values and kernels: `[d_model, width]`.
    Inward,
    InwardBias,
    /// Weights of the lags of a diagonal lag matrix: `[head, lag]`.
    Lag,
    /// Weights of the query lags, and of the key lags: `[head, rank, lag]`.
    QueryLag,
    KeyLag,
    /// What the heads write: `[d_model, d_model]`.
    Outward,
    OutwardBias,
    /// Norm before the feed-forward: `[d_model]`.
    Norm2,
    Norm2Bias,
    /// Scores of the experts: `[d_model, expert]`.
    Router,
    /// Into the neurons: `[expert, d_model, d_mlp]`, one expert where the feed-forward is dense.
    In,
    InBias,
    /// Out of the neurons: `[expert, d_mlp, d_model]`.
    Out,
    OutBias,
    /// Final norm: `[d_model]`.
    NormFinal,
    NormFinalBias,
    /// Unembedding: `[d_model, vocab]`.
    Unembed,
}

/// How a parameter begins.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Start {
    Zeros,
    Ones,
    /// Normal with this standard deviation.
    Normal(f64),
    /// 1 at lag zero of the first term, and normal with this standard deviation elsewhere.
    ZeroLag(f64),
}

/// One parameter.
#[derive(Debug, Clone)]
pub(crate) struct Parameter {
    pub(crate) role: Role,
    pub(crate) layer: Option<usize>,
    pub(crate) shape: Vec<i64>,
    pub(crate) start: Start,
    /// Where it lies among all numbers of the model.
    pub(crate) first: i64,
}

impl Parameter {
    pub(crate) fn len(&self) -> i64 {
        self.shape.iter().product()
    }

    /// Whether weight decay pulls on it: on matrices only, not on norms, biases and lags.
    pub(crate) fn decays(&self) -> bool {
        matches!(
            self.role,
            Role::Embed
                | Role::Position
                | Role::Inward
                | Role::Outward
                | Role::Router
                | Role::In
                | Role::Out
                | Role::Unembed
        )
    }
}

/// Every parameter of a model, in order.
#[derive(Debug, Clone)]
pub(crate) struct Layout {
    pub(crate) parameters: Vec<Parameter>,
    places: BTreeMap<(Role, Option<usize>), usize>,
}

/// The standard deviation of most matrices, as in GPT-2.
const DEVIATION: f64 = 0.02;
/// That of the lags other than zero: a little, so that each head begins near attention and none like another.
const LAG_DEVIATION: f64 = 0.1;

impl Layout {
    pub(crate) fn of(config: &Config) -> Self {
        let mut layout = Self { parameters: Vec::new(), places: BTreeMap::new() };
        let (d_model, vocab) = (config.d_model as i64, config.vocab as i64);
        layout.add(Role::Embed, None, &[vocab, d_model], Start::Normal(DEVIATION));
        if config.positions == Positions::Learned {
            layout.add(Role::Position, None, &[config.context as i64, d_model], Start::Normal(DEVIATION));
        }
        for layer in 0..config.n_layers {
            layout.add_block(config, layer);
        }
        layout.add(Role::NormFinal, None, &[d_model], Start::Ones);
        layout.add(Role::NormFinalBias, None, &[d_model], Start::Zeros);
        layout.add(Role::Unembed, None, &[d_model, vocab], Start::Normal(DEVIATION));
        layout
    }

    fn add_block(&mut self, config: &Config, layer: usize) {
        let (d_model, heads, neurons) = (config.d_model as i64, config.n_heads as i64, config.d_mlp as i64);
        // What writes to the residual stream begins smaller the more blocks there are, as in GPT-2.
        let writing = Start::Normal(DEVIATION / (2.0 * config.n_layers as f64).sqrt());
        let matrix = Start::Normal(DEVIATION);
        let mut add = |role, shape: &[i64], start| self.add(role, Some(layer), shape, start);
        add(Role::Norm1, &[d_model], Start::Ones);
        add(Role::Norm1Bias, &[d_model], Start::Zeros);
        let inward = match config.mixer {
            Mixer::Involution { kernel } => d_model + heads * kernel as i64,
            Mixer::Attention | Mixer::Correlation { .. } | Mixer::Original => 3 * d_model,
        };
        add(Role::Inward, &[d_model, inward], matrix);
        add(Role::InwardBias, &[inward], Start::Zeros);
        if let Mixer::Correlation { window, lags } = config.mixer {
            let (window, start) = (window as i64, Start::ZeroLag(LAG_DEVIATION));
            let rank = match lags {
                Lags::Diagonal => None,
                Lags::Separable => Some(1),
                Lags::LowRank(rank) => Some(rank as i64),
            };
            match rank {
                None => add(Role::Lag, &[heads, window], start),
                Some(rank) => {
                    add(Role::QueryLag, &[heads, rank, window], start);
                    add(Role::KeyLag, &[heads, rank, window], start);
                }
            }
        }
        add(Role::Outward, &[d_model, d_model], writing);
        add(Role::OutwardBias, &[d_model], Start::Zeros);
        add(Role::Norm2, &[d_model], Start::Ones);
        add(Role::Norm2Bias, &[d_model], Start::Zeros);
        let experts = match config.feed_forward {
            FeedForward::Dense => 1,
            FeedForward::Mixture { experts, .. } => {
                add(Role::Router, &[d_model, experts as i64], matrix);
                experts as i64
            }
        };
        add(Role::In, &[experts, d_model, neurons], matrix);
        add(Role::InBias, &[experts, neurons], Start::Zeros);
        add(Role::Out, &[experts, neurons, d_model], writing);
        add(Role::OutBias, &[d_model], Start::Zeros);
    }

    fn add(&mut self, role: Role, layer: Option<usize>, shape: &[i64], start: Start) {
        let first = self.count();
        self.places.insert((role, layer), self.parameters.len());
        self.parameters.push(Parameter { role, layer, shape: shape.to_vec(), start, first });
    }

    /// How many numbers there are.
    pub(crate) fn count(&self) -> i64 {
        self.parameters.last().map_or(0, |last| last.first + last.len())
    }

    /// The place of a parameter in the order.
    pub(crate) fn place(&self, role: Role, layer: Option<usize>) -> Option<usize> {
        self.places.get(&(role, layer)).copied()
    }
}

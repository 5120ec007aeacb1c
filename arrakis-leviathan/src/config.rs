//! What a model of this crate is: sizes, mixer and feed-forward, each a sum type.

use std::collections::BTreeMap;

use arrakis_core::{Dims, NormKind, Residual};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Error, Layout, Result};

/// The family, as `config.json` and [`Dims`] name it.
pub const FAMILY: &str = "leviathan";

/// The greatest size: no model comes near it, and no product of two sizes overflows.
const GREATEST: usize = 1 << 24;

/// A language model's mathematics, without its weights.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Blocks.
    pub n_layers: usize,
    /// Heads of a block; for [`Mixer::Involution`] the groups of channels.
    pub n_heads: usize,
    /// The residual stream.
    pub d_model: usize,
    /// The neurons of a block, or of one expert.
    pub d_mlp: usize,
    /// The vocabulary.
    pub vocab: usize,
    /// The positions that the model is made for.
    pub context: usize,
    /// How positions enter.
    pub positions: Positions,
    /// How a position gathers what others hold.
    pub mixer: Mixer,
    /// What each position makes of it.
    pub feed_forward: FeedForward,
}

/// How positions enter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Positions {
    /// A learned vector for each position, added to the embedding.
    Learned,
    /// Queries and keys rotated by their position (Su et al. 2021); costs no parameter.
    Rotary,
    /// Not at all, beyond the order that the mixer itself sees.
    None,
}

impl Positions {
    /// These positions where `mixer` has queries to rotate, and none where rotation was asked for and it has not.
    #[must_use]
    pub const fn with(self, mixer: Mixer) -> Self {
        match (self, mixer) {
            (Self::Rotary, Mixer::Involution { .. }) => Self::None,
            _ => self,
        }
    }
}

/// How a position gathers what others hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Mixer {
    /// Scaled dot-product attention (Vaswani et al. 2017).
    Attention,
    /// Attention whose scores are cross-correlations of queries and keys over a window of lags.
    Correlation {
        /// How many lags each signal has, the present included.
        window: usize,
        /// The form of the lag matrix.
        lags: Lags,
    },
    /// The score as first published; it sees the future and mixes rows, and serves reproduction only.
    Original,
    /// A kernel over the last positions that each position makes for itself, shared by the channels of a group
    /// (Li et al. 2021), made causal.
    Involution {
        /// How many positions the kernel spans.
        kernel: usize,
    },
}

/// The form of a head's lag matrix `A` (`[window, window]`): how query lag and key lag are weighed together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Lags {
    /// `A = diag(a)`: both signals lag alike, so the two histories are matched.
    Diagonal,
    /// `A = α βᵀ`: a short causal filter on queries and one on keys.
    Separable,
    /// A sum of this many separable terms.
    LowRank(usize),
}

/// What each position makes of what it gathered.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum FeedForward {
    /// `gelu(x W_in + b_in) W_out + b_out`.
    Dense,
    /// A sparse mixture of such maps without output bias, of which each position uses a few (Shazeer et al. 2017).
    Mixture {
        /// How many maps there are.
        experts: usize,
        /// How many each position uses.
        top_k: usize,
    },
}

impl Config {
    /// An error that names the first size that makes no model.
    pub fn check(&self) -> Result<()> {
        let sizes = [
            ("n_layers", self.n_layers),
            ("n_heads", self.n_heads),
            ("d_model", self.d_model),
            ("d_mlp", self.d_mlp),
            ("vocab", self.vocab),
            ("context", self.context),
        ];
        if let Some((name, size)) = sizes.into_iter().find(|(_, size)| *size == 0 || *size > GREATEST) {
            return Err(Error::config(name, format!("{size} is not between 1 and {GREATEST}")));
        }
        if !self.d_model.is_multiple_of(self.n_heads) {
            let why = format!("{} heads do not divide a `d_model` of {}", self.n_heads, self.d_model);
            return Err(Error::config("n_heads", why));
        }
        if self.positions != self.positions.with(self.mixer) {
            let why = "`involution` has no queries to rotate, and its kernels know their order: choose `none`";
            return Err(Error::config("positions", why));
        }
        if self.positions == Positions::Rotary && !self.d_head().is_multiple_of(2) {
            let why = format!("heads of {} cannot be rotated in pairs; choose an even size", self.d_head());
            return Err(Error::config("positions", why));
        }
        self.mixer.check(self.context)?;
        match self.feed_forward {
            FeedForward::Mixture { experts, top_k } if experts == 0 || top_k == 0 || top_k > experts => {
                let why = format!("{top_k} of {experts} experts cannot be chosen");
                Err(Error::config("feed_forward", why))
            }
            FeedForward::Mixture { experts, .. } if experts > 4096 => {
                Err(Error::config("feed_forward", format!("{experts} experts are more than 4096")))
            }
            _ => Ok(()),
        }
    }

    /// One head's vector.
    #[must_use]
    pub const fn d_head(&self) -> usize {
        self.d_model / self.n_heads
    }

    /// The sizes, as tools know them; the neurons of all experts are counted together.
    #[must_use]
    pub fn dims(&self) -> Dims {
        let mut others = BTreeMap::new();
        match self.mixer {
            Mixer::Correlation { window, .. } => others.insert("lag".to_owned(), window),
            Mixer::Involution { kernel } => others.insert("kernel".to_owned(), kernel),
            Mixer::Attention | Mixer::Original => None,
        };
        let experts = match self.feed_forward {
            FeedForward::Dense => 1,
            FeedForward::Mixture { experts, .. } => {
                others.insert("expert".to_owned(), experts);
                experts
            }
        };
        Dims {
            family: FAMILY.to_owned(),
            n_layers: self.n_layers,
            n_heads: self.n_heads,
            n_kv_heads: self.n_heads,
            d_model: self.d_model,
            d_head: self.d_head(),
            d_mlp: self.d_mlp * experts,
            vocab: self.vocab,
            context: self.context,
            norm: NormKind::Layer,
            norm_eps: NORM_EPS,
            residual: Residual::Serial,
            others,
        }
    }

    /// How many numbers the model has.
    #[must_use]
    pub fn parameters(&self) -> u64 {
        Layout::of(self).count() as u64
    }

    /// The same model with as many neurons as keep it within `parameters`: how models are made of one size.
    ///
    /// # Errors
    /// The least size there is, if one neuron is too many.
    pub fn fitted(&self, parameters: u64) -> Result<Self> {
        let one = Self { d_mlp: 1, ..self.clone() }.parameters();
        let each = Self { d_mlp: 2, ..self.clone() }.parameters() - one;
        if one > parameters {
            let why = format!("this model has {one} with one neuron in each block, and {parameters} are allowed");
            return Err(Error::config("parameters", why));
        }
        Ok(Self { d_mlp: 1 + ((parameters - one) / each) as usize, ..self.clone() })
    }
}

/// Added under the root of every norm.
pub(crate) const NORM_EPS: f64 = 1e-5;

impl Mixer {
    fn check(self, context: usize) -> Result<()> {
        let (what, len) = match self {
            Self::Attention | Self::Original => return Ok(()),
            Self::Correlation { window, lags } => {
                if lags == Lags::LowRank(0) {
                    return Err(Error::config("mixer", "a lag matrix of rank 0 scores nothing; the least rank is 1"));
                }
                if let Lags::LowRank(rank) = lags
                    && rank > window
                {
                    let why = format!("a lag matrix of {window} lags has at most rank {window}, not {rank}");
                    return Err(Error::config("mixer", why));
                }
                ("window", window)
            }
            Self::Involution { kernel } => ("kernel", kernel),
        };
        if len == 0 || len > context {
            return Err(Error::config(what, format!("{len} is not between 1 and the context of {context}")));
        }
        Ok(())
    }
}

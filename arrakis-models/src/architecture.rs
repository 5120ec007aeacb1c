//! What a decoder does, as a few axes: each a sum type, none a family's name.

use arrakis_core::Dims;
use serde::Serialize;
use tch::{Kind, Tensor};

use crate::rope::Rope;

/// A decoder's mathematics, without its weights.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Architecture {
    /// The sizes, the norm and how the halves of a block meet.
    pub dims: Dims,
    /// How positions enter.
    pub positions: Positions,
    /// Whether each head's queries and keys are normed.
    pub qk_norm: QkNorm,
    /// What the scores are multiplied by.
    pub score_scale: ScoreScale,
    /// How precisely scores are computed.
    pub score_precision: ScorePrecision,
    /// What each block may attend to; one entry for each block.
    pub windows: Vec<Window>,
    /// The norm that the MLP reads through.
    pub mlp_norm: MlpNorm,
    /// The shape of the MLP.
    pub mlp: MlpKind,
    /// What the neurons do.
    pub activation: Activation,
    /// What token embeddings are multiplied by.
    pub embed_scale: EmbedScale,
}

impl Architecture {
    /// What most decoders do: scores over `sqrt(d_head)`, everything before a position seen, an MLP with its own norm.
    #[must_use]
    pub fn usual(dims: Dims, positions: Positions, mlp: MlpKind, activation: Activation) -> Self {
        Self {
            positions,
            qk_norm: QkNorm::None,
            score_scale: ScoreScale::RootDHead,
            score_precision: ScorePrecision::Model,
            windows: vec![Window::Causal; dims.n_layers],
            mlp_norm: MlpNorm::Own,
            mlp,
            activation,
            embed_scale: EmbedScale::One,
            dims,
        }
    }
}

/// How positions enter.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Positions {
    /// A learned vector for each position, added to the embedding.
    Learned,
    /// Queries and keys rotated by their position.
    Rotary(Rope),
}

/// Whether each head's queries and keys are normed, before they are rotated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum QkNorm {
    /// They are not.
    None,
    /// By the decoder's kind of norm, with a weight for each head and no bias.
    PerHead,
}

/// What the scores `q · k` are multiplied by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ScoreScale {
    /// 1.
    One,
    /// `1 / sqrt(d_head)`.
    RootDHead,
    /// `1 / (layer + 1)`.
    Layer,
    /// `1 / (sqrt(d_head) (layer + 1))`.
    RootDHeadAndLayer,
}

impl ScoreScale {
    /// The factor in a block.
    #[must_use]
    pub fn factor(self, d_head: usize, layer: usize) -> f64 {
        let root = 1.0 / (d_head as f64).sqrt();
        let by_layer = 1.0 / (layer as f64 + 1.0);
        match self {
            Self::One => 1.0,
            Self::RootDHead => root,
            Self::Layer => by_layer,
            Self::RootDHeadAndLayer => root * by_layer,
        }
    }
}

/// How precisely scores are computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ScorePrecision {
    /// In the kind of the model; the softmax of 16-bit floats is taken in 32 bits all the same.
    Model,
    /// In 32 bits at least.
    Single,
}

/// What a position may attend to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Window {
    /// Itself and everything before it.
    Causal,
    /// Itself and the positions before it, this many in all.
    Sliding(usize),
}

/// The norm that the MLP reads through.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum MlpNorm {
    /// One of its own.
    Own,
    /// The one before attention; there is no `ln2` and no `hook_mlp_in`.
    Shared,
}

/// The shape of the MLP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum MlpKind {
    /// `act(x W_in + b_in) W_out + b_out`.
    Plain,
    /// `(act(x W_gate) * (x W_in)) W_out`.
    Gated,
}

/// What the neurons do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Activation {
    /// `x Φ(x)`.
    Gelu,
    /// GELU by its tanh approximation (Hendrycks and Gimpel, 2016).
    GeluTanh,
    /// `max(x, 0)`.
    Relu,
    /// `x sigmoid(x)`.
    Silu,
}

impl Activation {
    /// The activation of that name in a Hugging Face config, if it is known.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Some(match name {
            "gelu" => Self::Gelu,
            "gelu_new" | "gelu_pytorch_tanh" | "gelu_fast" => Self::GeluTanh,
            "relu" => Self::Relu,
            "silu" | "swish" => Self::Silu,
            _ => return None,
        })
    }

    pub(crate) fn apply(self, x: &Tensor) -> Result<Tensor, tch::TchError> {
        match self {
            Self::Gelu => x.f_gelu("none"),
            Self::GeluTanh => x.f_gelu("tanh"),
            Self::Relu => x.f_relu(),
            Self::Silu => x.f_silu(),
        }
    }
}

/// The kind in which norms and softmaxes are computed: 16-bit floats are too coarse for them.
pub(crate) fn wide(kind: Kind) -> Kind {
    if matches!(kind, Kind::BFloat16 | Kind::Half) { Kind::Float } else { kind }
}

/// What token embeddings are multiplied by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum EmbedScale {
    /// 1.
    One,
    /// `sqrt(d_model)`, rounded to the kind of the weights.
    RootDModel,
}

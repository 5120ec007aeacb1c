//! Gemma (Gemma Team 2024): Llama with scaled embeddings, norms stored less one, and a GELU gate.

use arrakis_core::{Dims, NormKind};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::shape::Shape;
use super::{Biased, Blueprint, Unembed, activation, llama};
use crate::architecture::{Activation, Architecture, EmbedScale, MlpKind};
use crate::config::{self, Beside, Rotated};
use crate::error::Result;
use crate::names::{Names, NormWeights};

/// The family's `model_type`.
pub(super) const NAME: &str = "gemma";

/// The family's tensors.
const NAMES: Names = Names { norm_weights: NormWeights::LessOne, ..llama::NAMES };

const BESIDE: Beside = Beside { harmless: &[], fixed: &[("mlp_bias", false), ("use_bidirectional_attention", false)] };

#[derive(Deserialize)]
struct Config {
    num_key_value_heads: Option<usize>,
    head_dim: Option<usize>,
    rms_norm_eps: Option<f64>,
    hidden_activation: Option<String>,
    #[serde(default)]
    attention_bias: bool,
}

/// What the config says.
pub(super) fn blueprint(fields: &Map<String, Value>) -> Result<Blueprint> {
    let (mut shape, config): (Shape, Config) = config::read(NAME, fields, &BESIDE)?;
    let usual = shape.dims(NAME, 8192, config.rms_norm_eps.unwrap_or(1e-6));
    let dims = Dims {
        n_kv_heads: config.num_key_value_heads.unwrap_or(usual.n_kv_heads),
        d_head: config.head_dim.unwrap_or(256),
        norm: NormKind::Rms,
        ..usual
    };
    let positions = shape.positions(&dims, 10_000.0, Rotated::Whole)?;
    let activation = match (&config.hidden_activation, shape.hidden_act.as_deref()) {
        (Some(name), _) => activation(NAME, "hidden_activation", name)?,
        // The first configs said `gelu` of weights that were trained with its tanh approximation; transformers ran the
        // exact GELU on configs without `hidden_activation` from 4.48 on.
        (None, Some("gelu") | None) => Activation::GeluTanh,
        (None, Some(name)) => activation(NAME, "hidden_act", name)?,
    };
    let usual = Architecture::usual(dims, positions, MlpKind::Gated, activation);
    Ok(Blueprint {
        architecture: Architecture { embed_scale: EmbedScale::RootDModel, ..usual },
        biases: if config.attention_bias { vec![Biased::Qkv, Biased::O] } else { Vec::new() },
        unembed: shape.unembed(Unembed::Tied),
        names: NAMES,
    })
}

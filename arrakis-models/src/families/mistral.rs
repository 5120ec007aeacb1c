//! Mistral (Jiang et al. 2023): Llama with a sliding window in every block.

use arrakis_core::{Dims, NormKind};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::shape::Shape;
use super::{Blueprint, Unembed, llama, sliding};
use crate::architecture::{Activation, Architecture, MlpKind};
use crate::config::{self, Beside, Rotated};
use crate::error::Result;

/// The family's `model_type`.
pub(super) const NAME: &str = "mistral";

#[derive(Deserialize)]
struct Config {
    num_key_value_heads: Option<usize>,
    head_dim: Option<usize>,
    rms_norm_eps: Option<f64>,
    sliding_window: Option<usize>,
}

/// What the config says.
pub(super) fn blueprint(fields: &Map<String, Value>) -> Result<Blueprint> {
    let beside = Beside { harmless: &[], fixed: &[("attention_bias", false), ("mlp_bias", false)] };
    let (mut shape, config): (Shape, Config) = config::read(NAME, fields, &beside)?;
    let usual = shape.dims(NAME, 131_072, config.rms_norm_eps.unwrap_or(1e-6));
    let dims = Dims {
        n_kv_heads: config.num_key_value_heads.unwrap_or(usual.n_kv_heads),
        d_head: config.head_dim.unwrap_or(usual.d_head),
        norm: NormKind::Rms,
        ..usual
    };
    let positions = shape.positions(&dims, 10_000.0, Rotated::Whole)?;
    let activation = shape.activation(NAME, Activation::Silu)?;
    let windows = vec![sliding(fields, config.sliding_window, Some(4096)); dims.n_layers];
    Ok(Blueprint {
        architecture: Architecture { windows, ..Architecture::usual(dims, positions, MlpKind::Gated, activation) },
        biases: Vec::new(),
        unembed: shape.unembed(Unembed::Own),
        names: llama::NAMES,
    })
}

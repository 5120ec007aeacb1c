//! Qwen2 (Yang et al. 2024): Llama with biases of queries, keys and values, and a sliding window in its upper blocks.

use arrakis_core::{Dims, NormKind};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::shape::Shape;
use super::{Biased, Blueprint, Unembed, llama, refused, sliding};
use crate::architecture::{Activation, Architecture, MlpKind, Window};
use crate::config::{self, Beside, Rotated};
use crate::error::Result;

/// The family's `model_type`.
pub(super) const NAME: &str = "qwen2";

/// The biases are the family's own, whatever `attention_bias` says; a tensor too many or too few is an error anyhow.
const BESIDE: Beside = Beside { harmless: &["attention_bias"], fixed: &[("mlp_bias", false), ("use_mrope", false)] };

#[derive(Deserialize)]
struct Config {
    num_key_value_heads: Option<usize>,
    head_dim: Option<usize>,
    rms_norm_eps: Option<f64>,
    #[serde(default)]
    use_sliding_window: bool,
    sliding_window: Option<usize>,
    #[serde(default = "blocks_without_window")]
    max_window_layers: usize,
    layer_types: Option<Vec<LayerType>>,
}

fn blocks_without_window() -> usize {
    28
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
enum LayerType {
    FullAttention,
    SlidingAttention,
}

/// What the config says.
pub(super) fn blueprint(fields: &Map<String, Value>) -> Result<Blueprint> {
    let (mut shape, config): (Shape, Config) = config::read(NAME, fields, &BESIDE)?;
    let usual = shape.dims(NAME, 32_768, config.rms_norm_eps.unwrap_or(1e-6));
    let dims = Dims {
        n_kv_heads: config.num_key_value_heads.unwrap_or(usual.n_kv_heads),
        d_head: config.head_dim.unwrap_or(usual.d_head),
        norm: NormKind::Rms,
        ..usual
    };
    let positions = shape.positions(&dims, 10_000.0, Rotated::Whole)?;
    let activation = shape.activation(NAME, Activation::Silu)?;
    let windows = windows(&config, fields, dims.n_layers)?;
    Ok(Blueprint {
        architecture: Architecture { windows, ..Architecture::usual(dims, positions, MlpKind::Gated, activation) },
        biases: vec![Biased::Qkv],
        unembed: shape.unembed(Unembed::Own),
        names: llama::NAMES,
    })
}

fn windows(config: &Config, fields: &Map<String, Value>, n_layers: usize) -> Result<Vec<Window>> {
    let window =
        if config.use_sliding_window { sliding(fields, config.sliding_window, Some(4096)) } else { Window::Causal };
    let Some(types) = &config.layer_types else {
        let of = |layer| if layer < config.max_window_layers { Window::Causal } else { window };
        return Ok((0..n_layers).map(of).collect());
    };
    if types.len() != n_layers {
        return Err(refused(NAME, format!("field `layer_types` has {} entries for {n_layers} blocks", types.len())));
    }
    let of = |kind: &LayerType| match (kind, window) {
        (LayerType::FullAttention, _) => Ok(Window::Causal),
        (LayerType::SlidingAttention, Window::Sliding(_)) => Ok(window),
        (LayerType::SlidingAttention, Window::Causal) => {
            Err(refused(NAME, "field `layer_types` has `sliding_attention`, and no `sliding_window` is used".into()))
        }
    };
    types.iter().map(of).collect()
}

//! Phi-3 (Abdin et al. 2024): Llama with fused projections, a sliding window, and heads rotated in part.

use arrakis_core::{Dims, NormKind};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::shape::Shape;
use super::{Blueprint, Unembed, llama, sliding};
use crate::architecture::{Activation, Architecture, MlpKind};
use crate::config::{self, Beside, Rotated};
use crate::error::Result;
use crate::names::{MlpIn, Names, Qkv};

/// The family's `model_type`.
pub(super) const NAME: &str = "phi3";

/// The family's tensors.
const NAMES: Names = Names {
    qkv: Qkv::Stacked("layers.{}.self_attn.qkv_proj"),
    mlp_in: MlpIn::Stacked("layers.{}.mlp.gate_up_proj"),
    ..llama::NAMES
};

/// Fields of Phi-4-mini that no published code reads, and biases that the family does not have.
const BESIDE: Beside = Beside {
    harmless: &["full_attn_mod", "interpolate_factor"],
    fixed: &[("attention_bias", false), ("lm_head_bias", false), ("mlp_bias", false)],
};

#[derive(Deserialize)]
struct Config {
    num_key_value_heads: Option<usize>,
    head_dim: Option<usize>,
    rms_norm_eps: Option<f64>,
    sliding_window: Option<usize>,
}

/// What the config says.
pub(super) fn blueprint(fields: &Map<String, Value>) -> Result<Blueprint> {
    let (mut shape, config): (Shape, Config) = config::read(NAME, fields, &BESIDE)?;
    let usual = shape.dims(NAME, 4096, config.rms_norm_eps.unwrap_or(1e-5));
    let dims = Dims {
        n_kv_heads: config.num_key_value_heads.unwrap_or(usual.n_kv_heads),
        d_head: config.head_dim.unwrap_or(usual.d_head),
        norm: NormKind::Rms,
        ..usual
    };
    let positions = shape.positions(&dims, 10_000.0, Rotated::Part(1.0))?;
    let activation = shape.activation(NAME, Activation::Silu)?;
    let windows = vec![sliding(fields, config.sliding_window, None); dims.n_layers];
    Ok(Blueprint {
        architecture: Architecture { windows, ..Architecture::usual(dims, positions, MlpKind::Gated, activation) },
        biases: Vec::new(),
        unembed: shape.unembed(Unembed::Own),
        names: NAMES,
    })
}

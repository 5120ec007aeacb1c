//! `StableLM` (Bellagente et al. 2024): layer norm, heads rotated in part and normed, blocks parallel under one norm.

use arrakis_core::{Dims, Residual};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::shape::Shape;
use super::{Biased, Blueprint, Unembed, llama};
use crate::architecture::{Activation, Architecture, MlpKind, MlpNorm, QkNorm};
use crate::config::{self, Beside, Rotated};
use crate::error::Result;
use crate::names::Names;

/// The family's `model_type`.
pub(super) const NAME: &str = "stablelm";

/// The family's tensors.
const NAMES: Names = Names {
    qk_norms: Some([
        "layers.{}.self_attn.q_layernorm.norms.{head}.weight",
        "layers.{}.self_attn.k_layernorm.norms.{head}.weight",
    ]),
    ..llama::NAMES
};

#[derive(Deserialize)]
struct Config {
    num_key_value_heads: Option<usize>,
    layer_norm_eps: Option<f64>,
    #[serde(default)]
    use_qkv_bias: bool,
    #[serde(default)]
    qk_layernorm: bool,
    #[serde(default)]
    use_parallel_residual: bool,
}

/// What the config says.
pub(super) fn blueprint(fields: &Map<String, Value>) -> Result<Blueprint> {
    let (mut shape, config): (Shape, Config) = config::read(NAME, fields, &Beside::default())?;
    let usual = shape.dims(NAME, 4096, config.layer_norm_eps.unwrap_or(1e-5));
    let (residual, mlp_norm) = if config.use_parallel_residual {
        (Residual::Parallel, MlpNorm::Shared)
    } else {
        (Residual::Serial, MlpNorm::Own)
    };
    let dims = Dims { n_kv_heads: config.num_key_value_heads.unwrap_or(usual.n_kv_heads), residual, ..usual };
    let positions = shape.positions(&dims, 10_000.0, Rotated::Part(0.25))?;
    let activation = shape.activation(NAME, Activation::Silu)?;
    let architecture = Architecture {
        qk_norm: if config.qk_layernorm { QkNorm::PerHead } else { QkNorm::None },
        mlp_norm,
        ..Architecture::usual(dims, positions, MlpKind::Gated, activation)
    };
    let biases = [Biased::Norm].into_iter().chain(config.use_qkv_bias.then_some(Biased::Qkv));
    Ok(Blueprint { architecture, biases: biases.collect(), unembed: shape.unembed(Unembed::Own), names: NAMES })
}

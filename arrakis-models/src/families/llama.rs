//! Llama (Touvron et al. 2023): RMS norm, rotary positions, grouped-query attention, gated MLP.

use arrakis_core::{Dims, NormKind};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::shape::Shape;
use super::{Biased, Blueprint, Unembed};
use crate::architecture::{Activation, Architecture, MlpKind};
use crate::config::{self, Beside, Rotated};
use crate::error::Result;
use crate::names::{MlpIn, Names, NormWeights, Orientation, Qkv};

/// The family's `model_type`.
pub(super) const NAME: &str = "llama";

/// The family's tensors.
pub(super) const NAMES: Names = Names {
    prefixes: &["model.", ""],
    embed: "embed_tokens.weight",
    pos_embed: None,
    ln1: "layers.{}.input_layernorm",
    qkv: Qkv::Separate {
        q: "layers.{}.self_attn.q_proj",
        k: "layers.{}.self_attn.k_proj",
        v: "layers.{}.self_attn.v_proj",
    },
    qk_norms: None,
    o: "layers.{}.self_attn.o_proj",
    ln2: "layers.{}.post_attention_layernorm",
    mlp_in: MlpIn::Gated { gate: "layers.{}.mlp.gate_proj", linear: "layers.{}.mlp.up_proj" },
    mlp_out: "layers.{}.mlp.down_proj",
    ln_final: "norm",
    unembed: &["lm_head.weight"],
    orientation: Orientation::OutIn,
    norm_weights: NormWeights::Whole,
    buffers: &["layers.{}.self_attn.rotary_emb.inv_freq"],
};

#[derive(Deserialize)]
struct Config {
    num_key_value_heads: Option<usize>,
    head_dim: Option<usize>,
    rms_norm_eps: Option<f64>,
    #[serde(default)]
    attention_bias: bool,
    #[serde(default)]
    mlp_bias: bool,
}

/// What the config says.
pub(super) fn blueprint(fields: &Map<String, Value>) -> Result<Blueprint> {
    let beside = Beside { harmless: &["pretraining_tp"], fixed: &[] };
    let (mut shape, config): (Shape, Config) = config::read(NAME, fields, &beside)?;
    let usual = shape.dims(NAME, 2048, config.rms_norm_eps.unwrap_or(1e-6));
    let dims = Dims {
        n_kv_heads: config.num_key_value_heads.unwrap_or(usual.n_kv_heads),
        d_head: config.head_dim.unwrap_or(usual.d_head),
        norm: NormKind::Rms,
        ..usual
    };
    let positions = shape.positions(&dims, 10_000.0, Rotated::Whole)?;
    let activation = shape.activation(NAME, Activation::Silu)?;
    let attention = config.attention_bias.then_some([Biased::Qkv, Biased::O]).into_iter().flatten();
    Ok(Blueprint {
        architecture: Architecture::usual(dims, positions, MlpKind::Gated, activation),
        biases: attention.chain(config.mlp_bias.then_some(Biased::Mlp)).collect(),
        unembed: shape.unembed(Unembed::Own),
        names: NAMES,
    })
}

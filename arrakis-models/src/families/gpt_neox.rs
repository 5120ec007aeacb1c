//! GPT-NeoX (Black et al. 2022; Pythia, Biderman et al. 2023): parallel blocks, heads rotated in part.

use arrakis_core::{Dims, Residual};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::shape::Shape;
use super::{Biased, Blueprint, Unembed};
use crate::architecture::{Activation, Architecture, MlpKind};
use crate::config::{self, Beside, Rotated};
use crate::error::Result;
use crate::names::{MlpIn, Names, NormWeights, Orientation, Qkv};

/// The family's `model_type`.
pub(super) const NAME: &str = "gpt_neox";

/// The family's tensors.
const NAMES: Names = Names {
    prefixes: &["gpt_neox.", ""],
    embed: "embed_in.weight",
    pos_embed: None,
    ln1: "layers.{}.input_layernorm",
    qkv: Qkv::ByHead("layers.{}.attention.query_key_value"),
    qk_norms: None,
    o: "layers.{}.attention.dense",
    ln2: "layers.{}.post_attention_layernorm",
    mlp_in: MlpIn::Plain("layers.{}.mlp.dense_h_to_4h"),
    mlp_out: "layers.{}.mlp.dense_4h_to_h",
    ln_final: "final_layer_norm",
    unembed: &["embed_out.weight", "lm_head.weight"],
    orientation: Orientation::OutIn,
    norm_weights: NormWeights::Whole,
    buffers: &[
        "layers.{}.attention.bias",
        "layers.{}.attention.masked_bias",
        "layers.{}.attention.rotary_emb.inv_freq",
    ],
};

/// Dropout under older names, and a field that changes nothing about a causal model.
const BESIDE: Beside =
    Beside { harmless: &["attention_probs_dropout_prob", "hidden_dropout_prob", "is_decoder"], fixed: &[] };

#[derive(Deserialize)]
struct Config {
    layer_norm_eps: Option<f64>,
    rotary_emb_base: Option<f64>,
    rotary_pct: Option<f64>,
    #[serde(default = "yes")]
    attention_bias: bool,
    #[serde(default = "yes")]
    use_parallel_residual: bool,
}

fn yes() -> bool {
    true
}

/// What the config says.
pub(super) fn blueprint(fields: &Map<String, Value>) -> Result<Blueprint> {
    let (mut shape, config): (Shape, Config) = config::read(NAME, fields, &BESIDE)?;
    let residual = if config.use_parallel_residual { Residual::Parallel } else { Residual::Serial };
    let dims = Dims { residual, ..shape.dims(NAME, 2048, config.layer_norm_eps.unwrap_or(1e-5)) };
    let (theta, part) = (config.rotary_emb_base.unwrap_or(10_000.0), config.rotary_pct.unwrap_or(0.25));
    let positions = shape.positions(&dims, theta, Rotated::Part(part))?;
    let activation = shape.activation(NAME, Activation::Gelu)?;
    let attention = config.attention_bias.then_some([Biased::Qkv, Biased::O]).into_iter().flatten();
    Ok(Blueprint {
        architecture: Architecture::usual(dims, positions, MlpKind::Plain, activation),
        biases: attention.chain([Biased::Mlp, Biased::Norm]).collect(),
        unembed: shape.unembed(Unembed::Own),
        names: NAMES,
    })
}

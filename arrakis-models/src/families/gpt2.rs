//! GPT-2 (Radford et al. 2019): layer norm, learned positions, biases everywhere, `Conv1D` storage.

use std::collections::BTreeMap;

use arrakis_core::{Dims, NormKind, Residual};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::{Biased, Blueprint, Unembed, activation};
use crate::architecture::{Architecture, MlpKind, Positions, ScorePrecision, ScoreScale};
use crate::config::{self, Beside};
use crate::error::Result;
use crate::names::{MlpIn, Names, NormWeights, Orientation, Qkv};

/// The family's `model_type`.
pub(super) const NAME: &str = "gpt2";

/// The family's tensors.
pub(super) const NAMES: Names = Names {
    prefixes: &["transformer.", ""],
    embed: "wte.weight",
    pos_embed: Some("wpe.weight"),
    ln1: "h.{}.ln_1",
    qkv: Qkv::Stacked("h.{}.attn.c_attn"),
    qk_norms: None,
    o: "h.{}.attn.c_proj",
    ln2: "h.{}.ln_2",
    mlp_in: MlpIn::Plain("h.{}.mlp.c_fc"),
    mlp_out: "h.{}.mlp.c_proj",
    ln_final: "ln_f",
    unembed: &["lm_head.weight"],
    orientation: Orientation::InOut,
    norm_weights: NormWeights::Whole,
    buffers: &["h.{}.attn.bias", "h.{}.attn.masked_bias"],
};

/// The context under an older name, and fields of heads that no language model has.
const BESIDE: Beside = Beside {
    harmless: &[
        "n_ctx",
        "summary_activation",
        "summary_first_dropout",
        "summary_proj_to_labels",
        "summary_type",
        "summary_use_proj",
    ],
    fixed: &[],
};

#[derive(Deserialize)]
struct Config {
    #[serde(default = "vocab")]
    vocab_size: usize,
    #[serde(default = "context")]
    n_positions: usize,
    n_embd: usize,
    n_layer: u16,
    n_head: usize,
    n_inner: Option<usize>,
    #[serde(default = "gelu_new")]
    activation_function: String,
    #[serde(default = "eps")]
    layer_norm_epsilon: f64,
    #[serde(default = "yes")]
    scale_attn_weights: bool,
    #[serde(default)]
    scale_attn_by_inverse_layer_idx: bool,
    #[serde(default)]
    reorder_and_upcast_attn: bool,
    tie_word_embeddings: Option<bool>,
}

fn vocab() -> usize {
    50_257
}

fn context() -> usize {
    1024
}

fn gelu_new() -> String {
    "gelu_new".into()
}

fn eps() -> f64 {
    1e-5
}

fn yes() -> bool {
    true
}

/// What the config says.
pub(super) fn blueprint(fields: &Map<String, Value>) -> Result<Blueprint> {
    let ((), config): ((), Config) = config::read(NAME, fields, &BESIDE)?;
    let activation = activation(NAME, "activation_function", &config.activation_function)?;
    let score_scale = match (config.scale_attn_weights, config.scale_attn_by_inverse_layer_idx) {
        (true, true) => ScoreScale::RootDHeadAndLayer,
        (true, false) => ScoreScale::RootDHead,
        (false, true) => ScoreScale::Layer,
        (false, false) => ScoreScale::One,
    };
    let dims = Dims {
        family: NAME.into(),
        n_layers: config.n_layer.into(),
        n_heads: config.n_head,
        n_kv_heads: config.n_head,
        d_model: config.n_embd,
        d_head: config.n_embd / config.n_head.max(1),
        d_mlp: config.n_inner.unwrap_or(config.n_embd.saturating_mul(4)),
        vocab: config.vocab_size,
        context: config.n_positions,
        norm: NormKind::Layer,
        norm_eps: config.layer_norm_epsilon,
        residual: Residual::Serial,
        others: BTreeMap::new(),
    };
    let score_precision = if config.reorder_and_upcast_attn { ScorePrecision::Single } else { ScorePrecision::Model };
    let usual = Architecture::usual(dims, Positions::Learned, MlpKind::Plain, activation);
    Ok(Blueprint {
        architecture: Architecture { score_scale, score_precision, ..usual },
        biases: vec![Biased::Qkv, Biased::O, Biased::Mlp, Biased::Norm],
        unembed: Unembed::tied(config.tie_word_embeddings.unwrap_or(true)),
        names: NAMES,
    })
}

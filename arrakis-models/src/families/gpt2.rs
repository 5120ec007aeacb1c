//! GPT-2 (Radford et al. 2019): layer norm, learned positions, biases everywhere, `Conv1D` storage.

use arrakis_core::{Dims, NormKind, Residual};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::{Biased, Blueprint, Unembed};
use crate::architecture::{Activation, Architecture, EmbedScale, MlpKind, Positions, ScoreScale, Window};
use crate::config;
use crate::error::{Error, Result};
use crate::names::{Names, Orientation, Qkv};

/// The family's `model_type`.
pub(super) const NAME: &str = "gpt2";

/// The family's tensors.
pub(super) const NAMES: Names = Names {
    prefixes: &["transformer.", ""],
    embed: "wte.weight",
    pos_embed: Some("wpe.weight"),
    ln1: "h.{}.ln_1",
    qkv: Qkv::Stacked("h.{}.attn.c_attn"),
    o: "h.{}.attn.c_proj",
    ln2: "h.{}.ln_2",
    gate: None,
    input: "h.{}.mlp.c_fc",
    output: "h.{}.mlp.c_proj",
    ln_final: "ln_f",
    unembed: "lm_head.weight",
    orientation: Orientation::InOut,
    buffers: &["h.{}.attn.bias", "h.{}.attn.masked_bias"],
};

/// Fields of heads that no language model has, and of a number format that changes no value here.
const HARMLESS: &[&str] = &[
    "n_ctx",
    "reorder_and_upcast_attn",
    "summary_activation",
    "summary_first_dropout",
    "summary_proj_to_labels",
    "summary_type",
    "summary_use_proj",
];

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    #[serde(default = "vocab")]
    vocab_size: usize,
    #[serde(default = "context")]
    n_positions: usize,
    n_embd: usize,
    n_layer: usize,
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
    #[serde(default = "yes")]
    tie_word_embeddings: bool,
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
    let config: Config = config::read(NAME, fields, HARMLESS)?;
    let activation = Activation::named(&config.activation_function).ok_or_else(|| Error::Config {
        family: NAME.into(),
        what: format!("field `activation_function`: `{}` is not implemented", config.activation_function),
    })?;
    let score_scale = match (config.scale_attn_weights, config.scale_attn_by_inverse_layer_idx) {
        (true, true) => ScoreScale::RootDHeadAndLayer,
        (true, false) => ScoreScale::RootDHead,
        (false, true) => ScoreScale::Layer,
        (false, false) => ScoreScale::One,
    };
    let architecture = Architecture {
        dims: Dims {
            family: NAME.into(),
            n_layers: config.n_layer,
            n_heads: config.n_head,
            n_kv_heads: config.n_head,
            d_model: config.n_embd,
            d_head: config.n_embd / config.n_head.max(1),
            d_mlp: config.n_inner.unwrap_or(4 * config.n_embd),
            vocab: config.vocab_size,
            context: config.n_positions,
            norm: NormKind::Layer,
            norm_eps: config.layer_norm_epsilon,
            residual: Residual::Serial,
        },
        positions: Positions::Learned,
        score_scale,
        windows: vec![Window::Causal; config.n_layer],
        mlp: MlpKind::Plain,
        activation,
        embed_scale: EmbedScale::One,
    };
    Ok(Blueprint {
        architecture,
        biases: vec![Biased::Qkv, Biased::O, Biased::Mlp, Biased::Norm],
        unembed: if config.tie_word_embeddings { Unembed::Tied } else { Unembed::Own },
        names: NAMES,
    })
}

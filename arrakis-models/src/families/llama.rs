//! Llama (Touvron et al. 2023): RMS norm, rotary positions, grouped-query attention, gated MLP.

use arrakis_core::{Dims, NormKind, Residual};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::{Biased, Blueprint, Unembed};
use crate::architecture::{Activation, Architecture, EmbedScale, MlpKind, Positions, ScoreScale, Window};
use crate::config::{self, RopeConfig};
use crate::error::{Error, Result};
use crate::names::{Names, Orientation, Qkv};

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
    o: "layers.{}.self_attn.o_proj",
    ln2: "layers.{}.post_attention_layernorm",
    gate: Some("layers.{}.mlp.gate_proj"),
    input: "layers.{}.mlp.up_proj",
    output: "layers.{}.mlp.down_proj",
    ln_final: "norm",
    unembed: "lm_head.weight",
    orientation: Orientation::OutIn,
    buffers: &["layers.{}.self_attn.rotary_emb.inv_freq"],
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    vocab_size: usize,
    hidden_size: usize,
    intermediate_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    num_key_value_heads: Option<usize>,
    head_dim: Option<usize>,
    #[serde(default = "silu")]
    hidden_act: String,
    #[serde(default = "context")]
    max_position_embeddings: usize,
    #[serde(default = "eps")]
    rms_norm_eps: f64,
    #[serde(default)]
    tie_word_embeddings: bool,
    #[serde(default)]
    attention_bias: bool,
    #[serde(default)]
    mlp_bias: bool,
    #[serde(default)]
    rope: RopeConfig,
}

fn silu() -> String {
    "silu".into()
}

fn context() -> usize {
    2048
}

fn eps() -> f64 {
    1e-6
}

/// What the config says.
pub(super) fn blueprint(fields: &Map<String, Value>) -> Result<Blueprint> {
    let config: Config = config::read(NAME, fields, &["pretraining_tp"])?;
    let d_head = config.head_dim.unwrap_or(config.hidden_size / config.num_attention_heads.max(1));
    let context = config.max_position_embeddings;
    let activation = Activation::named(&config.hidden_act).ok_or_else(|| Error::Config {
        family: NAME.into(),
        what: format!("field `hidden_act`: `{}` is not implemented", config.hidden_act),
    })?;
    let architecture = Architecture {
        dims: Dims {
            family: NAME.into(),
            n_layers: config.num_hidden_layers,
            n_heads: config.num_attention_heads,
            n_kv_heads: config.num_key_value_heads.unwrap_or(config.num_attention_heads),
            d_model: config.hidden_size,
            d_head,
            d_mlp: config.intermediate_size,
            vocab: config.vocab_size,
            context,
            norm: NormKind::Rms,
            norm_eps: config.rms_norm_eps,
            residual: Residual::Serial,
        },
        positions: Positions::Rotary(config.rope.rope(d_head, context, 10_000.0, 1.0)),
        score_scale: ScoreScale::RootDHead,
        windows: vec![Window::Causal; config.num_hidden_layers],
        mlp: MlpKind::Gated,
        activation,
        embed_scale: EmbedScale::One,
    };
    let mut biases = Vec::new();
    if config.attention_bias {
        biases.extend([Biased::Qkv, Biased::O]);
    }
    if config.mlp_bias {
        biases.push(Biased::Mlp);
    }
    Ok(Blueprint {
        architecture,
        biases,
        unembed: if config.tie_word_embeddings { Unembed::Tied } else { Unembed::Own },
        names: NAMES,
    })
}

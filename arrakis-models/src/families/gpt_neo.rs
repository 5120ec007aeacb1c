//! GPT-Neo (Black et al. 2021): GPT-2 with local attention in some blocks and scores that are not scaled.

use std::collections::BTreeMap;

use arrakis_core::{Dims, NormKind, Residual};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::{Biased, Blueprint, Unembed, activation, gpt2, refused};
use crate::architecture::{Architecture, MlpKind, Positions, ScorePrecision, ScoreScale, Window};
use crate::config::{self, Beside};
use crate::error::Result;
use crate::names::{Names, Orientation, Qkv};

/// The family's `model_type`.
pub(super) const NAME: &str = "gpt_neo";

/// The family's tensors.
const NAMES: Names = Names {
    qkv: Qkv::Separate {
        q: "h.{}.attn.attention.q_proj",
        k: "h.{}.attn.attention.k_proj",
        v: "h.{}.attn.attention.v_proj",
    },
    o: "h.{}.attn.attention.out_proj",
    orientation: Orientation::OutIn,
    buffers: &["h.{}.attn.attention.bias", "h.{}.attn.attention.masked_bias"],
    ..gpt2::NAMES
};

/// Dropout, and fields of heads that no language model has.
const BESIDE: Beside = Beside {
    harmless: &[
        "embed_dropout",
        "resid_dropout",
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
    vocab_size: usize,
    hidden_size: usize,
    num_layers: u16,
    num_heads: usize,
    intermediate_size: Option<usize>,
    activation_function: Option<String>,
    max_position_embeddings: Option<usize>,
    layer_norm_epsilon: Option<f64>,
    attention_types: Option<Vec<(Vec<Reach>, usize)>>,
    attention_layers: Option<Vec<Reach>>,
    window_size: Option<usize>,
    tie_word_embeddings: Option<bool>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Reach {
    Global,
    Local,
}

/// What the config says.
pub(super) fn blueprint(fields: &Map<String, Value>) -> Result<Blueprint> {
    let ((), config): ((), Config) = config::read(NAME, fields, &BESIDE)?;
    let name = config.activation_function.as_deref().unwrap_or("gelu_new");
    let activation = activation(NAME, "activation_function", name)?;
    let windows = windows(&config)?;
    let dims = Dims {
        family: NAME.into(),
        n_layers: config.num_layers.into(),
        n_heads: config.num_heads,
        n_kv_heads: config.num_heads,
        d_model: config.hidden_size,
        d_head: config.hidden_size / config.num_heads.max(1),
        d_mlp: config.intermediate_size.unwrap_or(config.hidden_size.saturating_mul(4)),
        vocab: config.vocab_size,
        context: config.max_position_embeddings.unwrap_or(2048),
        norm: NormKind::Layer,
        norm_eps: config.layer_norm_epsilon.unwrap_or(1e-5),
        residual: Residual::Serial,
        others: BTreeMap::new(),
    };
    let architecture = Architecture {
        score_scale: ScoreScale::One,
        score_precision: ScorePrecision::Single,
        windows,
        ..Architecture::usual(dims, Positions::Learned, MlpKind::Plain, activation)
    };
    Ok(Blueprint {
        architecture,
        biases: vec![Biased::O, Biased::Mlp, Biased::Norm],
        unembed: Unembed::tied(config.tie_word_embeddings.unwrap_or(true)),
        names: NAMES,
    })
}

/// The window of each block; `attention_types` are groups of blocks, each with how often it comes.
fn windows(config: &Config) -> Result<Vec<Window>> {
    let usual = vec![(vec![Reach::Global, Reach::Local], 12)];
    let groups = config.attention_types.as_ref().unwrap_or(&usual);
    let blocks =
        groups.iter().fold(0, |sum: usize, (group, times)| sum.saturating_add(group.len().saturating_mul(*times)));
    if blocks != usize::from(config.num_layers) {
        return Err(refused(NAME, format!("field `attention_types` is for {blocks} blocks of {}", config.num_layers)));
    }
    let reaches: Vec<Reach> = groups.iter().flat_map(|(group, times)| group.repeat(*times)).collect();
    if config.attention_layers.as_ref().is_some_and(|layers| *layers != reaches) {
        return Err(refused(NAME, "fields `attention_types` and `attention_layers` contradict each other".into()));
    }
    let window = |reach: &Reach| match reach {
        Reach::Global => Window::Causal,
        Reach::Local => Window::Sliding(config.window_size.unwrap_or(256)),
    };
    Ok(reaches.iter().map(window).collect())
}

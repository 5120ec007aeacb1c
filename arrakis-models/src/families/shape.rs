//! The config fields that most families spell alike, and what follows from them.

use std::collections::BTreeMap;

use arrakis_core::{Dims, NormKind, Residual};
use serde::Deserialize;

use super::{Unembed, refused};
use crate::architecture::{Activation, Positions};
use crate::config::{RopeConfig, Rotated};
use crate::error::Result;

/// The sizes, the activation and the positions of a decoder.
#[derive(Deserialize)]
pub(super) struct Shape {
    pub(super) vocab_size: usize,
    pub(super) hidden_size: usize,
    pub(super) intermediate_size: usize,
    pub(super) num_hidden_layers: u16,
    pub(super) num_attention_heads: usize,
    pub(super) hidden_act: Option<String>,
    pub(super) max_position_embeddings: Option<usize>,
    pub(super) tie_word_embeddings: Option<bool>,
    #[serde(default)]
    pub(super) rope: RopeConfig,
}

impl Shape {
    /// The sizes, with layer norm, as many key-value heads as heads, and serial blocks; `context` if none is stated.
    pub(super) fn dims(&self, family: &str, context: usize, norm_eps: f64) -> Dims {
        Dims {
            family: family.into(),
            n_layers: self.num_hidden_layers.into(),
            n_heads: self.num_attention_heads,
            n_kv_heads: self.num_attention_heads,
            d_model: self.hidden_size,
            d_head: self.hidden_size / self.num_attention_heads.max(1),
            d_mlp: self.intermediate_size,
            vocab: self.vocab_size,
            context: self.max_position_embeddings.unwrap_or(context),
            norm: NormKind::Layer,
            norm_eps,
            residual: Residual::Serial,
            others: BTreeMap::new(),
        }
    }

    /// Rotary positions; `theta` if no base is stated.
    pub(super) fn positions(&mut self, dims: &Dims, theta: f64, rotated: Rotated) -> Result<Positions> {
        let rope = std::mem::take(&mut self.rope).rope(dims.d_head, dims.context, theta, rotated);
        rope.map(Positions::Rotary).map_err(|what| refused(&dims.family, what))
    }

    /// The activation; `usual` if none is stated.
    pub(super) fn activation(&self, family: &str, usual: Activation) -> Result<Activation> {
        self.hidden_act.as_ref().map_or(Ok(usual), |name| super::activation(family, "hidden_act", name))
    }

    /// Where the unembedding comes from; `usual` if the config does not say.
    pub(super) fn unembed(&self, usual: Unembed) -> Unembed {
        self.tie_word_embeddings.map_or(usual, Unembed::tied)
    }
}

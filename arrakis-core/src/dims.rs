//! What a model is, in numbers and in the few words that change its mathematics.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The kind of norm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NormKind {
    /// Centred, divided by the standard deviation: `(x - mean) / sqrt(var + eps)`.
    Layer,
    /// Divided by the root of the mean square: `x / sqrt(mean(x²) + eps)`.
    Rms,
}

/// How the two halves of a block meet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Residual {
    /// The MLP reads what attention has written.
    Serial,
    /// Both read the same stream; there is no `hook_resid_mid`.
    Parallel,
}

/// The sizes of a model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Dims {
    /// The family, as in the checkpoint: `llama`, `gpt2` …
    pub family: String,
    /// Blocks.
    pub n_layers: usize,
    /// Query heads of a block.
    pub n_heads: usize,
    /// Key-value heads of a block; equal to `n_heads` without grouped-query attention.
    pub n_kv_heads: usize,
    /// The residual stream.
    pub d_model: usize,
    /// One head's vector.
    pub d_head: usize,
    /// The neurons of a block.
    pub d_mlp: usize,
    /// The vocabulary.
    pub vocab: usize,
    /// The positions that the model was made for.
    pub context: usize,
    /// The kind of the norms.
    pub norm: NormKind,
    /// Added under the root of the norms.
    pub norm_eps: f64,
    /// How the halves of a block meet.
    pub residual: Residual,
    /// Sizes that only some models have, by the name of their axis ([`AxisKind::Named`](crate::AxisKind::Named)).
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub others: BTreeMap<String, usize>,
}

//! What lies between one hook point and the next, and how much arithmetic that is.

use arrakis_core::{Dims, Site};

/// Before the embedding: checks, positions, masks, rotations.
pub(super) const SET_UP: &str = "set-up";
/// What hooks of the run itself take.
pub(super) const HOOKS: &str = "hooks";
/// What comes after the last point.
pub(super) const UNEMBEDDING: &str = "unembedding";
/// The end of a pass without logits.
pub(super) const END: &str = "end";
/// What was begun when a pass failed.
pub(super) const UNFINISHED: &str = "unfinished";

/// The points that exist anyhow: watching them changes nothing that is computed.
pub(super) const WATCHED: &[Site] = &[
    Site::TOKENS,
    Site::EMBED,
    Site::POS_EMBED,
    Site::RESID_PRE,
    Site::Q,
    Site::K,
    Site::V,
    Site::ROT_Q,
    Site::ROT_K,
    Site::Z,
    Site::ATTN_OUT,
    Site::RESID_MID,
    Site::MLP_IN,
    Site::MLP_PRE,
    Site::MLP_PRE_LINEAR,
    Site::MLP_POST,
    Site::MLP_OUT,
    Site::RESID_POST,
];

/// The points that make attention go step by step.
pub(super) const STEPS: &[Site] = &[Site::ATTN_SCORES, Site::PATTERN];

/// What leads to `hook_attn_out` and would keep a model from leaving attention out where its output is given.
pub(super) const WITHIN_ATTENTION: &[Site] = &[Site::Q, Site::K, Site::V, Site::ROT_Q, Site::ROT_K, Site::Z];
/// The same of the MLP.
pub(super) const WITHIN_MLP: &[Site] = &[Site::MLP_IN, Site::MLP_PRE, Site::MLP_PRE_LINEAR, Site::MLP_POST];

/// The component that ends at a site; sites of other crates are components of their own.
///
/// `fused` says that the block showed no scores.
pub(super) fn component(site: Site, fused: bool) -> &'static str {
    match site {
        Site::TOKENS => SET_UP,
        Site::EMBED | Site::POS_EMBED => "embedding",
        Site::RESID_PRE | Site::RESID_MID | Site::RESID_POST | Site::MLP_IN => "residual",
        Site::ATTN_IN | Site::Q_INPUT | Site::K_INPUT | Site::V_INPUT => "split inputs",
        Site::LN1_SCALE
        | Site::LN1_NORMALIZED
        | Site::LN2_SCALE
        | Site::LN2_NORMALIZED
        | Site::LN_FINAL_SCALE
        | Site::LN_FINAL_NORMALIZED => "norm",
        Site::Q => "q",
        Site::K => "k",
        Site::V => "v",
        Site::ROT_Q | Site::ROT_K => "rotation",
        Site::ATTN_SCORES => "scores",
        Site::PATTERN => "pattern",
        Site::Z if fused => "attention",
        Site::Z => "z",
        Site::RESULT | Site::ATTN_OUT => "out",
        Site::MLP_PRE | Site::MLP_PRE_LINEAR => "MLP in",
        Site::MLP_POST => "activation",
        Site::MLP_OUT => "MLP out",
        other => other.name(),
    }
}

/// The operations of the matrix products that lead to a value of `numbers` numbers, which attends to `keys` positions.
///
/// Heads read the stream through `d_model`, write through `n_heads * d_head`, and meet each key once for its score and
/// once for its value; neurons write through `d_mlp`.
pub(super) fn flops(site: Site, numbers: u64, keys: u64, fused: bool, written: bool, dims: &Dims) -> u64 {
    let products = match site {
        Site::Q | Site::K | Site::V | Site::MLP_PRE | Site::MLP_PRE_LINEAR => dims.d_model as u64,
        Site::ATTN_SCORES => dims.d_head as u64,
        Site::Z if fused => 2 * keys,
        Site::Z => keys,
        // Each head's own part, whose sum is then all there is to do.
        Site::RESULT => dims.d_head as u64,
        Site::ATTN_OUT if written => 0,
        Site::ATTN_OUT => (dims.n_heads * dims.d_head) as u64,
        Site::MLP_OUT => dims.d_mlp as u64,
        _ => 0,
    };
    2 * numbers * products
}

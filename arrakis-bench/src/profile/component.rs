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
///
/// Queries, keys and values are not among them: where they come from one product, watching one of them copies it.
pub(super) const WATCHED: &[Site] = &[
    Site::TOKENS,
    Site::EMBED,
    Site::POS_EMBED,
    Site::RESID_PRE,
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

/// Neurons, which a mixture of experts shows only where it computes all experts in place of those that are used.
pub(super) const OF_EXPERTS: &[Site] = &[Site::MLP_PRE, Site::MLP_POST];

/// What leads to `hook_attn_out` and would keep a model from leaving attention out where its output is given.
pub(super) const WITHIN_ATTENTION: &[Site] = &[Site::ROT_Q, Site::ROT_K, Site::Z];
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
        Site::Q | Site::K | Site::V => "q, k, v",
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
/// Heads write through `n_heads * d_head`, and meet each key once for its score and once for its value; neurons read the
/// stream through `d_model` and write through `d_mlp`. What heads read is [`projection`].
pub(super) fn flops(site: Site, numbers: u64, keys: u64, fused: bool, written: bool, dims: &Dims) -> u64 {
    let products = match site {
        Site::MLP_PRE | Site::MLP_PRE_LINEAR => dims.d_model as u64,
        // Of a result each head makes its own part, whose sum is then all there is to do.
        Site::ATTN_SCORES | Site::RESULT => dims.d_head as u64,
        Site::Z if fused => 2 * keys,
        Site::Z => keys,
        Site::ATTN_OUT if written => 0,
        Site::ATTN_OUT => (dims.n_heads * dims.d_head) as u64,
        Site::MLP_OUT => dims.d_mlp as u64,
        _ => 0,
    };
    2 * numbers * products
}

/// The numbers of queries, keys and values for so many positions.
pub(super) fn projected(positions: u64, dims: &Dims) -> u64 {
    positions * ((dims.n_heads + 2 * dims.n_kv_heads) * dims.d_head) as u64
}

/// The operations of the products that make them.
pub(super) fn projection(positions: u64, dims: &Dims) -> u64 {
    2 * projected(positions, dims) * dims.d_model as u64
}

//! What the benches of passes read and keep.

use arrakis::prelude::*;
use arrakis_core::Stream;

/// The sites that TransformerLens keeps by default.
pub(crate) const KEPT_BY_DEFAULT: &[Site] = &[
    Site::EMBED,
    Site::POS_EMBED,
    Site::RESID_PRE,
    Site::LN1_SCALE,
    Site::LN1_NORMALIZED,
    Site::Q,
    Site::K,
    Site::V,
    Site::ATTN_SCORES,
    Site::PATTERN,
    Site::Z,
    Site::ATTN_OUT,
    Site::RESID_MID,
    Site::LN2_SCALE,
    Site::LN2_NORMALIZED,
    Site::MLP_PRE,
    Site::MLP_POST,
    Site::MLP_OUT,
    Site::RESID_POST,
    Site::LN_FINAL_SCALE,
    Site::LN_FINAL_NORMALIZED,
];

/// Random tokens of GPT-2's vocabulary.
pub(crate) fn tokens(batch: i64, len: i64) -> Tokens {
    tokens_below(50_257, batch, len)
}

/// Random tokens below `vocab`.
pub(crate) fn tokens_below(vocab: u64, batch: i64, len: i64) -> Tokens {
    let mut stream = Stream::new(0, "bench tokens");
    let row = |_| (0..len).map(|_| stream.below(vocab) as i64).collect();
    Tokens::from_rows(&(0..batch).map(row).collect::<Vec<_>>()).expect("rows of tokens")
}

//! The built-in tools: one file per subject, one struct per question.
//!
//! A prompt may have several rows. A tool that describes a text (`logit_lens.lens`, `attention.patterns`) answers row by
//! row; where there are several, its parts are named `row0.lens`, `row1.lens` … A tool that measures (`attention.heads`,
//! `logit_attribution.direct`, `patching.activation`) gives means over the rows.
//! Positions count the real tokens of a row; negative ones count from its end.
//!
//! Every answer carries the residual of its own identity, as a number whose name ends in `gap`.

mod attention_heads;
mod attention_patterns;
mod detection;
mod gap;
mod index;
mod lens_reading;
mod logit_attribution;
mod logit_lens;
mod patch_runs;
mod patching;
mod reduce;
mod written;

pub use attention_heads::{AttentionHeads, HeadScores, RepeatLoss};
pub use attention_patterns::{AttentionPatterns, Patterns, RowPatterns};
pub use detection::HeadMethod;
pub use logit_attribution::{Attribution, DirectAttribution};
pub use logit_lens::{Lens, LogitLens, RowLens};
pub use patching::{ActivationPatching, PatchKind, PatchScale, Patches};

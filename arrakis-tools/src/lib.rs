//! The built-in tools: one file per subject, one struct per question.
//!
//! A prompt may have several rows. A tool that describes a text (`logit_lens.lens`, `attention.patterns`) answers row by
//! row; where there are several, its parts are named `row0.lens`, `row1.lens` … A tool that measures (`attention.heads`,
//! `logit_attribution.direct`, `patching.activation`) gives means over the rows.
//! Positions count the real tokens of a row; negative ones count from its end.
//!
//! Every answer carries the residual of its own identity, as a number whose name ends in `gap`.
//!
//! A tool is asked by its struct, or by its name with JSON:
//!
//! ```
//! use arrakis_core::{Context, Part, Prompt, Tool};
//! use arrakis_tools::{DirectAttribution, LogitLens};
//! use serde_json::json;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/golden/llama");
//! let model = arrakis_models::load(folder, &arrakis_models::LoadOptions::default())?;
//! let cx = Context::new(&model);
//!
//! let lens = LogitLens::new(Prompt::Ids(vec![9, 3, 17])).run(&cx)?;
//! assert!(lens.rows[0].logit_gap < 1e-4);
//!
//! let parts = DirectAttribution::new(Prompt::Ids(vec![9, 3, 17]), 4, 8).run(&cx)?;
//! assert!((parts.sum_of_parts - parts.logit_difference).abs() < 1e-4);
//!
//! let answer = arrakis_core::tool("attention.heads")?.ask(json!({ "length": 20 }), &cx)?;
//! assert!(matches!(answer.get("induction"), Some(Part::Grid(_))));
//! # Ok(())
//! # }
//! ```

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
mod repeat;
mod residual;
mod residual_decomposition;
mod work_kind;
mod written;

pub use attention_heads::{AttentionHeads, HeadScores};
pub use attention_patterns::{AttentionPatterns, Patterns, RowPatterns};
pub use detection::HeadMethod;
pub use logit_attribution::{
    Attribution, Circulation, DirectAttribution, NeuronAttribution, NeuronParts, RowCirculation, TokenCirculation,
};
pub use logit_lens::{
    AblationEffects, Effects, LayerAttribution, LayerWrites, Lens, LensAblation, LogitLens, RowLens, RowTuned,
    RowWrites, TunedLens, TunedLensTraining, TunedReading, TunedTraining,
};
pub use patching::{ActivationPatching, PatchKind, PatchScale, Patches};
pub use repeat::RepeatLoss;
pub use residual::{
    Movement, ResidualGradient, ResidualMovement, ResidualSources, RowGradient, RowMovement, RowSources, Sources,
    StreamGradients,
};
pub use residual_decomposition::{
    Decomposition, Direction, FullDecomposition, LayerBasis, MlpBases, MlpBasis, MlpSide, ResidualParts,
    ResidualWrites, RowParts, RowTop, Split, StreamPlace, Sublayers, TopBy, TopComponents, TopParts,
};

//! The built-in tools: one file per subject, one struct per question.
//!
//! A prompt may have several rows. A tool that describes a text (`logit_lens.lens`, `attention.patterns`) answers row by
//! row; where there are several, its parts are named `row0.lens`, `row1.lens` … A tool that measures (`attention.heads`,
//! `logit_attribution.direct`, `patching.activation`) gives means over the rows.
//! Positions count the real tokens of a row; negative ones count from its end.
//!
//! Every answer carries the residual of its own identity, as a number whose name ends in `gap`. Asked by name, tools that
//! measure something of given tokens say first which they were (`measured`).
//!
//! What a head's scores are made of is read off the model's hook points (`arrakis_core::Scores`). Where queries and keys
//! lag, tools that read a QK circuit take `lags`; where there are no scores, tools that read shares of attention refuse.
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

mod answer_and_wrong;
mod attention;
mod causal_tracing;
mod circuit;
mod columns;
mod corpus_pass;
mod direction;
mod factored_matrix;
mod feature;
mod feature_viz;
mod gap;
mod head_composition;
mod index;
mod knowledge;
mod lags;
mod lens_reading;
mod logit_attribution;
mod logit_lens;
mod map_inputs;
mod measured;
mod moments;
mod most_active;
mod patching;
mod reduce;
mod relations;
mod residual;
mod residual_decomposition;
mod sparsity;
mod superposition;
mod surgery;
mod token_effects;
mod token_vectors;
mod work_kind;
mod write_read;
mod written;

pub use attention::{
    AblatedPart, AblationKind, Ablations, AttentionAblation, AttentionHeads, AttentionKnockout, AttentionMerge,
    AttentionPatterns, AttentionTop, HeadMethod, HeadScores, Knockout, Merged, Patterns, RepeatLoss, RowPatterns,
    RowTop, TopAttended,
};
pub use causal_tracing::{
    CausalTrace, Intervened, NeuronIntervention, Probabilities, ProbabilityByLayer, RowProbability, RowTrace, Subject,
    Traces,
};
pub use circuit::{Circuit, HeadInput, HeadPlace};
pub use direction::Direction;
pub use factored_matrix::{CircuitSpectrum, FactoredMatrix, HeadCircuit, Svd};
pub use feature::Feature;
pub use feature_viz::{
    BetweenNeurons, InterpolateNeurons, NeuronPortrait, NeuronWeights, Portrait, RowBetweenNeurons, TopTokens, Tops,
};
pub use head_composition::{
    BlendOf, Blended, BlendedHead, CompositionScores, Compositions, HeadPath, HeadPaths, InputScores, RowPath,
    VirtualCircuit, VirtualHead,
};
pub use knowledge::{
    CategoryNeurons, CategoryScores, Control, KnowledgeNeuron, LinearProbe, ProbeMethod, Probed, TruthProbe,
};
pub use logit_attribution::{
    Attribution, Circulation, DirectAttribution, NeuronAttribution, NeuronParts, RowCirculation, TokenCirculation,
};
pub use logit_lens::{
    AblationEffects, Effects, LayerAttribution, LayerWrites, Lens, LensAblation, LogitLens, RowLens, RowTuned,
    RowWrites, TunedLens, TunedLensTraining, TunedReading, TunedTraining,
};
pub use patching::{
    ActivationPatching, AttributionPatching, Attributions, DirectPath, Mlps, PatchKind, PatchScale, Patches,
    PathPatching, Paths, Receiver, SpotCheck, Steer, Steered,
};
pub use relations::{
    Relation, RelationScores, RelationSubspaces, RelationTokens, Subspaces, TokenDirections, TypedRelation,
    TypedRelations,
};
pub use residual::{
    Movement, ResidualGradient, ResidualMovement, ResidualSources, RowGradient, RowMovement, RowSources, Sources,
    StreamGradients,
};
pub use residual_decomposition::{
    Decomposition, FullDecomposition, LayerBasis, MlpBases, MlpBasis, MlpSide, ResidualParts, ResidualWrites, RowParts,
    RowTopParts, Split, StreamPlace, Sublayers, TopBy, TopComponents, TopParts,
};
pub use sparsity::{ActivationSparsity, PolysemanticNeurons, Polysemy, Prunable, Prune, PruneMethod, Pruned, Sparsity};
pub use superposition::{
    ActivationCovariance, Concepts, Covariance, FeatureGeometry, Geometry, Interpolate, Interpolated,
    PrincipalConcepts, Reconstruct, Reconstructed, RowInterpolated, Side, Through,
};
pub use surgery::{EachLayer, LayerPlan, LayerSurgery, SurgeryEach, SurgeryLayers};
pub use write_read::{Flow, Gradient, Readers, RowFlow, WriteReadFlow, WriteReadReaders, WriteReadWriters, Writers};

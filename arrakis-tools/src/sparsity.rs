//! Questions about how few numbers a model needs: sparse activations, pruned weights, neurons with many meanings.

mod activations;
mod polysemantic;
mod prune;
mod prune_inputs;

pub use activations::{ActivationSparsity, Sparsity};
pub use polysemantic::{PolysemanticNeurons, Polysemy};
pub use prune::{Prunable, Prune, PruneMethod, Pruned};

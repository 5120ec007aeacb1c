//! Questions about how few numbers a model needs: sparse activations, pruned weights, neurons with many meanings.

mod activations;
mod four_moments;
mod polysemantic;
mod prunable;
mod prune;
mod prune_inputs;

pub use activations::{ActivationSparsity, Sparsity};
pub use polysemantic::{PolysemanticNeurons, Polysemy};
pub use prunable::Prunable;
pub use prune::{Prune, PruneMethod, Pruned};

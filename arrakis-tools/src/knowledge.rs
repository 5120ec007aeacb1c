//! Questions about what activations know: of truth, of labels, of categories.

mod auc;
mod labelled;
mod linear_fit;
mod neuron;
mod polysemanticity;
mod probe;

pub use neuron::{KnowledgeNeuron, TruthProbe};
pub use polysemanticity::{CategoryNeurons, CategoryScores};
pub use probe::{Control, LinearProbe, ProbeMethod, Probed};

//! Questions about what activations know: of truth, of labels, of categories.

mod auc;
mod control;
mod labelled;
mod linear_fit;
mod neuron;
mod polysemanticity;
mod probe;
mod split;

pub use control::Control;
pub use neuron::{KnowledgeNeuron, TruthProbe};
pub use polysemanticity::{CategoryNeurons, CategoryScores};
pub use probe::{LinearProbe, ProbeMethod, Probed};

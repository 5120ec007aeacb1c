//! Questions about where a fact is held: noise on its subject, and what brings the answer back.

mod neuron;
mod noise;
mod probability;
mod trace;

pub use neuron::{Intervened, NeuronIntervention};
pub use noise::Subject;
pub use probability::{Probabilities, ProbabilityByLayer, RowProbability};
pub use trace::{CausalTrace, RowTrace, Traces};

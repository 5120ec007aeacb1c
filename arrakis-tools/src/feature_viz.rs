//! Questions about what a feature is: where it is strongest, how it is spread, and what it makes the model say.

mod interpolate;
mod neuron;
mod top_tokens;

pub use interpolate::{BetweenNeurons, InterpolateNeurons, NeuronWeights, RowBetweenNeurons};
pub use neuron::{NeuronPortrait, Portrait};
pub use top_tokens::{TopTokens, Tops};

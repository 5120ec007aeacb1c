//! How positions gather what others hold: the mathematics of every mixer, on queries, keys and values.

pub mod correlation;
pub mod involution;
pub mod original;

pub use correlation::LagWeights;

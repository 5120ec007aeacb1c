//! Questions about heads that read what earlier heads write.

mod scores;

pub use scores::{CompositionScores, Compositions, InputScores};

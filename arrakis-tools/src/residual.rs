//! Questions about what the residual stream carries from layer to layer.

mod gradient;
mod layer_parts;
mod movement;
mod path;
mod sources;

pub use gradient::{ResidualGradient, RowGradient, StreamGradients};
pub use movement::{Movement, ResidualMovement, RowMovement};
pub use sources::{ResidualSources, RowSources, Sources};

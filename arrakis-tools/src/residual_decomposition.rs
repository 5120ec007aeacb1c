//! Questions about what the residual stream is the sum of.

mod decomposition;
mod direction;
mod full;
mod measured;
mod mlp_basis;
mod place;
mod top;
mod writes;

pub use decomposition::{Decomposition, Sublayers};
pub use full::{FullDecomposition, ResidualParts, RowParts};
pub use mlp_basis::{LayerBasis, MlpBases, MlpBasis, MlpSide};
pub use place::{Split, StreamPlace};
pub use top::{RowTopParts, TopBy, TopComponents, TopParts};
pub use writes::ResidualWrites;

pub(crate) use decomposition::neuron_label;

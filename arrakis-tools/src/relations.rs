//! Questions about what relates to what in the circuits of heads.

mod pairs;
mod subspaces;
mod tokens;
mod typed;

pub use subspaces::{RelationSubspaces, Subspaces};
pub use tokens::{RelationTokens, TokenDirections};
pub use typed::{Relation, RelationScores, TypedRelation, TypedRelations};

use arrakis_core::Result;
use tch::{Kind, Tensor};

use crate::{Circuit, FactoredMatrix, Svd};

/// Queries and keys are what relates most directly, so theirs is the circuit where none is named.
const fn queries_and_keys() -> Circuit {
    Circuit::Qk
}

/// A singular value decomposition with signs that do not depend on the machine.
///
/// A pair of singular vectors may be turned over together; here the greatest entry of each left one is positive.
fn decomposed(matrix: &FactoredMatrix) -> Result<Svd> {
    let Svd { u, singular_values, v } = matrix.svd()?;
    let places = u.f_abs()?.f_argmax(-2, true)?;
    let one = Tensor::f_ones([], (Kind::Double, u.device()))?;
    let sign = u.f_gather(-2, &places, false)?.f_sign()?;
    let sign = sign.f_where_self(&sign.f_ne(0.0)?, &one)?;
    Ok(Svd { u: u.f_mul(&sign)?, singular_values, v: v.f_mul(&sign)? })
}

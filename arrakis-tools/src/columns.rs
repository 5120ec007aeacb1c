//! Chosen columns of a big matrix.

use arrakis_core::Result;
use tch::{Kind, Tensor};

/// The columns of a matrix (`[rows, columns]`) at `ids`, in double: `[rows, chosen]`.
///
/// An unembedding is a transposed view, all of which `index_select` would lay out anew for a few of its columns.
pub(crate) fn columns(matrix: &Tensor, ids: &Tensor) -> Result<Tensor> {
    Ok(matrix.f_index(&[None, Some(ids)])?.f_to_kind(Kind::Double)?)
}

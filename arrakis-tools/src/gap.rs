//! The residual of an identity: how far two tensors that should be equal are apart.

use arrakis_core::Result;
use tch::{Kind, Tensor};

/// The greatest absolute difference; NaN if any number is NaN.
pub(crate) fn gap(found: &Tensor, expected: &Tensor) -> Result<f64> {
    greatest(&found.f_to_kind(Kind::Double)?.f_sub(&expected.f_to_kind(Kind::Double)?)?)
}

/// The greatest absolute value; NaN if any number is NaN.
pub(crate) fn greatest(values: &Tensor) -> Result<f64> {
    Ok(values.f_to_kind(Kind::Double)?.f_abs()?.f_max()?.f_double_value(&[])?)
}

/// The greater of two residuals; NaN if either is NaN.
pub(crate) fn worse(a: f64, b: f64) -> f64 {
    if a.is_nan() || b.is_nan() { f64::NAN } else { a.max(b) }
}

//! A linear map, `x W + b`.

use arrakis_core::Result;
use tch::Tensor;

/// A linear map with its weight as `[in, out]`, which may be a transposed view of what the checkpoint stores.
#[derive(Debug)]
pub(crate) struct Linear {
    pub(crate) weight: Tensor,
    pub(crate) bias: Option<Tensor>,
}

impl Linear {
    /// `x W + b` for `x` of shape `[…, in]`.
    pub(crate) fn apply(&self, x: &Tensor) -> Result<Tensor> {
        // `linear` wants `[out, in]`; the transposed view costs nothing.
        Ok(x.f_linear(&self.weight.f_transpose(0, 1)?, self.bias.as_ref())?)
    }
}

impl Clone for Linear {
    fn clone(&self) -> Self {
        Self { weight: self.weight.shallow_clone(), bias: self.bias.as_ref().map(Tensor::shallow_clone) }
    }
}

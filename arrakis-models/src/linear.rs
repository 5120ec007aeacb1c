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

impl Linear {
    /// The map to `width` of the outputs, from `start` on; a view.
    pub(crate) fn outputs(&self, start: i64, width: i64) -> Result<Self> {
        let bias = self.bias.as_ref().map(|bias| bias.f_narrow(0, start, width)).transpose()?;
        Ok(Self { weight: self.weight.f_narrow(1, start, width)?, bias })
    }

    /// The map to every third group of `width` outputs, from the group `first` on.
    pub(crate) fn every_third(&self, first: i64, width: i64) -> Result<Self> {
        let third = |out_first: &Tensor| out_first.f_unflatten(0, [-1, 3, width])?.f_select(1, first)?.f_flatten(0, 1);
        let bias = self.bias.as_ref().map(third).transpose()?;
        Ok(Self { weight: third(&self.weight.f_transpose(0, 1)?)?.f_transpose(0, 1)?, bias })
    }
}

impl Clone for Linear {
    fn clone(&self) -> Self {
        Self { weight: self.weight.shallow_clone(), bias: self.bias.as_ref().map(Tensor::shallow_clone) }
    }
}

//! A linear map, `x W + b`.

use arrakis_core::Result;
use tch::Tensor;

use crate::onednn::{self, Packed};

/// A linear map with its weight as `[in, out]`, which may be a transposed view of what the checkpoint stores.
#[derive(Debug)]
pub(crate) struct Linear {
    pub(crate) weight: Tensor,
    pub(crate) bias: Option<Tensor>,
    /// The weight once more, laid out for the processor, where that was asked for.
    packed: Option<Packed>,
}

impl Linear {
    pub(crate) fn new(weight: Tensor, bias: Option<Tensor>) -> Self {
        Self { weight, bias, packed: None }
    }

    /// The same map with its weight laid out for the processor.
    pub(crate) fn pack(&mut self) -> Result<()> {
        self.packed = Some(Packed::new(&self.weight.f_transpose(0, 1)?)?);
        Ok(())
    }

    /// The same map as it was loaded.
    pub(crate) fn unpack(&mut self) {
        self.packed = None;
    }

    pub(crate) const fn is_packed(&self) -> bool {
        self.packed.is_some()
    }

    /// `x W + b` for `x` of shape `[…, in]`.
    pub(crate) fn apply(&self, x: &Tensor) -> Result<Tensor> {
        // Products want `[out, in]`; the transposed view costs nothing.
        let weight = self.weight.f_transpose(0, 1)?;
        let bias = self.bias.as_ref();
        match &self.packed {
            // oneDNN's products have no gradient.
            Some(packed) if !x.requires_grad() => packed.apply(x, bias),
            None if !x.requires_grad() && onednn::serves(x, &weight) => onednn::linear(x, &weight, bias),
            _ => Ok(x.f_linear(&weight, bias)?),
        }
    }

    /// The map to `width` of the outputs, from `start` on; a view.
    pub(crate) fn outputs(&self, start: i64, width: i64) -> Result<Self> {
        let bias = self.bias.as_ref().map(|bias| bias.f_narrow(0, start, width)).transpose()?;
        Ok(Self::new(self.weight.f_narrow(1, start, width)?, bias))
    }

    /// The map to every third group of `width` outputs, from the group `first` on.
    pub(crate) fn every_third(&self, first: i64, width: i64) -> Result<Self> {
        let third = |out_first: &Tensor| out_first.f_unflatten(0, [-1, 3, width])?.f_select(1, first)?.f_flatten(0, 1);
        let bias = self.bias.as_ref().map(third).transpose()?;
        Ok(Self::new(third(&self.weight.f_transpose(0, 1)?)?.f_transpose(0, 1)?, bias))
    }
}

impl Clone for Linear {
    fn clone(&self) -> Self {
        Self {
            weight: self.weight.shallow_clone(),
            bias: self.bias.as_ref().map(Tensor::shallow_clone),
            packed: self.packed.as_ref().map(Packed::shallow_clone),
        }
    }
}

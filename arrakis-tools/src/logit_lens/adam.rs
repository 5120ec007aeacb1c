//! Adam, on plain tensors.

use arrakis_core::Result;
use tch::Tensor;

/// The moments of one parameter's gradient.
///
/// Source: Kingma and Ba, "Adam: a method for stochastic optimization" (2015).
pub(super) struct Adam {
    mean: Tensor,
    square: Tensor,
    step: i32,
}

impl Adam {
    pub(super) fn of(parameter: &Tensor) -> Result<Self> {
        Ok(Self { mean: parameter.f_zeros_like()?, square: parameter.f_zeros_like()?, step: 0 })
    }

    /// The parameter after one step.
    pub(super) fn step(&mut self, parameter: &Tensor, gradient: &Tensor, rate: f64) -> Result<Tensor> {
        const DECAY: f64 = 0.9;
        const SQUARE_DECAY: f64 = 0.999;
        self.step += 1;
        self.mean = self.mean.f_lerp(gradient, 1.0 - DECAY)?;
        self.square = self.square.f_lerp(&gradient.f_square()?, 1.0 - SQUARE_DECAY)?;
        let mean = self.mean.f_div_scalar(1.0 - DECAY.powi(self.step))?;
        let root = self.square.f_div_scalar(1.0 - SQUARE_DECAY.powi(self.step))?.f_sqrt()?;
        Ok(parameter.f_sub(&mean.f_div(&root.f_add_scalar(1e-8)?)?.f_mul_scalar(rate)?)?)
    }
}

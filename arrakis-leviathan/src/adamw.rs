//! `AdamW` on the numbers of a stack of models, each clipped by its own gradient (Loshchilov and Hutter 2019).

use arrakis_core::Result;
use tch::{Kind, Tensor};

use crate::layout::Layout;
use crate::training::Training;

/// Keeps the root of a small second moment from dividing by nothing.
const EPSILON: f64 = 1e-8;

/// The optimiser's memory.
#[derive(Debug)]
pub(crate) struct AdamW {
    /// Averages of the gradients: `[stack, count]`.
    pub(crate) first: Tensor,
    /// Averages of their squares: `[stack, count]`.
    pub(crate) second: Tensor,
    /// 1 where weight decay pulls, 0 elsewhere: `[count]`.
    decays: Tensor,
}

impl AdamW {
    pub(crate) fn new(layout: &Layout, flat: &Tensor) -> Result<Self> {
        let options = (flat.kind(), flat.device());
        let parts = layout
            .parameters
            .iter()
            .map(|parameter| Ok(Tensor::f_full([parameter.len()], f64::from(u8::from(parameter.decays())), options)?));
        let decays = Tensor::f_cat(&parts.collect::<Result<Vec<Tensor>>>()?, 0)?;
        Ok(Self { first: flat.f_zeros_like()?, second: flat.f_zeros_like()?, decays })
    }

    /// Moves `flat` against `gradient` (both `[stack, count]`); gives the norm of each model's gradient before it was
    /// clipped: `[stack]`.
    ///
    /// `step` counts from 0. A gradient that is not finite moves nothing.
    pub(crate) fn step(
        &mut self,
        flat: &mut Tensor,
        gradient: &Tensor,
        step: u64,
        training: &Training,
    ) -> Result<Tensor> {
        let _off = tch::no_grad_guard();
        let norms = gradient.f_square()?.f_sum_dim_intlist(1, false, None::<Kind>)?.f_sqrt()?;
        if norms.f_isfinite()?.f_all()?.f_int64_value(&[])? == 0 {
            return Ok(norms);
        }
        let factor = norms.f_add_scalar(1e-12)?.f_reciprocal()?.f_mul_scalar(training.clip)?.f_clamp_max(1.0)?;
        let gradient = gradient.f_mul(&factor.f_unsqueeze(1)?)?;
        let [beta1, beta2] = training.betas;
        let _ = self.first.f_lerp_(&gradient, 1.0 - beta1)?;
        let _ = self.second.f_lerp_(&gradient.f_square()?, 1.0 - beta2)?;
        let rate = training.rate_at(step);
        let power = (step + 1) as f64;
        let (unbiased1, unbiased2) = (1.0 - beta1.powf(power), 1.0 - beta2.powf(power));
        let root = self.second.f_div_scalar(unbiased2)?.f_sqrt()?.f_add_scalar(EPSILON)?;
        let change = self.first.f_div(&root)?.f_mul_scalar(rate / unbiased1)?;
        let kept = self.decays.f_mul_scalar(-rate * training.decay)?.f_add_scalar(1.0)?;
        let _ = flat.f_mul_(&kept)?.f_sub_(&change)?;
        Ok(norms)
    }
}

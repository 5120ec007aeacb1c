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

#[cfg(test)]
mod tests {
    use super::AdamW;
    use crate::config::{Config, FeedForward, Lags, Mixer, Positions};
    use crate::layout::{Layout, Role};
    use crate::training::Training;
    use arrakis_core::{Result, Stream};
    use tch::{Kind, Tensor};

    fn rows(tensor: &Tensor) -> Vec<Vec<f64>> {
        Vec::try_from(tensor).expect("two axes of doubles")
    }

    #[test]
    fn each_step_is_the_published_one_with_every_model_clipped_by_itself() -> Result<()> {
        let config = Config {
            n_layers: 1,
            n_heads: 2,
            d_model: 4,
            d_mlp: 3,
            vocab: 5,
            context: 4,
            positions: Positions::Learned,
            mixer: Mixer::Correlation { window: 2, lags: Lags::Separable },
            feed_forward: FeedForward::Dense,
        };
        let layout = Layout::of(&config);
        let training = Training { warm_up: 2, steps: 9, ..Training::default() };
        let normals = |name: &str, scale: f64| {
            Ok::<_, arrakis_core::Error>(
                Stream::new(1, name).normals(&[2, layout.count()])?.f_to_kind(Kind::Double)?.f_mul_scalar(scale)?,
            )
        };
        let mut flat = normals("weights", 1.0)?;
        let mut optimiser = AdamW::new(&layout, &flat)?;
        // Norms, biases and lags are no matrices.
        let decays: Vec<bool> = layout
            .parameters
            .iter()
            .flat_map(|parameter| {
                let matrix = matches!(
                    parameter.role,
                    Role::Embed | Role::Position | Role::Inward | Role::Outward | Role::In | Role::Out | Role::Unembed
                );
                std::iter::repeat_n(matrix, parameter.len() as usize)
            })
            .collect();
        let mut weights = rows(&flat);
        let (mut first, mut second) = (vec![vec![0.0; decays.len()]; 2], vec![vec![0.0; decays.len()]; 2]);
        for step in 0..4 {
            // The gradient of one model is beyond the clip and that of the other is not.
            let gradient = normals(&format!("gradient {step}"), 0.01)?;
            let _ = gradient.get(1).f_mul_scalar_(100.0)?;
            let norms = optimiser.step(&mut flat, &gradient, step, &training)?;
            let rate = training.rate_at(step);
            for (model, gradient) in rows(&gradient).iter().enumerate() {
                let norm = gradient.iter().map(|x| x * x).sum::<f64>().sqrt();
                assert!((norms.double_value(&[model as i64]) - norm).abs() < 1e-12 * norm);
                assert_eq!(norm > training.clip, model == 1, "{norm}");
                let scale = (training.clip / norm).min(1.0);
                for (place, gradient) in gradient.iter().enumerate() {
                    let (gradient, [beta1, beta2]) = (gradient * scale, training.betas);
                    let (first, second) = (&mut first[model][place], &mut second[model][place]);
                    *first = beta1 * *first + (1.0 - beta1) * gradient;
                    *second = beta2 * *second + (1.0 - beta2) * gradient * gradient;
                    let power = step as i32 + 1;
                    let unbiased = (*first / (1.0 - beta1.powi(power)), *second / (1.0 - beta2.powi(power)));
                    let weight = &mut weights[model][place];
                    *weight *= 1.0 - if decays[place] { rate * training.decay } else { 0.0 };
                    *weight -= rate * unbiased.0 / (unbiased.1.sqrt() + super::EPSILON);
                }
            }
            for (found, wanted) in rows(&flat).concat().iter().zip(weights.concat()) {
                assert!((found - wanted).abs() < 1e-12, "step {step}: {found} and {wanted}");
            }
        }
        Ok(())
    }
}

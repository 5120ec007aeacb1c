//! What watches a step of training: dropout, the spread of experts, and where a number first went wrong.

use arrakis_core::{HookPoint, Hooks, Result, Site, Stream};
use tch::{Kind, Tensor};

use crate::config::{Config, FeedForward};
use crate::feed_forward::routes;
use crate::sites::{ROUTER, ROUTER_SCORES};
use crate::training::Training;

/// Dropout by streams that know seed, step and point, and what experts take: edits of a training step like any others.
pub(crate) struct TrainingHooks<'a> {
    training: &'a Training,
    /// The seeds of the models that are computed.
    seeds: &'a [u64],
    /// How many experts a position uses, where there are experts.
    top_k: Option<i64>,
    pub(crate) step: u64,
    /// The loss that spreads positions over experts, of each block: `[stack]`.
    pub(crate) balance: Vec<Tensor>,
}

impl<'a> TrainingHooks<'a> {
    pub(crate) fn new(config: &Config, training: &'a Training, seeds: &'a [u64], step: u64) -> Self {
        let top_k = match config.feed_forward {
            FeedForward::Dense => None,
            FeedForward::Mixture { top_k, .. } => Some(top_k as i64),
        };
        Self { training, seeds, top_k, step, balance: Vec::new() }
    }

    fn stack(&self) -> i64 {
        self.seeds.len() as i64
    }

    fn drops(&self, point: HookPoint) -> bool {
        let at = point == Site::RESID_PRE.at(0) || [Site::ATTN_OUT, Site::MLP_OUT].contains(&point.site);
        at && self.training.dropout > 0.0
    }

    /// The value without the part that is dropped, the rest made greater for it (Srivastava et al. 2014).
    fn dropped(&self, point: HookPoint, value: &Tensor) -> Result<Tensor> {
        let kept = 1.0 - self.training.dropout;
        let mut size = value.size();
        size[0] /= self.stack();
        let coins = self
            .seeds
            .iter()
            .map(|seed| Stream::new(*seed, &format!("dropout of step {} at {point}", self.step)).coins(&size, kept));
        let coins = Tensor::f_cat(&coins.collect::<Result<Vec<Tensor>>>()?, 0)?;
        Ok(value.f_mul(&coins.f_to_device(value.device())?.f_to_kind(value.kind())?.f_div_scalar(kept)?)?)
    }

    /// `experts · Σ_e used_e · probability_e`, least where positions are spread evenly (Fedus et al. 2022).
    fn spread(&self, scores: &Tensor, top_k: i64) -> Result<Tensor> {
        let experts = scores.size()[2];
        let by_model = |x: &Tensor| -> Result<Tensor> {
            Ok(x.f_reshape([self.stack(), -1, experts])?.f_mean_dim(1, false, scores.kind())?)
        };
        let used = routes(&scores.f_detach()?, top_k)?.f_ne(0.0)?.f_to_kind(scores.kind())?;
        let used = by_model(&used)?.f_div_scalar(top_k as f64)?;
        let probability = by_model(&scores.f_softmax(-1, None::<Kind>)?)?;
        Ok(used.f_mul(&probability)?.f_sum_dim_intlist(1, false, None::<Kind>)?.f_mul_scalar(experts as f64)?)
    }

    /// Weights of the experts without those of positions that come to a full expert; earlier positions come first, so
    /// that none depends on a later one.
    fn within_capacity(&self, weights: &Tensor, top_k: i64) -> Result<Tensor> {
        let [rows, pos, experts] = weights.size()[..] else { return Ok(weights.shallow_clone()) };
        let batch = rows / self.stack();
        let share = self.training.capacity * (batch * pos * top_k) as f64 / experts as f64;
        let ordered = [self.stack(), batch, pos, experts];
        let used = weights.f_ne(0.0)?.f_view(ordered)?.f_transpose(1, 2)?.f_reshape([self.stack(), -1, experts])?;
        let fits = used.f_cumsum(1, Kind::Int64)?.f_le(share.ceil())?;
        let fits = fits.f_view([self.stack(), pos, batch, experts])?.f_transpose(1, 2)?.f_reshape(weights.size())?;
        Ok(weights.f_mul(&fits.f_to_kind(weights.kind())?)?)
    }
}

impl Hooks for TrainingHooks<'_> {
    fn watches(&self, point: HookPoint) -> bool {
        self.drops(point) || self.top_k.is_some() && [ROUTER_SCORES, ROUTER].contains(&point.site)
    }

    fn visit(&mut self, point: HookPoint, value: Tensor) -> Result<Tensor> {
        match (point.site, self.top_k) {
            (ROUTER_SCORES, Some(top_k)) => {
                self.balance.push(self.spread(&value, top_k)?);
                Ok(value)
            }
            (ROUTER, Some(top_k)) => self.within_capacity(&value, top_k),
            _ => self.dropped(point, &value),
        }
    }
}

/// Finds the first value of a step that is not finite; watches what it can without choosing another way of computing.
pub(crate) struct FirstFault<'a> {
    step: TrainingHooks<'a>,
    /// The point, and the place of the model in the stack.
    pub(crate) found: Option<(HookPoint, usize)>,
}

impl<'a> FirstFault<'a> {
    pub(crate) fn new(step: TrainingHooks<'a>) -> Self {
        Self { step, found: None }
    }
}

impl Hooks for FirstFault<'_> {
    fn watches(&self, point: HookPoint) -> bool {
        let plain = [Site::EMBED, Site::RESID_PRE, Site::V, Site::Z, Site::ATTN_OUT, Site::MLP_OUT, Site::RESID_POST];
        self.step.watches(point) || plain.contains(&point.site)
    }

    fn visit(&mut self, point: HookPoint, value: Tensor) -> Result<Tensor> {
        let value = if self.step.watches(point) { self.step.visit(point, value)? } else { value };
        if self.found.is_none() {
            let finite = value.f_isfinite()?.f_reshape([self.step.stack(), -1])?.f_all_dim(1, false)?;
            let finite: Vec<bool> = Vec::try_from(finite)?;
            self.found = finite.iter().position(|finite| !finite).map(|model| (point, model));
        }
        Ok(value)
    }
}

#[cfg(test)]
mod tests {
    use super::TrainingHooks;
    use crate::config::{Config, FeedForward, Mixer, Positions};
    use crate::feed_forward::routes;
    use crate::training::Training;
    use arrakis_core::{Hooks as _, Result, Site, Stream};
    use tch::Kind;

    fn hooked(training: &Training, step: u64) -> TrainingHooks<'_> {
        let config = Config {
            n_layers: 1,
            n_heads: 1,
            d_model: 4,
            d_mlp: 4,
            vocab: 4,
            context: 16,
            positions: Positions::None,
            mixer: Mixer::Attention,
            feed_forward: FeedForward::Mixture { experts: 4, top_k: 2 },
        };
        TrainingHooks::new(&config, training, &training.seeds, step)
    }

    #[test]
    fn a_full_expert_is_passed_by_and_no_position_depends_on_a_later_one() -> Result<()> {
        let training = Training { seeds: vec![1, 2], capacity: 0.5, ..Training::default() };
        let hooks = hooked(&training, 0);
        // Two models of three rows: an even share of 16 positions and 2 of 4 experts is 24, and half of it 12.
        let weights = routes(&Stream::new(1, "scores").normals(&[6, 16, 4])?, 2)?;
        let kept = hooks.within_capacity(&weights, 2)?;
        let taken = kept.ne(0.0).view([2, 48, 4]).sum_dim_intlist(1, false, Kind::Int64);
        assert!(taken.max().int64_value(&[]) == 12, "{taken:?}");
        let early =
            hooks.within_capacity(&weights.slice_scatter(&weights.narrow(1, 8, 8).flip([2]), 1, 8, 16, 1), 2)?;
        assert_eq!(kept.narrow(1, 0, 8), early.narrow(1, 0, 8));
        let roomy = Training { capacity: 4.0, ..training.clone() };
        assert_eq!(hooked(&roomy, 0).within_capacity(&weights, 2)?, weights);
        Ok(())
    }

    #[test]
    fn dropout_knows_seed_step_and_point_and_keeps_the_mean() -> Result<()> {
        let training = Training { seeds: vec![1, 2], dropout: 0.25, ..Training::default() };
        let ones = tch::Tensor::ones([4, 50, 40], (Kind::Float, tch::Device::Cpu));
        let dropped = |step, layer| hooked(&training, step).visit(Site::MLP_OUT.at(layer), ones.shallow_clone());
        let first = dropped(0, 0)?;
        assert_eq!(first, dropped(0, 0)?);
        assert_ne!(first, dropped(1, 0)?);
        assert_ne!(first, dropped(0, 1)?);
        assert_ne!(first.narrow(0, 0, 2), first.narrow(0, 2, 2), "each seed has its own");
        assert!((first.mean(Kind::Double).double_value(&[]) - 1.0).abs() < 0.03);
        Ok(())
    }
}

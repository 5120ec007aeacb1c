//! Models of one configuration that are computed together: their losses, gradients and faults.

use arrakis_core::{Error as CoreError, Hooks, Pass, PosSlice, unwatched};
use tch::{Kind, Reduction, Tensor};

use crate::network::Network;
use crate::parameters::Parameters;
use crate::text::Text;
use crate::training::Training;
use crate::watching::{FirstFault, TrainingHooks};
use crate::{Config, Error, Result};

/// Some of the models of a training, by their seeds.
#[derive(Debug)]
pub(crate) struct Group {
    seeds: Vec<u64>,
    config: Config,
    parameters: Parameters,
    /// What passes are computed in; parameters and their gradients are in single precision.
    kind: Kind,
}

impl Group {
    /// `parameters` has one model for each seed, and shares its memory.
    pub(crate) fn new(config: &Config, seeds: &[u64], parameters: &Parameters, kind: Kind) -> Result<Self> {
        Ok(Self { seeds: seeds.to_vec(), config: config.clone(), parameters: parameters.recorded()?, kind })
    }

    fn network(&self) -> Result<Network> {
        Ok(Network::new(self.config.clone(), self.parameters.cast(self.kind)?))
    }

    fn stack(&self) -> i64 {
        self.seeds.len() as i64
    }

    fn hooks<'a>(&'a self, training: &'a Training, step: u64) -> TrainingHooks<'a> {
        TrainingHooks::new(&self.config, training, &self.seeds, step)
    }

    /// The loss of each model on the windows of a step, in nats for each token, and its gradient: `[stack, count]`.
    ///
    /// # Errors
    /// [`Error::NotFinite`] with the place where a number went wrong.
    pub(crate) fn gradient(&self, text: &Text, training: &Training, step: u64) -> Result<(Vec<f64>, Tensor)> {
        let (tokens, targets) = text.windows(&self.seeds, step, training.batch, self.config.context)?;
        let mut hooks = self.hooks(training, step);
        let losses = self.losses(&tokens, &targets, &mut hooks, true)?;
        let mut total = losses.f_sum(None::<Kind>)?;
        for balance in &hooks.balance {
            total = total.f_add(&balance.f_sum(None::<Kind>)?.f_mul_scalar(training.balance)?)?;
        }
        let gradients = Tensor::f_run_backward(&[&total], self.parameters.parts(), false, false)?;
        let flattened = gradients.iter().map(|gradient| Ok(gradient.f_reshape([self.stack(), -1])?));
        let gradient = Tensor::f_cat(&flattened.collect::<Result<Vec<Tensor>>>()?, 1)?;
        let losses = numbers(&losses)?;
        match losses.iter().position(|loss| !loss.is_finite()) {
            Some(model) => Err(self.fault(&tokens, model, self.hooks(training, step))?),
            None => Ok((losses, gradient)),
        }
    }

    /// The mean loss of each model over tokens (`[stack * batch, pos]`): `[stack]`.
    fn losses(&self, tokens: &Tensor, targets: &Tensor, hooks: &mut dyn Hooks, record: bool) -> Result<Tensor> {
        let mut pass = Pass { record, logits: PosSlice::All, ..Pass::tokens(tokens, hooks) };
        let logits = self.network()?.forward(&mut pass)?.logits;
        let logits =
            logits.ok_or_else(|| CoreError::Invalid { what: "pass".into(), why: "it has no logits".into() })?;
        let logits = logits.f_view([-1, self.config.vocab as i64])?.f_to_kind(self.parameters.flat.kind())?;
        let each = logits.f_cross_entropy_loss(
            &targets.f_reshape([-1])?.f_to_device(logits.device())?,
            None::<Tensor>,
            Reduction::None,
            -100,
            0.0,
        )?;
        Ok(each.f_view([self.stack(), -1])?.f_mean_dim(1, false, None::<Kind>)?)
    }

    /// Where the first number of a step that is not finite lies; `model` is the one whose loss tells of it.
    fn fault(&self, tokens: &Tensor, model: usize, hooks: TrainingHooks<'_>) -> Result<Error> {
        let step = hooks.step;
        let mut search = FirstFault::new(hooks);
        {
            let _off = tch::no_grad_guard();
            self.network()?.forward(&mut Pass { logits: PosSlice::None, ..Pass::tokens(tokens, &mut search) })?;
        }
        let (place, model) = match search.found {
            Some((point, model)) => (point.to_string(), model),
            None => ("logits".to_owned(), model),
        };
        Ok(Error::NotFinite { step, seed: self.seeds[model], place })
    }

    /// The loss of each model over windows of the validation part, `batch` at once, in nats for each token.
    pub(crate) fn judged(&self, text: &Text, starts: &[usize], batch: usize) -> Result<Vec<f64>> {
        let _off = tch::no_grad_guard();
        let mut sums = vec![0.0; self.seeds.len()];
        for some in starts.chunks(batch) {
            let (tokens, targets) = text.judged_windows(some, self.config.context)?;
            let each = |x: &Tensor| x.f_repeat([self.stack(), 1]);
            let losses = unwatched(|hooks| self.losses(&each(&tokens)?, &each(&targets)?, hooks, false))?;
            for (sum, loss) in sums.iter_mut().zip(numbers(&losses)?) {
                *sum += loss * some.len() as f64;
            }
        }
        Ok(sums.into_iter().map(|sum| sum / starts.len() as f64).collect())
    }
}

pub(crate) fn numbers(values: &Tensor) -> Result<Vec<f64>> {
    Ok(Vec::try_from(values.f_detach()?.f_to_kind(Kind::Double)?.f_to_device(tch::Device::Cpu)?)?)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::Group;
    use crate::config::{Config, FeedForward, Lags, Mixer, Positions};
    use crate::parameters::Parameters;
    use crate::text::Text;
    use crate::training::Training;
    use crate::{Cut, Result};
    use tch::Kind;

    #[test]
    fn models_computed_together_are_the_models_alone() -> Result<()> {
        let text = Text::of(Path::new("a text"), &"the sea and the sand again\n".repeat(40), Cut::Characters)?;
        let dense = FeedForward::Dense;
        let lags = |lags| Mixer::Correlation { window: 3, lags };
        let kinds = [
            (Mixer::Attention, Positions::Learned, dense),
            (lags(Lags::Diagonal), Positions::Rotary, dense),
            (lags(Lags::LowRank(2)), Positions::Rotary, dense),
            (Mixer::Original, Positions::Rotary, dense),
            (Mixer::Involution { kernel: 3 }, Positions::None, FeedForward::Mixture { experts: 3, top_k: 1 }),
        ];
        let training = Training { seeds: vec![4, 9], batch: 4, ..Training::default() };
        for (mixer, positions, feed_forward) in kinds {
            let (vocab, d_model, d_mlp) = (text.vocabulary.len(), 8, 12);
            let shape =
                Config { n_layers: 2, n_heads: 2, d_model, d_mlp, vocab, context: 16, positions, mixer, feed_forward };
            let gradient = |seeds: &[u64]| {
                Group::new(&shape, seeds, &Parameters::new(&shape, seeds)?, Kind::Float)?.gradient(&text, &training, 7)
            };
            let (both, alone) = (gradient(&[4, 9])?, [gradient(&[4])?, gradient(&[9])?]);
            for (place, (losses, gradient)) in (0..).zip(&alone) {
                let far = (both.1.f_narrow(0, place, 1)? - gradient).abs().max().double_value(&[]);
                let greatest = gradient.abs().max().double_value(&[]);
                assert!(far <= 1e-5 * greatest, "{mixer}: {far} of {greatest}");
                assert!((both.0[place as usize] - losses[0]).abs() < 1e-5, "{mixer}");
            }
        }
        Ok(())
    }
}

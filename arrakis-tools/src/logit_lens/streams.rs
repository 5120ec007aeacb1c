//! The streams that translators are trained on, and how far they are from what the model says.

use arrakis_core::{Context, Model, ModelExt, PosSlice, Result, Site, Window};
use tch::{Kind, Tensor};

use super::translators::{Translators, divergence, logits, translated};
use crate::gap;

/// The bytes of logits held at once where no bound is given.
const LOGIT_BYTES: u64 = 512 << 20;

/// The stream over the real tokens of some windows: before each block, and at the end.
pub(super) struct Streams {
    /// `[layer, token, d_model]`.
    layers: Tensor,
    /// `[token, d_model]`.
    last: Tensor,
}

impl Streams {
    pub(super) fn of(cx: &Context<'_>, windows: &[Window]) -> Result<Self> {
        let model = cx.model();
        let tokens = Window::batch(windows)?;
        let end = Site::RESID_POST.at(model.dims().n_layers - 1);
        let run = model.trace(&tokens).logits(PosSlice::None).keep(Site::RESID_PRE).keep(end).run()?;
        let d_model = model.dims().d_model as i64;
        let real = match tokens.mask() {
            Some(mask) => Some(mask.f_reshape([-1])?.f_nonzero()?.f_reshape([-1])?.f_to_device(model.device())?),
            None => None,
        };
        let flat = |value: &Tensor| -> Result<Tensor> {
            let value = value.f_reshape([-1, d_model])?;
            Ok(match &real {
                Some(real) => value.f_index_select(0, real)?,
                None => value,
            })
        };
        let layers = (0..model.dims().n_layers).map(|layer| flat(run.cache.get(Site::RESID_PRE.at(layer))?));
        let layers = layers.collect::<Result<Vec<_>>>()?;
        Ok(Self { layers: Tensor::f_stack(&layers, 0)?, last: flat(run.cache.get(end)?)? })
    }

    pub(super) fn count(&self) -> usize {
        self.last.size()[0] as usize
    }

    /// Pieces of the tokens whose logits hold the memory bound: first token and length.
    fn pieces(&self, cx: &Context<'_>) -> Vec<(i64, i64)> {
        let model = cx.model();
        // Log probabilities of both, their difference and product, and what the record keeps of them.
        let bytes = (8 * model.dims().vocab * model.kind().elt_size_in_bytes().max(4)) as u64;
        let most = (cx.memory_limit().unwrap_or(LOGIT_BYTES) / bytes).max(1) as i64;
        let count = self.count() as i64;
        (0..count).step_by(most as usize).map(|start| (start, most.min(count - start))).collect()
    }

    /// The divergence of each layer's lens from the model, summed over the tokens.
    pub(super) fn divergences(&self, cx: &Context<'_>, translators: &Translators) -> Result<Vec<f64>> {
        let model = cx.model();
        let layers = model.dims().n_layers;
        let mut sums = vec![0.0; layers];
        for (start, len) in self.pieces(cx) {
            let target = logits(model, &self.last.f_narrow(0, start, len)?)?.f_log_softmax(-1, None::<Kind>)?;
            for (layer, sum) in sums.iter_mut().enumerate() {
                let stream = self.layers.f_select(0, layer as i64)?.f_narrow(0, start, len)?;
                let found = logits(model, &translators.apply(layer, &stream)?)?;
                *sum += divergence(&target, &found)?.f_sum(Kind::Double)?.f_double_value(&[])?;
            }
        }
        Ok(sums)
    }

    /// The mean divergence over tokens and layers, and the gradient of each layer's mean over tokens.
    pub(super) fn gradients(&self, cx: &Context<'_>, translators: &Translators) -> Result<(f64, Translators)> {
        let model = cx.model();
        let (layers, count) = (model.dims().n_layers, self.count() as f64);
        let leaf = |stack: &Tensor, layer: usize| -> Result<Tensor> {
            Ok(stack.f_select(0, layer as i64)?.f_detach()?.f_set_requires_grad(true)?)
        };
        let (mut sum, mut weights, mut biases) = (0.0, Vec::new(), Vec::new());
        for (start, len) in self.pieces(cx) {
            cx.cancelled()?;
            let target = logits(model, &self.last.f_narrow(0, start, len)?)?.f_log_softmax(-1, None::<Kind>)?;
            for layer in 0..layers {
                let stream = self.layers.f_select(0, layer as i64)?.f_narrow(0, start, len)?;
                let (weight, bias) = (leaf(&translators.weights, layer)?, leaf(&translators.biases, layer)?);
                let loss = tch::with_grad(|| -> Result<Tensor> {
                    let found = logits(model, &translated(&stream, &weight, &bias)?)?;
                    Ok(divergence(&target, &found)?.f_sum(None::<Kind>)?.f_div_scalar(count)?)
                })?;
                let mut found = Tensor::f_run_backward(&[&loss], &[&weight, &bias], false, false)?.into_iter();
                sum += loss.f_detach()?.f_double_value(&[])?;
                for (list, gradient) in [&mut weights, &mut biases].into_iter().zip(&mut found) {
                    list.push((layer, gradient));
                }
            }
        }
        let stacked = |list: &[(usize, Tensor)], like: &Tensor| -> Result<Tensor> {
            let mut sums: Vec<Option<Tensor>> = (0..layers).map(|_| None).collect();
            for (layer, gradient) in list {
                sums[*layer] = Some(match sums[*layer].take() {
                    Some(sum) => sum.f_add(gradient)?,
                    None => gradient.shallow_clone(),
                });
            }
            let sums: Vec<Tensor> = sums.into_iter().flatten().collect();
            Ok(Tensor::f_stack(&sums, 0)?.f_to_kind(like.kind())?)
        };
        let gradients = Translators {
            weights: stacked(&weights, &translators.weights)?,
            biases: stacked(&biases, &translators.biases)?,
        };
        Ok((sum / layers as f64, gradients))
    }

    /// How far the translators' logits are from those of the logit lens, at most.
    pub(super) fn identity_gap(&self, model: &dyn Model, translators: &Translators) -> Result<f64> {
        let mut greatest = 0.0;
        for layer in 0..model.dims().n_layers {
            // One token will do: every one is translated by the same map.
            let stream = self.layers.f_select(0, layer as i64)?.f_narrow(0, 0, 1)?;
            let here = gap::gap(&logits(model, &translators.apply(layer, &stream)?)?, &model.unembed(&stream)?)?;
            greatest = gap::worse(greatest, here);
        }
        Ok(greatest)
    }
}

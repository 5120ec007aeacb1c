//! Training a tuned lens.

use std::path::PathBuf;

use arrakis_core::{
    Answer, Axis, Context, Corpus, Error, Model, ModelExt, PosSlice, Result, Series, Site, Tool, Window, register_tools,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::Tensor;

use super::adam::Adam;
use super::translators::{Translators, divergence, logits, translated};
use crate::gap;

/// The bytes of logits held at once where no bound is given.
const LOGIT_BYTES: u64 = 512 << 20;

/// Trains a tuned lens on a corpus: an affine map for each layer, after which the lens says what the model will say.
///
/// The stream `h` before block `l` becomes `h + h A_l + b_l`, from where the logit lens reads it. All start at zero, which
/// is the logit lens, and are trained, each by itself, to lessen the divergence KL(model ‖ lens) in nats, by Adam with a
/// rate that falls to 0. Some windows are held out; the divergence there is given before and after. The translators are
/// written to a file, with the digest of the model that they belong to. Identity: untrained translators are the logit lens,
/// and `identity_gap` is the greatest absolute difference of their logits.
/// Source: Belrose et al., "Eliciting latent predictions from transformers with the tuned lens" (2023).
///
/// ```
/// # use arrakis_core::{Context, Corpus, Tool};
/// # use arrakis_tools::TunedLensTraining;
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/golden/llama");
/// # let model = arrakis_models::load(folder, &arrakis_models::LoadOptions::default())?;
/// # let file = std::env::temp_dir().join(format!("tuned-train-{}.safetensors", std::process::id()));
/// let corpus = Corpus::Rows(vec![vec![9, 3, 17, 40], vec![5, 8, 2, 6], vec![7, 7, 1, 3]]);
/// let asked = TunedLensTraining { steps: 20, ..TunedLensTraining::new(corpus, &file) };
/// let found = asked.run(&Context::new(&model))?;
/// assert_eq!(found.divergence.lines[1].name, "tuned lens");
/// # std::fs::remove_file(file)?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TunedLensTraining {
    /// What to train on, and to hold windows out of.
    pub corpus: Corpus,
    /// The safetensors file to write; one of that name is replaced.
    pub file: PathBuf,
    /// Tokens of a window; as many as the model's context holds where it holds fewer.
    #[serde(default = "sixty_four")]
    pub window: usize,
    /// The share of the windows that is held out, one at least.
    #[serde(default = "tenth")]
    pub held_out: f64,
    /// Steps of training.
    #[serde(default = "five_hundred")]
    pub steps: usize,
    /// Windows of a step, drawn at random.
    #[serde(default = "eight")]
    pub batch: usize,
    /// Adam's rate at the first step; it falls to 0 in a straight line.
    #[serde(default = "thousandth")]
    pub learning_rate: f64,
}

const fn sixty_four() -> usize {
    64
}

const fn tenth() -> f64 {
    0.1
}

const fn five_hundred() -> usize {
    500
}

const fn eight() -> usize {
    8
}

const fn thousandth() -> f64 {
    0.001
}

impl TunedLensTraining {
    /// Training on `corpus` into `file`, with the defaults of everything else.
    pub fn new(corpus: Corpus, file: impl Into<PathBuf>) -> Self {
        let (window, held_out, steps, batch, learning_rate) =
            (sixty_four(), tenth(), five_hundred(), eight(), thousandth());
        Self { corpus, file: file.into(), window, held_out, steps, batch, learning_rate }
    }
}

/// How the training of a tuned lens went.
#[derive(Debug, Clone)]
pub struct TunedTraining {
    /// Mean divergence from the model on held-out windows, by layer: lines `logit lens`, `tuned lens`, in nats.
    pub divergence: Series,
    /// The mean of it over the layers, before training.
    pub before: f64,
    /// The mean of it over the layers, after training.
    pub after: f64,
    /// Mean divergence over the layers at each step of training, in nats; nothing without steps.
    pub training: Option<Series>,
    /// Windows trained on.
    pub windows: usize,
    /// Windows held out.
    pub held_out: usize,
    /// The file that was written.
    pub file: PathBuf,
    /// Greatest absolute difference between the logits of untrained translators and of the logit lens.
    pub identity_gap: f64,
}

impl From<TunedTraining> for Answer {
    fn from(found: TunedTraining) -> Self {
        let mut answer =
            Self::new().with("divergence", found.divergence).with("before", found.before).with("after", found.after);
        if let Some(training) = found.training {
            answer = answer.with("training", training);
        }
        answer
            .with("windows", found.windows as f64)
            .with("held_out", found.held_out as f64)
            .with("file", found.file.display().to_string())
            .with("identity_gap", found.identity_gap)
    }
}

impl Tool for TunedLensTraining {
    const NAME: &'static str = "logit_lens.tuned_train";
    type Output = TunedTraining;

    fn run(&self, cx: &Context<'_>) -> Result<TunedTraining> {
        let model = cx.model();
        self.check()?;
        let mut stream = cx.stream(Self::NAME);
        let windows = self.corpus.windows(model, self.window.min(model.dims().context))?;
        let held_count = ((windows.len() as f64 * self.held_out).round() as usize).max(1);
        if held_count >= windows.len() {
            let why = format!("{held_count} of its {} windows are held out, and none is left", windows.len());
            return Err(Error::Invalid { what: "corpus".into(), why: format!("{why}; give more text") });
        }
        let order = stream.permutation(windows.len());
        let chosen = |places: &[usize]| places.iter().map(|place| windows[*place].clone()).collect::<Vec<Window>>();
        let (held, trained) = (chosen(&order[..held_count]), chosen(&order[held_count..]));

        let mut translators = Translators::identity(model)?;
        let identity_gap = Streams::of(cx, &held[..1])?.identity_gap(model, &translators)?;
        let before = self.held_out_divergence(cx, &held, &translators)?;
        let (mut weights, mut biases) = (Adam::of(&translators.weights)?, Adam::of(&translators.biases)?);
        let mut losses = Vec::with_capacity(self.steps);
        for step in 0..self.steps {
            cx.progress(step as u64, self.steps as u64)?;
            let batch: Vec<Window> =
                (0..self.batch).map(|_| trained[stream.below(trained.len() as u64) as usize].clone()).collect();
            let (loss, gradients) = Streams::of(cx, &batch)?.gradients(cx, &translators)?;
            if !loss.is_finite() {
                let why = format!("the divergence is {loss} at step {step}; give a smaller `learning_rate`");
                return Err(Error::Invalid { what: "training".into(), why });
            }
            let rate = self.learning_rate * (1.0 - step as f64 / self.steps as f64);
            translators = Translators {
                weights: weights.step(&translators.weights, &gradients.weights, rate)?,
                biases: biases.step(&translators.biases, &gradients.biases, rate)?,
            };
            losses.push(loss);
        }
        cx.cancelled()?;
        let after = self.held_out_divergence(cx, &held, &translators)?;
        translators.write(&self.file, model)?;
        let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
        let axis = Axis::indices("step", losses.len());
        let training = Series::new("training of the tuned lens", "nats", axis, [("divergence", losses)])?;
        Ok(TunedTraining {
            before: mean(&before),
            after: mean(&after),
            divergence: Series::new(
                "divergence from the model on held-out windows",
                "nats",
                Axis::indices("layer", model.dims().n_layers),
                [("logit lens", before), ("tuned lens", after)],
            )?,
            training: (self.steps > 0).then_some(training),
            windows: trained.len(),
            held_out: held.len(),
            file: self.file.clone(),
            identity_gap,
        })
    }
}

impl TunedLensTraining {
    fn check(&self) -> Result<()> {
        let refuse = |what: String, why: &str| Err(Error::Invalid { what, why: why.into() });
        if self.window == 0 || self.batch == 0 {
            return refuse(format!("window {}, batch {}", self.window, self.batch), "give one at least of each");
        }
        if !(self.held_out > 0.0 && self.held_out < 1.0) {
            return refuse(format!("held_out {}", self.held_out), "give a number between 0 and 1");
        }
        if !(self.learning_rate > 0.0 && self.learning_rate.is_finite()) {
            return refuse(format!("learning_rate {}", self.learning_rate), "give a positive number");
        }
        let folder = self.file.parent().filter(|folder| !folder.as_os_str().is_empty());
        match folder {
            Some(folder) if !folder.is_dir() => {
                refuse(format!("file `{}`", self.file.display()), "its folder does not exist; make it first")
            }
            _ => Ok(()),
        }
    }

    /// The mean divergence over the real tokens of the held-out windows, by layer.
    fn held_out_divergence(&self, cx: &Context<'_>, held: &[Window], translators: &Translators) -> Result<Vec<f64>> {
        let (mut sums, mut count) = (vec![0.0; cx.model().dims().n_layers], 0);
        for batch in held.chunks(self.batch) {
            cx.cancelled()?;
            let streams = Streams::of(cx, batch)?;
            for (sum, here) in sums.iter_mut().zip(streams.divergences(cx, translators)?) {
                *sum += here;
            }
            count += streams.count();
        }
        Ok(sums.into_iter().map(|sum| sum / count as f64).collect())
    }
}

/// The stream over the real tokens of some windows: before each block, and at the end.
struct Streams {
    /// `[layer, token, d_model]`.
    layers: Tensor,
    /// `[token, d_model]`.
    last: Tensor,
}

impl Streams {
    fn of(cx: &Context<'_>, windows: &[Window]) -> Result<Self> {
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

    fn count(&self) -> usize {
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
    fn divergences(&self, cx: &Context<'_>, translators: &Translators) -> Result<Vec<f64>> {
        let model = cx.model();
        let layers = model.dims().n_layers;
        let mut sums = vec![0.0; layers];
        for (start, len) in self.pieces(cx) {
            let target = logits(model, &self.last.f_narrow(0, start, len)?)?.f_log_softmax(-1, None::<tch::Kind>)?;
            for (layer, sum) in sums.iter_mut().enumerate() {
                let stream = self.layers.f_select(0, layer as i64)?.f_narrow(0, start, len)?;
                let found = logits(model, &translators.apply(layer, &stream)?)?;
                *sum += divergence(&target, &found)?.f_sum(tch::Kind::Double)?.f_double_value(&[])?;
            }
        }
        Ok(sums)
    }

    /// The mean divergence over tokens and layers, and the gradient of each layer's mean over tokens.
    fn gradients(&self, cx: &Context<'_>, translators: &Translators) -> Result<(f64, Translators)> {
        let model = cx.model();
        let (layers, count) = (model.dims().n_layers, self.count() as f64);
        let leaf = |stack: &Tensor, layer: usize| -> Result<Tensor> {
            Ok(stack.f_select(0, layer as i64)?.f_detach()?.f_set_requires_grad(true)?)
        };
        let (mut sum, mut weights, mut biases) = (0.0, Vec::new(), Vec::new());
        for (start, len) in self.pieces(cx) {
            cx.cancelled()?;
            let target = logits(model, &self.last.f_narrow(0, start, len)?)?.f_log_softmax(-1, None::<tch::Kind>)?;
            for layer in 0..layers {
                let stream = self.layers.f_select(0, layer as i64)?.f_narrow(0, start, len)?;
                let (weight, bias) = (leaf(&translators.weights, layer)?, leaf(&translators.biases, layer)?);
                let loss = tch::with_grad(|| -> Result<Tensor> {
                    let found = logits(model, &translated(&stream, &weight, &bias)?)?;
                    Ok(divergence(&target, &found)?.f_sum(None::<tch::Kind>)?.f_div_scalar(count)?)
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
    fn identity_gap(&self, model: &dyn Model, translators: &Translators) -> Result<f64> {
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

register_tools!(TunedLensTraining);

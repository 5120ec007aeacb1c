//! Training a tuned lens.

use std::path::PathBuf;

use arrakis_core::{Answer, Axis, Context, Corpus, Error, Result, Series, Tool, Window, register_tools};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::adam::Adam;
use super::streams::Streams;
use super::translators::Translators;

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
    #[schemars(extend("x-file" = "written"))]
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

register_tools!(TunedLensTraining);

//! Training: a stack of models that differ by their seed, step by step, and where it stands.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use arrakis_core::{Error as CoreError, Host, Model as _};
use arrakis_models::LoadOptions;
use serde::Serialize;
use serde_json::{Value, json};
use tch::{Device, Kind, Tensor};

use crate::adamw::AdamW;
use crate::checkpoint::Folder;
use crate::group::{Group, numbers};
use crate::layout::Layout;
use crate::metrics::{Line, Metrics};
use crate::parameters::Parameters;
use crate::precision::Precision;
use crate::text::Text;
use crate::training::Training;
use crate::{Config, Error, Leviathan, Mixer, Result};

/// A training of a stack of models, one for each seed, at some step.
#[derive(Debug)]
pub struct Trainer<'a> {
    config: Config,
    pub(crate) training: Training,
    kind: Kind,
    pub(crate) text: &'a Text,
    layout: Arc<Layout>,
    groups: Vec<Group>,
    /// All numbers of all models (`[stack, count]`), which the networks of the groups share.
    pub(crate) flat: Tensor,
    pub(crate) optimiser: AdamW,
    pub(crate) standing: Standing,
}

/// How far a training has come.
#[derive(Debug)]
pub(crate) struct Standing {
    /// Steps done.
    pub(crate) step: u64,
    /// Seconds spent in them, evaluations left out.
    pub(crate) seconds: f64,
    /// The numbers of each model when it was best: `[stack, count]`.
    pub(crate) best: Tensor,
    /// Its loss then, in nats for each token.
    pub(crate) best_losses: Vec<f64>,
    /// Evaluations since each model became better.
    pub(crate) stale: Vec<u64>,
}

/// What a training came to, for each seed.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Trained {
    /// The seeds.
    pub seeds: Vec<u64>,
    /// Steps done.
    pub steps: u64,
    /// Seconds spent in them, evaluations left out; no part of the JSON, which is that of any run of this training.
    #[serde(skip)]
    pub seconds: f64,
    /// The loss over the whole validation part of each model when it was best, in nats for each token.
    pub nats: Vec<f64>,
    /// The same in bits for each character.
    pub bits_per_character: Vec<f64>,
    /// The parameters of one model.
    pub parameters: u64,
    /// The digests of these models, by which the log knows what is asked of them.
    pub models: Vec<String>,
}

impl<'a> Trainer<'a> {
    /// A training at its beginning, in single precision on the CPU; `path` names the text in errors.
    pub fn new(config: &Config, training: &Training, text: &'a Text, path: &Path) -> Result<Self> {
        Self::on(config, training, (text, path), &LoadOptions::default())
    }

    /// The same on a device, passes computed in the kind of a [`Precision`].
    pub fn on(
        config: &Config,
        training: &Training,
        (text, path): (&'a Text, &Path),
        &LoadOptions { kind, device }: &LoadOptions,
    ) -> Result<Self> {
        config.check()?;
        training.check()?;
        text.check(path, config.context)?;
        if config.vocab != text.vocabulary.len() {
            let why = format!("it is {} and the text has {} tokens", config.vocab, text.vocabulary.len());
            return Err(Error::config("vocab", why));
        }
        let precision = Precision::of(kind)?;
        if (precision, config.mixer) == (Precision::Bfloat16, Mixer::Original) {
            let why = "the Fourier transforms of `original` have no bfloat16; train it in float32 or float64";
            return Err(Error::config("dtype", why));
        }
        let parameters = Parameters::new(config, &training.seeds)?;
        let (layout, flat) =
            (parameters.layout, parameters.flat.f_to_device(device)?.f_to_kind(precision.of_weights())?);
        let optimiser = AdamW::new(&layout, &flat)?;
        let standing = Standing {
            step: 0,
            seconds: 0.0,
            best: flat.f_detach_copy()?,
            best_losses: vec![f64::INFINITY; training.seeds.len()],
            stale: vec![0; training.seeds.len()],
        };
        // On the CPU, what one model keeps for its backward pass fills the caches, so that several at once are slower
        // than one after the other; other devices want as much as they can get.
        let together = if device == Device::Cpu { 1 } else { training.seeds.len() };
        let groups = (0..).step_by(together).zip(training.seeds.chunks(together)).map(|(first, seeds)| {
            let rows = flat.f_narrow(0, first, seeds.len() as i64)?;
            Group::new(config, seeds, &Parameters::of(Arc::clone(&layout), rows)?, kind)
        });
        let groups = groups.collect::<Result<_>>()?;
        Ok(Self {
            config: config.clone(),
            training: training.clone(),
            kind,
            text,
            layout,
            groups,
            flat,
            optimiser,
            standing,
        })
    }

    /// Steps done.
    #[must_use]
    pub const fn steps(&self) -> u64 {
        self.standing.step
    }

    /// Trains to the end, or goes on from where `folder` says that an earlier run stood.
    ///
    /// At each evaluation, and where the host cancels, everything needed to go on is written; resumed or not, the
    /// weights come out the same to the bit on one machine with the same threads.
    ///
    /// # Errors
    /// A folder of another training, [`Error::NotFinite`], files that cannot be written, and cancellation.
    pub fn run(&mut self, folder: &Folder, host: &dyn Host) -> Result<Trained> {
        self.run_told(folder, host, |_| Ok(()))
    }

    /// Everything that the weights depend on.
    pub(crate) fn claimed(&self) -> Value {
        json!({
            "model": self.config,
            "training": self.training,
            "text": self.text.digest,
            "dtype": format!("{:?}", self.kind),
            "device": format!("{:?}", self.flat.device()),
            // Sums are ordered by threads, so another number of them is another result.
            "threads": tch::get_num_threads(),
        })
    }

    /// [`run`](Self::run), with a word for each evaluation, those of an earlier run first.
    pub(crate) fn run_told(
        &mut self,
        folder: &Folder,
        host: &dyn Host,
        mut tell: impl FnMut(&Line) -> Result<()>,
    ) -> Result<Trained> {
        folder.claim(&self.claimed())?;
        folder.restore(self)?;
        let (mut metrics, earlier) = Metrics::open(folder.path(), self.standing.step)?;
        earlier.iter().try_for_each(&mut tell)?;
        while self.standing.step < self.training.steps && !self.has_stalled() {
            if host.cancelled() {
                self.keep(folder)?;
                return Err(CoreError::Cancelled.into());
            }
            let losses = self.step()?;
            let done = self.standing.step;
            host.progress(done, self.training.steps);
            if done.is_multiple_of(self.training.evaluate_every) || done == self.training.steps {
                let judged = self.judge()?;
                let line = self.metric(&losses, &judged);
                metrics.write(&line)?;
                tell(&line)?;
                self.keep(folder)?;
            }
        }
        self.save_models(folder)?;
        self.trained()
    }

    /// Writes everything needed to go on, and the models.
    fn keep(&self, folder: &Folder) -> Result<()> {
        folder.store(self)?;
        self.save_models(folder)
    }

    /// Writes every model that was judged, as it was when it was best.
    fn save_models(&self, folder: &Folder) -> Result<()> {
        for (place, seed) in self.training.seeds.iter().enumerate() {
            if self.standing.best_losses[place].is_finite() {
                self.model(place)?.save(&folder.model(&self.training, *seed))?;
            }
        }
        Ok(())
    }

    /// Whether every model has ended by its own evaluations.
    fn has_stalled(&self) -> bool {
        (0..self.training.seeds.len()).all(|place| self.has_ended(place))
    }

    /// Whether a model was no better for so long that what others still learn is none of its own.
    fn has_ended(&self, place: usize) -> bool {
        self.training.patience.is_some_and(|patience| self.standing.stale[place] >= patience)
    }

    /// One step; gives the loss of each model before it, in nats for each token.
    ///
    /// # Errors
    /// [`Error::NotFinite`] with the place where a number went wrong; nothing has moved then.
    pub fn step(&mut self) -> Result<Vec<f64>> {
        let start = Instant::now();
        let step = self.standing.step;
        let (mut losses, mut gradients) = (Vec::new(), Vec::new());
        for group in &self.groups {
            let (loss, gradient) = group.gradient(self.text, &self.training, step)?;
            losses.extend(loss);
            gradients.push(gradient);
        }
        let gradient = Tensor::f_cat(&gradients, 0)?;
        let norms = numbers(&self.optimiser.step(&mut self.flat, &gradient, step, &self.training)?)?;
        if let Some(model) = norms.iter().position(|norm| !norm.is_finite()) {
            return Err(self.gradient_fault(&gradient, model)?);
        }
        self.standing.step += 1;
        self.standing.seconds += start.elapsed().as_secs_f64();
        Ok(losses)
    }

    /// Where a gradient (`[stack, count]`) is not finite.
    fn gradient_fault(&self, gradient: &Tensor, model: usize) -> Result<Error> {
        let mut place = "gradient".to_owned();
        for parameter in &self.layout.parameters {
            let part = gradient.f_select(0, model as i64)?.f_narrow(0, parameter.first, parameter.len())?;
            if part.f_isfinite()?.f_all()?.f_int64_value(&[])? == 0 {
                let layer = parameter.layer.map_or_else(String::new, |layer| format!("blocks.{layer}."));
                place = format!("gradient of {layer}{:?}", parameter.role);
                break;
            }
        }
        Ok(Error::NotFinite { step: self.standing.step, seed: self.training.seeds[model], place })
    }

    /// Evaluates every model, and remembers those that became better.
    fn judge(&mut self) -> Result<Vec<f64>> {
        let starts = self.text.judged(Some(self.training.windows), self.config.context);
        let judged = self.judged(&starts)?;
        for (model, loss) in judged.iter().enumerate() {
            if self.has_ended(model) {
                continue;
            }
            self.standing.stale[model] += 1;
            if *loss < self.standing.best_losses[model] {
                self.standing.best_losses[model] = *loss;
                self.standing.best.f_get(model as i64)?.f_copy_(&self.flat.f_get(model as i64)?)?;
                self.standing.stale[model] = 0;
            }
        }
        Ok(judged)
    }

    /// The loss of each model over windows of the validation part, in nats for each token.
    fn judged(&self, starts: &[usize]) -> Result<Vec<f64>> {
        let each = self.groups.iter().map(|group| group.judged(self.text, starts, self.training.batch));
        Ok(each.collect::<Result<Vec<Vec<f64>>>>()?.concat())
    }

    fn bits(&self, nats: &[f64]) -> Vec<f64> {
        nats.iter().map(|nats| self.text.bits_per_character(*nats)).collect()
    }

    fn metric(&self, losses: &[f64], judged: &[f64]) -> Line {
        Line {
            step: self.standing.step,
            seconds: self.standing.seconds,
            rate: self.training.rate_at(self.standing.step - 1),
            training_nats: losses.to_vec(),
            validation_nats: judged.to_vec(),
            validation_bits_per_character: self.bits(judged),
        }
    }

    /// The best models over the whole validation part.
    fn trained(&mut self) -> Result<Trained> {
        let now = self.flat.f_detach_copy()?;
        let starts = self.text.judged(None, self.config.context);
        self.flat.f_copy_(&self.standing.best)?;
        let judged = self.judged(&starts);
        self.flat.f_copy_(&now)?;
        let nats = judged?;
        let models = (0..self.training.seeds.len()).map(|place| Ok(self.model(place)?.digest()?));
        Ok(Trained {
            seeds: self.training.seeds.clone(),
            steps: self.standing.step,
            seconds: self.standing.seconds,
            bits_per_character: self.bits(&nats),
            nats,
            parameters: self.config.parameters(),
            models: models.collect::<Result<_>>()?,
        })
    }

    /// One model of the stack when it was best.
    pub fn model(&self, place: usize) -> Result<Leviathan> {
        self.model_of(&self.standing.best, place)
    }

    /// One model of the stack as it is now.
    pub fn current(&self, place: usize) -> Result<Leviathan> {
        self.model_of(&self.flat, place)
    }

    fn model_of(&self, stack: &Tensor, place: usize) -> Result<Leviathan> {
        let flat = stack.f_narrow(0, place as i64, 1)?.f_detach_copy()?.f_to_device(Device::Cpu)?;
        let parameters = Parameters::of(Arc::clone(&self.layout), flat)?;
        Ok(Leviathan::of(&self.config, parameters, Some(Arc::clone(&self.text.vocabulary))))
    }
}

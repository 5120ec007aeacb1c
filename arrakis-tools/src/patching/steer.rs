//! A direction added to the residual stream, and what it does to the next token.

use arrakis_core::{
    Answer, Axis, Context, Error, Metric, Model, ModelExt, PosSlice, Prompt, Ranking, Result, Series, Site, Tool, edit,
    register_tools,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use crate::measured::mean;
use crate::{gap, index};

/// Adds a direction to the residual stream at every position, and tells what becomes of the metric and of the next token.
///
/// The direction is a vector (`vector`), or the difference of two prompts' streams at their last tokens (`towards` minus
/// `away`), before the block `layer`; it is added with each of the `strengths`. Identity: strength 0 is the plain run,
/// and `zero_gap` is the greatest absolute difference of the logits.
/// Source: Turner et al., "Activation addition: steering language models without optimization" (2023).
///
/// ```
/// # use arrakis_core::{Context, Metric, Prompt, Tool};
/// # use arrakis_tools::Steer;
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/golden/llama");
/// # let model = arrakis_models::load(folder, &arrakis_models::LoadOptions::default())?;
/// let ids = |ids: &[i64]| Prompt::Ids(ids.to_vec());
/// let steer = Steer::between(ids(&[9, 3, 17]), 1, ids(&[5, 6]), ids(&[5, 7]), Metric::Logit(3.into()));
/// assert_eq!(steer.run(&Context::new(&model))?.zero_gap, 0.0);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Steer {
    /// What is continued.
    pub prompt: Prompt,
    /// The block before which the direction is added.
    pub layer: usize,
    /// The direction itself: `d_model` numbers.
    #[serde(default)]
    pub vector: Option<Vec<f64>>,
    /// The prompt that the direction leads to; a mean over its rows.
    #[serde(default)]
    pub towards: Option<Prompt>,
    /// The prompt that the direction leads away from; a mean over its rows.
    #[serde(default)]
    pub away: Option<Prompt>,
    /// What is measured, as a mean over the rows.
    pub metric: Metric,
    /// What the direction is multiplied by, one run each.
    #[serde(default = "strengths")]
    pub strengths: Vec<f64>,
    /// How many tokens are named that gain and lose most.
    #[serde(default = "ten")]
    pub top: usize,
}

fn strengths() -> Vec<f64> {
    vec![0.0, 1.0, 2.0, 4.0, 8.0]
}

const fn ten() -> usize {
    10
}

impl Steer {
    /// Steering from one prompt's stream to another's, with the usual strengths.
    #[must_use]
    pub fn between(prompt: Prompt, layer: usize, towards: Prompt, away: Prompt, metric: Metric) -> Self {
        let (towards, away) = (Some(towards), Some(away));
        Self { prompt, layer, vector: None, towards, away, metric, strengths: strengths(), top: ten() }
    }

    /// Steering along a vector of `d_model` numbers, with the usual strengths.
    #[must_use]
    pub fn along(prompt: Prompt, layer: usize, vector: Vec<f64>, metric: Metric) -> Self {
        let (towards, away) = (None, None);
        Self { prompt, layer, vector: Some(vector), towards, away, metric, strengths: strengths(), top: ten() }
    }
}

/// What a direction does.
#[derive(Debug)]
pub struct Steered {
    /// The metric at each strength.
    pub metric: Series,
    /// The tokens whose logits gain and lose most at the greatest strength, as a mean over the rows.
    pub moved: Ranking,
    /// The length of the direction.
    pub norm: f64,
    /// The mean length of the residual stream that it is added to.
    pub stream_norm: f64,
    /// Logits of each row's last token at each strength: `[strength, row, vocab]`.
    pub logits: Tensor,
    /// Greatest absolute difference of the logits at strength 0 from those of the plain run.
    pub zero_gap: f64,
}

impl From<Steered> for Answer {
    fn from(steered: Steered) -> Self {
        Self::new()
            .with("metric", steered.metric)
            .with("moved", steered.moved)
            .with("norm", steered.norm)
            .with("stream_norm", steered.stream_norm)
            .with("zero_gap", steered.zero_gap)
    }
}

impl Tool for Steer {
    const NAME: &'static str = "patching.steer";
    type Output = Steered;

    fn run(&self, cx: &Context<'_>) -> Result<Steered> {
        let model = cx.model();
        let layer = index::chosen("layer", Some(&[self.layer]), model.dims().n_layers)?[0];
        let point = Site::RESID_PRE.at(layer);
        let invalid = |what: &str, why: &str| Error::Invalid { what: what.into(), why: why.into() };
        if self.strengths.is_empty() || self.strengths.iter().any(|strength| !strength.is_finite()) {
            return Err(invalid("strengths", "give at least one, all of them finite numbers"));
        }
        let top = index::count("top", self.top, model.dims().vocab)?;
        let tokens = self.prompt.tokens(model)?;
        let direction = self.direction(cx, layer)?;
        let measure = self.metric.prepare(model, &tokens)?;
        let last = |logits: &Tensor| -> Result<Tensor> {
            let wanted = measure.wanted();
            let last = if wanted == PosSlice::All {
                PosSlice::Last.of(logits, 1, tokens.mask())?
            } else {
                logits.shallow_clone()
            };
            Ok(last.f_select(1, -1)?)
        };
        let run = |strength: f64| -> Result<(f64, Tensor)> {
            let term = direction.f_mul_scalar(strength)?;
            let run = model.trace(&tokens).edit(point, edit::add(&term)).logits(measure.wanted()).run()?;
            Ok((mean(&measure, run.logits()?)?, last(run.logits()?)?))
        };
        let plain = model.trace(&tokens).keep(point).logits(measure.wanted()).run()?;
        let plain_logits = last(plain.logits()?)?;
        let zero_gap = gap::gap(&run(0.0)?.1, &plain_logits)?;
        let (mut values, mut logits) = (Vec::new(), Vec::new());
        for (step, strength) in self.strengths.iter().enumerate() {
            cx.progress(step as u64, self.strengths.len() as u64)?;
            let (value, last) = run(*strength)?;
            values.push(value);
            logits.push(last);
        }
        let greatest = (0..values.len()).max_by(|a, b| self.strengths[*a].abs().total_cmp(&self.strengths[*b].abs()));
        let moved = logits[greatest.unwrap_or(0)].f_sub(&plain_logits)?.f_mean_dim(0, false, Kind::Double)?;
        let order: Vec<i64> = Vec::try_from(moved.f_abs()?.f_topk(top as i64, -1, true, true)?.1)?;
        let entries = order.into_iter().map(|id| Ok((model.token(id), moved.f_double_value(&[id])?)));
        let moved =
            Ranking::new("what the direction moves", "change of the logit", entries.collect::<Result<Vec<_>>>()?);
        let strengths = Axis::new("strength", self.strengths.iter().map(ToString::to_string));
        let stream = plain.cache.get(point)?.f_to_kind(Kind::Double)?.f_norm_scalaropt_dim(2.0, [-1_i64], false)?;
        let stream = match tokens.mask() {
            Some(mask) => stream.f_masked_select(&mask.f_to_device(stream.device())?)?,
            None => stream,
        };
        Ok(Steered {
            metric: Series::new("steering", self.metric.label(), strengths, [(self.metric.label(), values)])?,
            moved: moved.sorted(),
            norm: direction.f_norm()?.f_double_value(&[])?,
            stream_norm: stream.f_mean(Kind::Double)?.f_double_value(&[])?,
            logits: Tensor::f_stack(&logits, 0)?,
            zero_gap,
        })
    }

    fn measured(&self, model: &dyn Model) -> Result<Option<String>> {
        self.metric.described(model).map(Some)
    }
}

impl Steer {
    /// The direction, in double: `[d_model]`.
    fn direction(&self, cx: &Context<'_>, layer: usize) -> Result<Tensor> {
        let model = cx.model();
        let d_model = model.dims().d_model;
        let invalid = |what: &str, why: String| Error::Invalid { what: what.into(), why };
        match (&self.vector, &self.towards, &self.away) {
            (Some(vector), None, None) => {
                if vector.len() != d_model || vector.iter().any(|number| !number.is_finite()) {
                    let why = format!("it has {} numbers where {d_model} finite ones are wanted", vector.len());
                    return Err(invalid("vector", why));
                }
                Ok(Tensor::f_from_slice(vector)?.f_to_device(model.device())?)
            }
            (None, Some(towards), Some(away)) => {
                let point = Site::RESID_PRE.at(layer);
                let stream = |prompt: &Prompt| -> Result<Tensor> {
                    let tokens = prompt.tokens(model)?;
                    let trace = model.trace(&tokens).keep_slice(point, PosSlice::Last);
                    let run = trace.stop_at(layer + 1).run()?;
                    Ok(run.cache.get(point)?.f_mean_dim(&[0_i64, 1][..], false, Kind::Double)?)
                };
                Ok(stream(towards)?.f_sub(&stream(away)?)?)
            }
            _ => Err(invalid("direction", "give `vector`, or both `towards` and `away`".into())),
        }
    }
}

register_tools!(Steer);

//! A logit difference over the strength of steering: how far a direction has to be pushed.

use arrakis_core::{
    Answer, Axis, Case, Context, Error, Metric, ModelExt, PosSlice, Prompt, Result, RowTokens, Series, Site, Sweep,
    Tool, answer, edit, register_tools,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

/// Adds a direction to the residual stream with many strengths, and follows the logit difference.
///
/// The direction is the mean difference of two prompts' streams at their last tokens (`towards` minus `away`) after the
/// block `layer`, divided by its length; a strength is that share of the mean length of the prompt's own stream there. It
/// is added at every position. `crossing` is the least strength at which the difference changes its sign, between two
/// strengths by a straight line; NaN if it does not. Identity: strength 0 is the plain run, and `zero_gap` is the
/// distance of the two.
/// Source: Rimsky et al., "Steering Llama 2 via contrastive activation addition" (2024).
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SteeringSweep {
    /// What is continued.
    pub prompt: Prompt,
    /// The block after which the direction is added.
    pub layer: usize,
    /// The prompt that the direction leads to; a mean over its rows.
    pub towards: Prompt,
    /// The prompt that the direction leads away from; a mean over its rows.
    pub away: Prompt,
    /// The token whose logit is to be greater.
    pub answer: RowTokens,
    /// The token it is compared with.
    pub wrong: RowTokens,
    /// The greatest strength; the sweep goes from its negative to it.
    #[serde(default = "one")]
    pub greatest: f64,
    /// Strengths on either side of 0.
    #[serde(default = "eight")]
    pub steps: usize,
}

const fn one() -> f64 {
    1.0
}

const fn eight() -> usize {
    8
}

/// The answer of [`SteeringSweep`].
#[derive(Debug, Clone)]
pub struct Steered {
    /// The mean logit difference at each strength.
    pub difference: Series,
    /// The least strength, by absolute value, at which the difference changes its sign; NaN if there is none.
    pub crossing: f64,
    /// Distance of the difference at strength 0 from that of the plain run.
    pub zero_gap: f64,
}

impl From<Steered> for Answer {
    fn from(steered: Steered) -> Self {
        Self::new()
            .with("difference", steered.difference)
            .with("crossing", steered.crossing)
            .with("zero_gap", steered.zero_gap)
    }
}

impl Tool for SteeringSweep {
    const NAME: &'static str = "contrib.steering_sweep";
    type Output = Steered;

    fn run(&self, cx: &Context<'_>) -> Result<Steered> {
        let model = cx.model();
        let strengths = self.strengths()?;
        let n_layers = model.dims().n_layers;
        if self.layer >= n_layers {
            return Err(Error::OutOfRange { what: "layer".into(), index: self.layer as i64, len: n_layers as i64 });
        }
        let point = Site::RESID_POST.at(self.layer);
        let tokens = self.prompt.tokens(model)?;
        let metric = Metric::LogitDifference { answer: self.answer.clone(), wrong: self.wrong.clone() };
        let measure = metric.prepare(model, &tokens)?;
        let mean =
            |logits: &Tensor| -> Result<f64> { Ok(answer::numbers(&measure.of(logits)?.f_mean(Kind::Double)?)?[0]) };
        let plain = model.trace(&tokens).keep(point).logits(measure.wanted()).run()?;
        let unit = self.unit(cx)?.f_mul_scalar(stream_length(plain.cache.get(point)?, tokens.mask())?)?;
        let terms = strengths.iter().map(|strength| unit.f_mul_scalar(*strength)).collect::<Result<Vec<_>, _>>()?;
        let mut values = vec![f64::NAN; strengths.len()];
        Sweep::new(cx, &tokens)
            .cases(terms.iter().map(|term| Case::new().edit(point, edit::add(term))))
            .logits(measure.wanted())
            .run(|case, found| {
                values[case] = mean(found.logits()?)?;
                Ok(())
            })?;
        let zero_gap = (values[self.steps] - mean(plain.logits()?)?).abs();
        let crossing = crossing(&strengths, &values);
        let axis = Axis::new("strength", strengths.iter().map(ToString::to_string));
        let difference = Series::new("steering", "logit difference", axis, [("logit difference", values)])?;
        Ok(Steered { difference, crossing, zero_gap })
    }
}

impl SteeringSweep {
    /// From the negative greatest to the greatest, 0 in the middle.
    fn strengths(&self) -> Result<Vec<f64>> {
        let invalid = |what: String, why: &str| Err(Error::Invalid { what, why: why.into() });
        if !self.greatest.is_finite() || self.greatest <= 0.0 {
            return invalid(format!("greatest {}", self.greatest), "give a finite number above 0");
        }
        if !(1..=1000).contains(&self.steps) {
            return invalid(format!("steps {}", self.steps), "give a number in 1..=1000");
        }
        let steps = self.steps as i64;
        Ok((-steps..=steps).map(|step| self.greatest * step as f64 / steps as f64).collect())
    }

    /// The direction, of length 1, in double: `[d_model]`.
    fn unit(&self, cx: &Context<'_>) -> Result<Tensor> {
        let (model, point) = (cx.model(), Site::RESID_POST.at(self.layer));
        let stream = |prompt: &Prompt| -> Result<Tensor> {
            let tokens = prompt.tokens(model)?;
            let trace = model.trace(&tokens).keep_slice(point, PosSlice::Last);
            let run = trace.stop_at(self.layer + 1).run()?;
            Ok(run.cache.get(point)?.f_mean_dim(&[0_i64, 1][..], false, Kind::Double)?)
        };
        let direction = stream(&self.towards)?.f_sub(&stream(&self.away)?)?;
        let length = direction.f_norm()?;
        if length.f_double_value(&[])? == 0.0 {
            let why = "both have the same stream there; give prompts that differ".into();
            return Err(Error::Invalid { what: "`towards` and `away`".into(), why });
        }
        Ok(direction.f_div(&length)?)
    }
}

/// The mean length of the stream over the real positions.
fn stream_length(stream: &Tensor, mask: Option<&Tensor>) -> Result<f64> {
    let lengths = stream.f_to_kind(Kind::Double)?.f_norm_scalaropt_dim(2.0, [-1_i64], false)?;
    let lengths = match mask {
        Some(mask) => lengths.f_masked_select(&mask.f_to_device(lengths.device())?)?,
        None => lengths,
    };
    Ok(lengths.f_mean(Kind::Double)?.f_double_value(&[])?)
}

/// Where the values change their sign nearest to strength 0.
fn crossing(strengths: &[f64], values: &[f64]) -> f64 {
    let between = |place: usize| {
        let (before, after) = (values[place], values[place + 1]);
        let changes = before * after <= 0.0 && (before - after).abs() > 0.0;
        let share = before / (before - after);
        changes.then(|| strengths[place] + share * (strengths[place + 1] - strengths[place]))
    };
    let crossings = (0..strengths.len().saturating_sub(1)).filter_map(between);
    crossings.min_by(|a, b| a.abs().total_cmp(&b.abs())).unwrap_or(f64::NAN)
}

register_tools!(SteeringSweep);

#[cfg(feature = "plugin")]
arrakis_core::export_plugin!();

//! One neuron set to other values, and what becomes of a metric.

use arrakis_core::{
    Answer, Axis, Case, Context, Error, Metric, Model, ModelExt, PosSlice, Prompt, Result, Series, Site, Sweep, Tool,
    answer, edit, register_tools,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::Kind;

use crate::index;

/// Sets one neuron to other values and measures what becomes of a metric.
///
/// The neuron is taken after its activation function (and after the gate where there is one), at one position or at all,
/// and set to each of `values`; if they are absent, to its own value times -1, 0, 0.5, 1, 2 and 4. The dose-response curve
/// tells whether the metric depends on it, and how. Identity: at 1 times its own value the plain run comes back;
/// `own_gap` is the absolute difference of the metrics.
/// Source: Vig et al., "Investigating gender bias in language models using causal mediation analysis" (2020).
///
/// ```
/// # use arrakis_core::{Context, Metric, Prompt, Tool};
/// # use arrakis_tools::NeuronIntervention;
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/golden/llama");
/// # let model = arrakis_models::load(folder, &arrakis_models::LoadOptions::default())?;
/// let asked = NeuronIntervention::new(Prompt::Ids(vec![9, 3, 17]), 1, 5, Metric::Logit(3.into()));
/// assert!(asked.run(&Context::new(&model))?.own_gap < 1e-5);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NeuronIntervention {
    /// What to read.
    pub prompt: Prompt,
    /// The neuron's block.
    pub layer: usize,
    /// Its place among the neurons of the block.
    pub neuron: usize,
    /// What is measured, as a mean over the rows.
    pub metric: Metric,
    /// Values to set it to; multiples of its own value if absent.
    #[serde(default)]
    pub values: Option<Vec<f64>>,
    /// The position at which it is set; all positions if absent.
    #[serde(default)]
    pub position: Option<i64>,
}

impl NeuronIntervention {
    /// A neuron at all positions, set to multiples of its own value.
    pub fn new(prompt: impl Into<Prompt>, layer: usize, neuron: usize, metric: Metric) -> Self {
        Self { prompt: prompt.into(), layer, neuron, metric, values: None, position: None }
    }
}

/// What a neuron's value does to a metric.
#[derive(Debug, Clone)]
pub struct Intervened {
    /// The metric of the plain run.
    pub plain: f64,
    /// The neuron's own mean value, over the rows, where it is set.
    pub own: f64,
    /// The metric at each value, or at each multiple of the neuron's own value.
    pub response: Series,
    /// Absolute difference of the metric from the plain one at the neuron's own value.
    pub own_gap: f64,
}

impl From<Intervened> for Answer {
    fn from(found: Intervened) -> Self {
        Self::new()
            .with("plain", found.plain)
            .with("own", found.own)
            .with("response", found.response)
            .with("own_gap", found.own_gap)
    }
}

impl Tool for NeuronIntervention {
    const NAME: &'static str = "causal_tracing.neuron";
    type Output = Intervened;

    fn run(&self, cx: &Context<'_>) -> Result<Intervened> {
        let model = cx.model();
        let dims = model.dims();
        let layer = index::chosen("layer", Some(&[self.layer]), dims.n_layers)?[0];
        let neuron = index::chosen("neuron", Some(&[self.neuron]), dims.d_mlp)?[0];
        if let Some(values) = &self.values
            && (values.is_empty() || values.iter().any(|value| !value.is_finite()))
        {
            let why = "give at least one, all of them finite numbers; leave them out for the usual multiples".into();
            return Err(Error::Invalid { what: "values".into(), why });
        }
        let tokens = self.prompt.tokens(model)?;
        if self.position.is_some() && tokens.mask().is_some() {
            let why = "its rows differ in length, so one position is another token in each; give the rows one by one";
            return Err(Error::Invalid { what: "position of a batch".into(), why: why.into() });
        }
        let position = self.position.map(|position| index::position(position, tokens.positions())).transpose()?;
        let point = Site::MLP_POST.at(layer);
        let measure = self.metric.prepare(model, &tokens)?;
        let run = model.trace(&tokens).keep(point).logits(measure.wanted()).run()?;
        let mean = |values: &tch::Tensor| -> Result<f64> {
            let values = answer::numbers(values)?;
            Ok(values.iter().sum::<f64>() / values.len() as f64)
        };
        let plain = mean(&measure.of(run.logits()?)?)?;
        let at = position.map_or(PosSlice::All, |position| PosSlice::At(vec![position]));
        let own = at.of(run.cache.get(point)?, 1, None)?.f_select(2, neuron as i64)?;
        let own = match tokens.mask() {
            Some(mask) => own.f_masked_select(&mask.f_to_device(own.device())?)?,
            None => own,
        };
        let own = mean(&own.f_to_kind(Kind::Double)?)?;

        let multiples = [-1.0, 0.0, 0.5, 1.0, 2.0, 4.0];
        let doses: Vec<(f64, bool)> = match &self.values {
            Some(values) => values.iter().map(|value| (*value, false)).collect(),
            None => multiples.iter().map(|factor| (*factor, true)).collect(),
        };
        let case = |(dose, multiple): (f64, bool)| {
            let dosed =
                if multiple { edit::scale(dose) } else { edit::with(move |value| Ok(value.f_full_like(dose)?)) };
            let edit = edit::neuron(neuron, dosed);
            Case::new().edit(
                point,
                match position {
                    Some(position) => edit::position(position, edit),
                    None => edit,
                },
            )
        };
        let cases = doses.iter().copied().chain([(1.0, true)]).map(case);
        let mut found = vec![f64::NAN; doses.len() + 1];
        Sweep::new(cx, &tokens).cases(cases).logits(measure.wanted()).run(|case, run| {
            found[case] = mean(&measure.of(run.logits()?)?)?;
            Ok(())
        })?;
        let own_gap = (found.pop().unwrap_or(f64::NAN) - plain).abs();
        let axis = if self.values.is_some() { "value" } else { "multiple of its own value" };
        let axis = Axis::new(axis, doses.iter().map(|(dose, _)| dose.to_string()));
        let title = format!("neuron {neuron} of layer {layer}");
        let label = self.metric.label();
        let lines = [("set", found), ("as it is", vec![plain; doses.len()])];
        Ok(Intervened { plain, own, response: Series::new(title, label, axis, lines)?, own_gap })
    }

    fn measured(&self, model: &dyn Model) -> Result<Option<String>> {
        self.metric.described(model).map(Some)
    }
}

register_tools!(NeuronIntervention);

//! What each layer is worth: the run with it deleted, repeated, or exchanged with the next.

use arrakis_core::{
    Answer, Axis, Context, Grid, Metric, Model, ModelExt, Prompt, Ranking, Result, Tool, register_tools,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::Tensor;

use super::chain;
use crate::{gap, measured};

/// Measures a run with each layer deleted, run twice, or exchanged with the next, one at a time.
///
/// The effect is the metric after less the metric before, a mean over the rows; the last layer has no next one, and
/// NaN stands there. The model itself is untouched. Identity: the layers run one by one are the plain run, and
/// `natural_gap` is the greatest absolute difference of the logits.
/// Source: Lad et al., "The remarkable robustness of LLMs: stages of inference?" (2024).
///
/// ```
/// # use arrakis_core::{Context, Prompt, Tool};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/golden/gpt2");
/// # let model = arrakis_models::load(folder, &arrakis_models::LoadOptions::default())?;
/// let found = arrakis_tools::SurgeryEach::new(Prompt::Ids(vec![9, 3, 17, 40])).run(&Context::new(&model))?;
/// println!("without layer 1: {:+} nats", found.effect.get(1, 0).unwrap());
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SurgeryEach {
    /// What to read.
    pub prompt: Prompt,
    /// What is measured, as a mean over the rows.
    #[serde(default = "loss")]
    pub metric: Metric,
}

const fn loss() -> Metric {
    Metric::Loss
}

impl SurgeryEach {
    /// The effect of every layer on the loss on `prompt`.
    pub fn new(prompt: impl Into<Prompt>) -> Self {
        Self { prompt: prompt.into(), metric: loss() }
    }
}

/// What each layer is worth.
#[derive(Debug, Clone)]
pub struct EachLayer {
    /// The metric of the plain run.
    pub before: f64,
    /// The metric after: `[layer, operation]`, where the operations are to delete, to run twice, to exchange with the next.
    pub after: Grid,
    /// The metric after less the metric before: `[layer, operation]`.
    pub effect: Grid,
    /// The operations with the greatest absolute effects.
    pub strongest: Ranking,
    /// Greatest absolute difference of the logits of the natural order, layer by layer, from the plain run.
    pub natural_gap: f64,
}

impl From<EachLayer> for Answer {
    fn from(found: EachLayer) -> Self {
        Self::new()
            .with("before", found.before)
            .with("effect", found.effect)
            .with("after", found.after)
            .with("strongest", found.strongest)
            .with("natural_gap", found.natural_gap)
    }
}

/// How many of the strongest effects are listed.
const STRONGEST: usize = 10;

impl Tool for SurgeryEach {
    const NAME: &'static str = "surgery.each";
    type Output = EachLayer;

    fn run(&self, cx: &Context<'_>) -> Result<EachLayer> {
        let model = cx.model();
        let layers = model.dims().n_layers;
        let tokens = self.prompt.tokens(model)?;
        let measure = self.metric.prepare(model, &tokens)?;
        let plain = model.trace(&tokens).logits(measure.wanted()).run()?;
        let before = measured::mean(&measure, plain.logits()?)?;
        let after = |layer: usize, stream: &Tensor| -> Result<f64> {
            measured::mean(&measure, &chain::rest(model, &tokens, layer, stream, measure.wanted())?)
        };
        // The natural run is walked once, and every operation leaves it where its layer begins or ends.
        let mut stream = chain::embedded(model, &tokens)?;
        let mut values = Vec::with_capacity(layers * 3);
        for layer in 0..layers {
            cx.progress(layer as u64, layers as u64)?;
            values.push(after(layer + 1, &stream)?);
            let next = chain::layer(model, &tokens, layer, &stream)?;
            values.push(after(layer + 1, &chain::layer(model, &tokens, layer, &next)?)?);
            values.push(if layer + 1 < layers {
                let first = chain::layer(model, &tokens, layer + 1, &stream)?;
                after(layer + 2, &chain::layer(model, &tokens, layer, &first)?)?
            } else {
                f64::NAN
            });
            stream = next;
        }
        let natural = chain::rest(model, &tokens, layers, &stream, measure.wanted())?;

        let rows = Axis::indices("layer", layers);
        let columns = Axis::new("operation", ["delete", "duplicate", "swap with the next"]);
        let change = format!("change of {}", self.metric.label());
        let effects = values.iter().map(|value| value - before).collect();
        let effect = Grid::new("effect of layer surgery", change, rows.clone(), columns.clone(), effects)?.diverging();
        Ok(EachLayer {
            before,
            after: Grid::new("after layer surgery", self.metric.label(), rows, columns, values)?,
            strongest: effect.strongest(STRONGEST),
            effect,
            natural_gap: gap::gap(&natural, plain.logits()?)?,
        })
    }

    fn measured(&self, model: &dyn Model) -> Result<Option<String>> {
        self.metric.described(model).map(Some)
    }
}

register_tools!(SurgeryEach);

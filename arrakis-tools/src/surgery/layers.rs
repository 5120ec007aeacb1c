//! A run through the layers in another order.

use arrakis_core::{
    Answer, Axis, Context, Error, Metric, Model, ModelExt, PosSlice, Prompt, Ranking, Result, Series, Tool, answer,
    loss_by_row, register_tools,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor};

use super::chain;
use crate::{gap, measured};

/// Runs the layers in another order: some replaced, deleted, repeated or moved, for this run only.
///
/// Each layer reads what the one before it in the plan has written, and takes its own weights, window and scale along.
/// The loss is the mean cross entropy of the next token in nats, the divergence that of Kullback and Leibler from the
/// natural prediction at each row's last token, in nats; all are means over the rows. The model itself is untouched.
/// Identity: the layers run one by one in their natural order are the plain run, and `natural_gap` is the greatest
/// absolute difference of the logits.
/// Source: Veit et al., "Residual networks behave like ensembles of relatively shallow networks" (2016); Lad et al.,
/// "The remarkable robustness of LLMs: stages of inference?" (2024).
///
/// ```
/// # use arrakis_core::{Context, Prompt, Tool};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/golden/gpt2");
/// # let model = arrakis_models::load(folder, &arrakis_models::LoadOptions::default())?;
/// use arrakis_tools::{LayerPlan, SurgeryLayers};
/// let asked = SurgeryLayers::new(Prompt::Ids(vec![9, 3, 17, 40]), LayerPlan::Order(vec![0, 1, 1]));
/// let found = asked.run(&Context::new(&model))?;
/// println!("layers {:?}: loss {} -> {}", found.order, found.loss_before, found.loss_after);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SurgeryLayers {
    /// What to read, two tokens in each row at least.
    pub prompt: Prompt,
    /// Which layers are run, in which order.
    pub plan: LayerPlan,
    /// What is measured beside the loss.
    #[serde(default)]
    pub metric: Option<Metric>,
}

/// Which layers are run, in which order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LayerPlan {
    /// These, in this order.
    Order(Vec<usize>),
    /// All but these.
    Delete(Vec<usize>),
    /// All, and each of these a second time after the first.
    Duplicate(Vec<usize>),
    /// All, with two in each other's place.
    Swap([usize; 2]),
    /// All, with the second run in the place of the first.
    Replace([usize; 2]),
    /// All, from the last to the first.
    Reverse,
}

impl LayerPlan {
    /// The layers to run, of `n_layers`.
    fn order(&self, n_layers: usize) -> Result<Vec<usize>> {
        let named: &[usize] = match self {
            Self::Order(list) | Self::Delete(list) | Self::Duplicate(list) => list,
            Self::Swap(pair) | Self::Replace(pair) => pair,
            Self::Reverse => return Ok((0..n_layers).rev().collect()),
        };
        if named.is_empty() {
            return Err(Error::Invalid { what: "plan".into(), why: "it names no layer; give one at least".into() });
        }
        if let Some(layer) = named.iter().find(|layer| **layer >= n_layers) {
            return Err(Error::OutOfRange { what: "layer".into(), index: *layer as i64, len: n_layers as i64 });
        }
        let mut natural: Vec<usize> = (0..n_layers).collect();
        match self {
            Self::Order(list) => natural.clone_from(list),
            Self::Delete(list) => natural.retain(|layer| !list.contains(layer)),
            Self::Duplicate(list) => {
                let times = |layer: &usize| 1 + usize::from(list.contains(layer));
                natural = natural.iter().flat_map(|layer| vec![*layer; times(layer)]).collect();
            }
            Self::Swap([a, b]) => natural.swap(*a, *b),
            Self::Replace([place, with]) => natural[*place] = *with,
            Self::Reverse => {}
        }
        Ok(natural)
    }
}

impl SurgeryLayers {
    /// The loss on `prompt` with the layers run by `plan`.
    pub fn new(prompt: impl Into<Prompt>, plan: LayerPlan) -> Self {
        Self { prompt: prompt.into(), plan, metric: None }
    }
}

/// What a run makes of another order of layers; numbers are means over the rows.
#[derive(Debug, Clone)]
pub struct LayerSurgery {
    /// The layers that were run.
    pub order: Vec<usize>,
    /// The loss in the natural order.
    pub loss_before: f64,
    /// The loss in the order of the plan.
    pub loss_after: f64,
    /// The metric in the natural order and in that of the plan, if one was given.
    pub metric: Option<[f64; 2]>,
    /// Kullback-Leibler divergence of the natural prediction of the next token from that of the plan.
    pub divergence: f64,
    /// The likeliest next tokens after the first row.
    pub top: Ranking,
    /// The length of the stream at each row's last token, after each layer that was run.
    pub norms: Series,
    /// Greatest absolute difference of the logits of the natural order, layer by layer, from the plain run.
    pub natural_gap: f64,
}

impl From<LayerSurgery> for Answer {
    fn from(found: LayerSurgery) -> Self {
        let order: Vec<String> = found.order.iter().map(ToString::to_string).collect();
        let mut answer = Self::new()
            .with("order", order.join(", "))
            .with("loss_before", found.loss_before)
            .with("loss_after", found.loss_after);
        if let Some([before, after]) = found.metric {
            answer = answer.with("metric_before", before).with("metric_after", after);
        }
        answer
            .with("divergence", found.divergence)
            .with("top", found.top)
            .with("norms", found.norms)
            .with("natural_gap", found.natural_gap)
    }
}

/// How many of the likeliest next tokens are listed.
const LIKELIEST: usize = 5;

impl Tool for SurgeryLayers {
    const NAME: &'static str = "surgery.layers";
    type Output = LayerSurgery;

    fn run(&self, cx: &Context<'_>) -> Result<LayerSurgery> {
        let model = cx.model();
        let dims = model.dims();
        let order = self.plan.order(dims.n_layers)?;
        let tokens = self.prompt.tokens(model)?;
        let measure = self.metric.as_ref().map(|metric| metric.prepare(model, &tokens)).transpose()?;
        let plain = model.trace(&tokens).run()?;
        let plain = plain.logits()?;
        let loss_before = mean(&loss_by_row(plain, &tokens)?)?;
        let embedded = chain::embedded(model, &tokens)?;
        let natural = (0..dims.n_layers)
            .try_fold(embedded.shallow_clone(), |stream, layer| chain::layer(model, &tokens, layer, &stream))?;
        let natural = chain::rest(model, &tokens, dims.n_layers, &natural, PosSlice::All)?;
        let natural_gap = gap::gap(&natural, plain)?;

        let last = |value: &Tensor| -> Result<Tensor> { PosSlice::Last.of(value, 1, tokens.mask()) };
        let mut stream = embedded;
        let mut norms = Vec::with_capacity(order.len());
        for (step, layer) in order.iter().enumerate() {
            cx.progress(step as u64, order.len() as u64)?;
            stream = chain::layer(model, &tokens, *layer, &stream)?;
            let square = last(&stream)?.f_to_kind(Kind::Double)?.f_square()?;
            norms.push(mean(&square.f_sum_dim_intlist(-1, false, Kind::Double)?.f_sqrt()?)?);
        }
        let logits = chain::rest(model, &tokens, dims.n_layers, &stream, PosSlice::All)?;
        let metric = measure.map(|measure| {
            let value = |logits: &Tensor| match measure.wanted() {
                PosSlice::All => measured::mean(&measure, logits),
                _ => measured::mean(&measure, &last(logits)?),
            };
            Ok::<_, Error>([value(plain)?, value(&logits)?])
        });
        let predicted = |logits: &Tensor| -> Result<Tensor> {
            Ok(last(logits)?.f_select(1, 0)?.f_to_kind(Kind::Double)?.f_log_softmax(-1, Kind::Double)?)
        };
        let (before, after) = (predicted(plain)?, predicted(&logits)?);
        let divergence = before.f_exp()?.f_mul(&before.f_sub(&after)?)?.f_sum_dim_intlist(-1, false, Kind::Double)?;
        let (likeliest, ids) = after.f_get(0)?.f_exp()?.f_topk(LIKELIEST.min(dims.vocab) as i64, -1, true, true)?;
        let ids: Vec<i64> = Vec::try_from(ids.f_to_device(Device::Cpu)?)?;
        let names = ids.into_iter().map(|id| model.token(id));
        let steps = Axis::new("layer run", order.iter().map(ToString::to_string));
        Ok(LayerSurgery {
            loss_before,
            loss_after: mean(&loss_by_row(&logits, &tokens)?)?,
            metric: metric.transpose()?,
            divergence: mean(&divergence)?,
            top: Ranking::new("likeliest next tokens", "probability", names.zip(answer::numbers(&likeliest)?)),
            norms: Series::new("length of the stream", "norm", steps, [("last token", norms)])?,
            natural_gap,
            order,
        })
    }

    fn measured(&self, model: &dyn Model) -> Result<Option<String>> {
        self.metric.as_ref().map(|metric| metric.described(model)).transpose()
    }
}

fn mean(values: &Tensor) -> Result<f64> {
    Ok(values.f_mean(Kind::Double)?.f_double_value(&[])?)
}

register_tools!(SurgeryLayers);

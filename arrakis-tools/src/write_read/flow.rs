//! How information flows from one token to another through the layers.

use arrakis_core::{
    Answer, Axis, Context, Error, Grid, HookPoint, Metric, Model, ModelExt, PosSlice, Prompt, Result, Series, Site,
    Tokens, Tool, Trace, answer, register_tools,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use crate::{gap, index, lags, reduce};

/// Follows how information flows from one token to another through the layers, by attention.
///
/// Rollout: the heads' mean pattern and the identity, which stands for the residual stream, are mixed and multiplied
/// from layer to layer; an entry says how much of the source is in the target. With a metric also gradient-weighted
/// rollout: `R ← R + E⁺[∇A ⊙ A] R` from the identity, where the gradient is that of the metric with respect to the
/// pattern, and the mean is over heads of what is positive. MLPs count in neither. Patterns made without scores, by the
/// kernels of an involution, are no shares and are refused.
/// Identity: rows of a rollout sum to 1, and `row_gap` is the greatest absolute difference from it.
/// Source: Abnar and Zuidema, "Quantifying attention flow in transformers" (2020); Chefer et al., "Generic
/// attention-model explainability for interpreting bi-modal and encoder-decoder transformers" (2021).
///
/// ```
/// # use arrakis_core::{Context, Prompt, Tool};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/golden/gpt2");
/// # let model = arrakis_models::load(folder, &arrakis_models::LoadOptions::default())?;
/// let asked = arrakis_tools::WriteReadFlow::new(Prompt::Ids(vec![9, 3, 17, 40]), 1);
/// let found = asked.run(&Context::new(&model))?;
/// println!("from token 1 to the last: {:?}", found.rows[0].flow.lines[0].values);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WriteReadFlow {
    /// What to read.
    pub prompt: Prompt,
    /// Position that information comes from.
    pub source: i64,
    /// Position that it goes to; each row's last one if absent.
    #[serde(default)]
    pub target: Option<i64>,
    /// The share of the residual stream in the mixture with attention.
    #[serde(default = "half")]
    pub residual: f64,
    /// What gradients are taken of; without it only the plain rollout is made.
    #[serde(default)]
    pub metric: Option<Metric>,
}

const fn half() -> f64 {
    0.5
}

impl WriteReadFlow {
    /// The rollout from `source` to the last token of `prompt`.
    pub fn new(prompt: impl Into<Prompt>, source: i64) -> Self {
        Self { prompt: prompt.into(), source, target: None, residual: half(), metric: None }
    }
}

/// How information flows, row by row.
#[derive(Debug, Clone)]
pub struct Flow {
    /// The flow in each row of the prompt.
    pub rows: Vec<RowFlow>,
}

/// How information flows in one row.
#[derive(Debug, Clone)]
pub struct RowFlow {
    /// From the source to the target, after each layer.
    pub flow: Series,
    /// From the source to every position, after each layer: `[layer, position]`.
    pub from_source: Grid,
    /// From every position to the target, after each layer: `[layer, position]`.
    pub to_target: Grid,
    /// From every position to every later one, after the last layer: `[target, source]`.
    pub rollout: Grid,
    /// The same by gradients, if there is a metric.
    pub gradient: Option<Gradient>,
    /// Greatest absolute difference of a row of the rollout from 1.
    pub row_gap: f64,
}

/// The gradient-weighted flow in one row.
#[derive(Debug, Clone)]
pub struct Gradient {
    /// From the source to the target, after each layer.
    pub flow: Series,
    /// From every position to every later one, after the last layer: `[target, source]`.
    pub rollout: Grid,
}

impl From<Flow> for Answer {
    fn from(found: Flow) -> Self {
        let count = found.rows.len();
        found.rows.into_iter().enumerate().fold(Self::new(), |answer, (row, found)| {
            let name = |name: &str| index::row_part(row, count, name);
            let mut answer = answer
                .with(name("flow"), found.flow)
                .with(name("from_source"), found.from_source)
                .with(name("to_target"), found.to_target)
                .with(name("rollout"), found.rollout);
            if let Some(gradient) = found.gradient {
                answer =
                    answer.with(name("gradient_flow"), gradient.flow).with(name("gradient_rollout"), gradient.rollout);
            }
            answer.with(name("row_gap"), found.row_gap)
        })
    }
}

impl Tool for WriteReadFlow {
    const NAME: &'static str = "write_read.flow";
    type Output = Flow;

    fn run(&self, cx: &Context<'_>) -> Result<Flow> {
        let model = cx.model();
        if !(0.0..=1.0).contains(&self.residual) {
            let why = "give a number from 0 to 1".into();
            return Err(Error::Invalid { what: format!("residual {}", self.residual), why });
        }
        lags::shares(model, &(0..model.dims().n_layers).collect::<Vec<_>>())?;
        let tokens = self.prompt.tokens(model)?;
        let ends: Vec<[i64; 2]> =
            (0..tokens.batch()).map(|row| self.ends(tokens.row(row)?.len())).collect::<Result<_>>()?;
        let points: Vec<HookPoint> = (0..model.dims().n_layers).map(|layer| Site::PATTERN.at(layer)).collect();
        let (_, kept) = reduce::reduce(model, &tokens, PosSlice::None, &points, |_, pattern| {
            Ok(pattern.f_to_kind(Kind::Double)?.f_mean_dim(1, false, Kind::Double)?)
        })?;
        let attention = points.iter().map(|point| Ok(kept.get(*point)?.shallow_clone())).collect::<Result<Vec<_>>>()?;
        let weighted = self.metric.as_ref().map(|metric| weighted(cx, &tokens, metric, &points)).transpose()?;
        let rows = ends.into_iter().enumerate().map(|(row, ends)| {
            cx.progress(row as u64, tokens.batch() as u64)?;
            self.row(cx, row, &tokens.row(row)?, ends, &attention, weighted.as_deref())
        });
        Ok(Flow { rows: rows.collect::<Result<_>>()? })
    }

    fn measured(&self, model: &dyn Model) -> Result<Option<String>> {
        self.metric.as_ref().map(|metric| metric.described(model)).transpose()
    }
}

impl WriteReadFlow {
    /// Source and target in a row of `len` tokens.
    fn ends(&self, len: usize) -> Result<[i64; 2]> {
        let (source, target) = (index::position(self.source, len)?, index::position(self.target.unwrap_or(-1), len)?);
        if source > target {
            let why = format!("nothing flows to position {target}, which comes before it; give a later target");
            return Err(Error::Invalid { what: format!("source {source}"), why });
        }
        Ok([source, target])
    }

    fn row(
        &self,
        cx: &Context<'_>,
        row: usize,
        ids: &[i64],
        [source, target]: [i64; 2],
        attention: &[Tensor],
        weighted: Option<&[Tensor]>,
    ) -> Result<RowFlow> {
        let len = ids.len() as i64;
        let own = |layer: &Tensor| -> Result<Tensor> {
            Ok(layer.f_get(row as i64)?.f_narrow(0, 0, len)?.f_narrow(1, 0, len)?)
        };
        let identity = Tensor::f_eye(len, (Kind::Double, cx.model().device()))?;
        let product = |steps: Vec<Tensor>| -> Result<Tensor> {
            let mut flow = identity.shallow_clone();
            let mut after = Vec::with_capacity(steps.len());
            for step in steps {
                flow = step.f_matmul(&flow)?;
                after.push(flow.shallow_clone());
            }
            Ok(Tensor::f_stack(&after, 0)?)
        };
        let stream = identity.f_mul_scalar(self.residual)?;
        let mixed =
            |layer: &Tensor| -> Result<Tensor> { Ok(own(layer)?.f_mul_scalar(1.0 - self.residual)?.f_add(&stream)?) };
        let rollout = product(attention.iter().map(mixed).collect::<Result<_>>()?)?;
        let sums = rollout.f_sum_dim_intlist(-1, false, Kind::Double)?;

        let layers = Axis::indices("layer", attention.len());
        let texts: Vec<String> = ids.iter().map(|id| cx.model().token(*id)).collect();
        let axis = |name: &str| Axis::new(name, texts.clone());
        let between = |flow: &Tensor| answer::numbers(&flow.f_select(1, target)?.f_select(1, source)?);
        let by_layer =
            |title: &str, values: &Tensor| Grid::from_tensor(title, "share", layers.clone(), axis("position"), values);
        let whole = |title: &str, value: &str, flow: &Tensor| {
            Grid::from_tensor(title, value, axis("target"), axis("source"), &flow.f_get(-1)?)
        };
        let gradient = weighted.map(|weighted| {
            let step = |layer: &Tensor| -> Result<Tensor> { Ok(own(layer)?.f_add(&identity)?) };
            let flow = product(weighted.iter().map(step).collect::<Result<_>>()?)?;
            let lines = [("gradient-weighted", between(&flow)?)];
            Ok::<_, Error>(Gradient {
                flow: Series::new("gradient-weighted flow to the target", "relevance", layers.clone(), lines)?,
                rollout: whole("gradient-weighted rollout", "relevance", &flow)?,
            })
        });
        Ok(RowFlow {
            flow: Series::new("flow to the target", "share", layers.clone(), [("rollout", between(&rollout)?)])?,
            from_source: by_layer("flow from the source to every position", &rollout.f_select(2, source)?)?,
            to_target: by_layer("flow from every position to the target", &rollout.f_select(1, target)?)?,
            rollout: whole("attention rollout", "share", &rollout)?,
            gradient: gradient.transpose()?,
            row_gap: gap::gap(&sums, &sums.f_ones_like()?)?,
        })
    }
}

/// The mean over heads of the positive part of gradient times pattern, by layer: `[row, query, key]`.
fn weighted(cx: &Context<'_>, tokens: &Tokens, metric: &Metric, points: &[HookPoint]) -> Result<Vec<Tensor>> {
    let model = cx.model();
    let (rows, len) = (tokens.batch(), tokens.positions());
    // Patterns, scores and their gradients are held together.
    let bytes = (4 * points.len() * rows * model.dims().n_heads * len * len * model.kind().elt_size_in_bytes()) as u64;
    if let Some(limit) = cx.memory_limit().filter(|limit| bytes > *limit) {
        return Err(Error::TooMuchMemory { bytes, limit });
    }
    let measure = metric.prepare(model, tokens)?;
    let trace = points.iter().copied().fold(model.trace(tokens).logits(measure.wanted()), Trace::keep);
    // Rows do not see each other, so the gradient of the sum is that of each.
    let run = trace.gradients(|logits| Ok(measure.of(logits)?.f_sum(None::<Kind>)?)).run()?;
    let weight = |point: &HookPoint| {
        let product = run.gradients.get(*point)?.f_mul(run.cache.get(*point)?)?.f_to_kind(Kind::Double)?;
        Ok(product.f_clamp_min(0.0)?.f_mean_dim(1, false, Kind::Double)?)
    };
    points.iter().map(weight).collect()
}

register_tools!(WriteReadFlow);

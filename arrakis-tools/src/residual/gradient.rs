//! Which positions of the residual stream a metric hangs on, by gradients.

use arrakis_core::{
    Answer, Axis, Context, Error, Grid, Measure, Metric, Model, ModelExt, Prompt, Residual, Result, Series, Site,
    Tokens, Tool, answer, register_tools,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use super::path::Path;
use crate::{gap, index};

/// Attributes a metric to the residual stream by its gradient: by layer and position, and along a path from a baseline.
///
/// `gradient_x_activation` is the inner product of the stream before each block (and after the last) with the metric's
/// gradient there. `integrated` sums over the stream's numbers, at each position of the first block's input, the way from
/// the baseline times the mean gradient at the midpoints of `steps` equal pieces of it; the whole of it tends to the
/// metric's change, and `completeness` is the absolute difference from it, which shrinks fourfold as `steps` doubles.
/// Identity: what is added to the stream has the stream's gradient; `gradient_gap` is the greatest absolute difference
/// between the gradients of what attention and MLP write and those of the stream after them.
/// Source: Sundararajan et al., "Axiomatic attribution for deep networks" (2017); Shrikumar et al., "Not just a black
/// box" (2016).
///
/// ```
/// # use arrakis_core::{Context, Metric, Prompt, Tool};
/// # use arrakis_tools::ResidualGradient;
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/golden/llama");
/// # let model = arrakis_models::load(folder, &arrakis_models::LoadOptions::default())?;
/// let asked = ResidualGradient::new(Prompt::Ids(vec![9, 3, 17]), Metric::Logit(4.into()));
/// let found = asked.run(&Context::new(&model))?;
/// assert_eq!(found.rows[0].integrated.axis.len(), 3);
/// assert!(found.rows[0].completeness < 1.0);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ResidualGradient {
    /// What to read.
    pub prompt: Prompt,
    /// What is measured of each row.
    pub metric: Metric,
    /// The prompt whose stream is the baseline, each row as long as in `prompt`; a stream of zeros if absent.
    #[serde(default)]
    pub baseline: Option<Prompt>,
    /// Midpoints of the path from the baseline.
    #[serde(default = "sixteen")]
    pub steps: usize,
}

const fn sixteen() -> usize {
    16
}

impl ResidualGradient {
    /// The gradient of `metric` over `prompt`, and 16 midpoints from a stream of zeros.
    pub fn new(prompt: impl Into<Prompt>, metric: Metric) -> Self {
        Self { prompt: prompt.into(), metric, baseline: None, steps: sixteen() }
    }
}

/// Gradients of a metric, row by row.
#[derive(Debug, Clone)]
pub struct StreamGradients {
    /// One attribution for each row of the prompt.
    pub rows: Vec<RowGradient>,
}

/// A metric of one row attributed to its stream.
#[derive(Debug, Clone)]
pub struct RowGradient {
    /// The metric.
    pub metric: f64,
    /// The metric of the baseline.
    pub baseline_metric: f64,
    /// Gradient times activation: `[layer, position]`, the last row after the last block.
    pub gradient_x_activation: Grid,
    /// Length of the gradient: `[layer, position]`.
    pub gradient_norm: Grid,
    /// Integrated gradients of the first block's input, by position.
    pub integrated: Series,
    /// Absolute difference of the integrated gradients' sum from the change of the metric.
    pub completeness: f64,
    /// Greatest absolute difference, over all rows, of the gradients of what is written from those of the stream.
    pub gradient_gap: f64,
}

impl From<StreamGradients> for Answer {
    fn from(found: StreamGradients) -> Self {
        let count = found.rows.len();
        found.rows.into_iter().enumerate().fold(Self::new(), |answer, (row, found)| {
            let name = |name: &str| index::row_part(row, count, name);
            answer
                .with(name("metric"), found.metric)
                .with(name("baseline_metric"), found.baseline_metric)
                .with(name("gradient_x_activation"), found.gradient_x_activation)
                .with(name("gradient_norm"), found.gradient_norm)
                .with(name("integrated"), found.integrated)
                .with(name("completeness"), found.completeness)
                .with(name("gradient_gap"), found.gradient_gap)
        })
    }
}

impl Tool for ResidualGradient {
    const NAME: &'static str = "residual.gradient";
    type Output = StreamGradients;

    fn run(&self, cx: &Context<'_>) -> Result<StreamGradients> {
        let model = cx.model();
        if self.steps == 0 {
            return Err(Error::Invalid { what: "steps 0".into(), why: "give one midpoint at least".into() });
        }
        if matches!(self.metric, Metric::Rank(_)) {
            let why = "a rank has no gradient; measure the logit or the probability".into();
            return Err(Error::Invalid { what: "metric `rank`".into(), why });
        }
        let tokens = self.prompt.tokens(model)?;
        let measure = self.metric.prepare(model, &tokens)?;
        let here = Gradients::of(model, &tokens, &measure)?;
        let start = self.start(cx, &tokens, &here.stream)?;
        let path = Path::along(cx, &tokens, &measure, &start, &here.stream, self.steps)?;
        let rows = (0..tokens.batch()).map(|row| here.row(cx, &tokens, row, &path, self.metric.label()));
        Ok(StreamGradients { rows: rows.collect::<Result<_>>()? })
    }

    fn measured(&self, model: &dyn Model) -> Result<Option<String>> {
        self.metric.described(model).map(Some)
    }
}

impl ResidualGradient {
    /// The baseline's stream before the first block: `[batch, pos, d_model]`.
    fn start(&self, cx: &Context<'_>, tokens: &Tokens, stream: &Tensor) -> Result<Tensor> {
        let Some(baseline) = &self.baseline else { return Ok(stream.f_zeros_like()?) };
        let other = baseline.tokens(cx.model())?;
        let lengths = |tokens: &Tokens| (0..tokens.batch()).map(|row| Ok(tokens.row(row)?.len())).collect();
        let (wanted, found): (Result<Vec<usize>>, Result<Vec<usize>>) = (lengths(tokens), lengths(&other));
        let (wanted, found) = (wanted?, found?);
        if wanted != found {
            let why = format!("its rows have {found:?} tokens and those of the prompt {wanted:?}");
            return Err(Error::Invalid { what: "baseline".into(), why });
        }
        Ok(cx.model().trace(&other).stop_at(0).run()?.residual)
    }
}

/// The metric of each row and its gradients.
struct Gradients {
    /// The stream before the first block: `[batch, pos, d_model]`.
    stream: Tensor,
    /// The metric of each row: `[batch]`.
    metric: Tensor,
    /// Gradient times activation of the stream: `[place, batch, pos]`.
    products: Tensor,
    /// Length of the gradient: `[place, batch, pos]`.
    norms: Tensor,
    gradient_gap: f64,
}

impl Gradients {
    fn of(model: &dyn Model, tokens: &Tokens, measure: &Measure) -> Result<Self> {
        let dims = model.dims();
        let mut trace = model
            .trace(tokens)
            .logits(measure.wanted())
            .keep(Site::RESID_PRE)
            .keep(Site::ATTN_OUT)
            .keep(Site::MLP_OUT)
            .keep(Site::RESID_POST.at(dims.n_layers - 1));
        if dims.residual == Residual::Serial {
            trace = trace.keep(Site::RESID_MID);
        }
        let mut by_row = None;
        // Rows do not touch each other, so the gradient of the sum is each row's own.
        let run = trace
            .gradients(|logits| {
                let values = measure.of(logits)?;
                by_row = Some(values.f_detach()?);
                Ok(values.f_sum(None::<Kind>)?)
            })
            .run()?;
        let after = |layer: usize| {
            if layer + 1 == dims.n_layers { Site::RESID_POST.at(layer) } else { Site::RESID_PRE.at(layer + 1) }
        };
        let mut gradient_gap = 0.0;
        let (mut products, mut norms) = (Vec::new(), Vec::new());
        for layer in 0..dims.n_layers {
            let attention = if dims.residual == Residual::Serial { Site::RESID_MID.at(layer) } else { after(layer) };
            for (part, stream) in [(Site::ATTN_OUT.at(layer), attention), (Site::MLP_OUT.at(layer), after(layer))] {
                let apart = gap::gap(run.gradients.get(part)?, run.gradients.get(stream)?)?;
                gradient_gap = gap::worse(gradient_gap, apart);
            }
        }
        for point in (0..dims.n_layers).map(|layer| Site::RESID_PRE.at(layer)).chain([after(dims.n_layers - 1)]) {
            let gradient = run.gradients.get(point)?.f_to_kind(Kind::Double)?;
            let product = gradient.f_mul(&run.cache.get(point)?.f_to_kind(Kind::Double)?)?;
            products.push(product.f_sum_dim_intlist(-1, false, Kind::Double)?);
            norms.push(gradient.f_square()?.f_sum_dim_intlist(-1, false, Kind::Double)?.f_sqrt()?);
        }
        Ok(Self {
            stream: run.cache.get(Site::RESID_PRE.at(0))?.shallow_clone(),
            metric: by_row.ok_or(Error::EmptyPrompt)?.f_to_kind(Kind::Double)?,
            products: Tensor::f_stack(&products, 0)?,
            norms: Tensor::f_stack(&norms, 0)?,
            gradient_gap,
        })
    }

    fn row(&self, cx: &Context<'_>, tokens: &Tokens, row: usize, path: &Path, value: &str) -> Result<RowGradient> {
        let ids = tokens.row(row)?;
        let texts = Axis::new("position", ids.iter().map(|id| cx.model().token(*id)).collect::<Vec<_>>());
        let places = self.products.size()[0] as usize;
        let names = (0..places - 1).map(|place| format!("{place}_pre")).chain(["final_post".to_owned()]);
        let names = Axis::new("layer", names.collect::<Vec<_>>());
        let len = ids.len() as i64;
        let grid = |title: &str, value: &str, values: &Tensor| {
            let values = values.f_select(1, row as i64)?.f_narrow(1, 0, len)?;
            Grid::from_tensor(title, value, names.clone(), texts.clone(), &values)
        };
        let integrated = answer::numbers(&path.integrated.f_select(0, row as i64)?.f_narrow(0, 0, len)?)?;
        let (metric, baseline_metric) =
            (answer::numbers(&self.metric)?[row], answer::numbers(&path.baseline_metric)?[row]);
        let completeness = (integrated.iter().sum::<f64>() - (metric - baseline_metric)).abs();
        Ok(RowGradient {
            metric,
            baseline_metric,
            gradient_x_activation: grid("gradient times activation", value, &self.products)?.diverging(),
            gradient_norm: grid("length of the gradient", value, &self.norms)?,
            integrated: Series::new("integrated gradients", value, texts.clone(), [("attribution", integrated)])?,
            completeness,
            gradient_gap: self.gradient_gap,
        })
    }
}

register_tools!(ResidualGradient);

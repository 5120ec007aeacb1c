//! An answer's probability layer by layer, with and without noise.

use arrakis_core::{
    Answer, Axis, Context, HookPoint, ModelExt, PosSlice, Prompt, Result, Series, Site, TokenChoice, Tokens, Tool,
    answer, register_tools,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use super::noise::{Noised, Subject};
use crate::index;

/// Follows the probability of an answer through the layers, with and without noise on the subject.
///
/// After each block the residual stream at the last token is read through the final norm and the unembedding, in the
/// plain run and under noise as in `causal_tracing.trace` (a mean over its draws). Identity: after the last block that is
/// the model's own probability; `output_gap` is the absolute difference.
/// Source: nostalgebraist, "interpreting GPT: the logit lens" (2020); Meng et al., "Locating and editing factual
/// associations in GPT" (2022).
///
/// ```
/// # use arrakis_core::{Context, Prompt, Tool};
/// # use arrakis_tools::{ProbabilityByLayer, Subject};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/golden/llama");
/// # let model = arrakis_models::load(folder, &arrakis_models::LoadOptions::default())?;
/// let asked = ProbabilityByLayer::new(Prompt::Ids(vec![9, 3, 17, 40]), Subject::Positions(vec![1]));
/// assert!(asked.run(&Context::new(&model))?.rows[0].output_gap < 1e-5);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ProbabilityByLayer {
    /// The prompt, whose next token is the answer.
    pub prompt: Prompt,
    /// What noise is put on, in every row.
    pub subject: Subject,
    /// The answer; each row's likeliest next token if absent.
    #[serde(default)]
    pub answer: Option<TokenChoice>,
    /// The noise, in standard deviations of the token embeddings.
    #[serde(default = "three")]
    pub noise: f64,
    /// How many draws of noise.
    #[serde(default = "ten")]
    pub samples: usize,
}

const fn three() -> f64 {
    3.0
}

const fn ten() -> usize {
    10
}

impl ProbabilityByLayer {
    /// The usual noise: three standard deviations, ten draws.
    pub fn new(prompt: impl Into<Prompt>, subject: Subject) -> Self {
        Self { prompt: prompt.into(), subject, answer: None, noise: three(), samples: ten() }
    }
}

/// Probabilities by layer, row by row.
#[derive(Debug, Clone)]
pub struct Probabilities {
    /// One entry for each row.
    pub rows: Vec<RowProbability>,
}

/// The probability of one prompt's answer by layer.
#[derive(Debug, Clone)]
pub struct RowProbability {
    /// The answer.
    pub answer: String,
    /// After each block, without noise and with it.
    pub layers: Series,
    /// Absolute difference of the last number without noise from the model's own probability.
    pub output_gap: f64,
}

impl From<Probabilities> for Answer {
    fn from(found: Probabilities) -> Self {
        let count = found.rows.len();
        found.rows.into_iter().enumerate().fold(Self::new(), |answer, (place, row)| {
            let name = |name: &str| index::row_part(place, count, name);
            answer
                .with(name("answer"), row.answer)
                .with(name("layers"), row.layers)
                .with(name("output_gap"), row.output_gap)
        })
    }
}

impl Tool for ProbabilityByLayer {
    const NAME: &'static str = "causal_tracing.probability";
    type Output = Probabilities;

    fn run(&self, cx: &Context<'_>) -> Result<Probabilities> {
        let tokens = self.prompt.tokens(cx.model())?;
        let row = |row: usize| {
            cx.progress(row as u64, tokens.batch() as u64)?;
            self.row(cx, (&tokens.row(row)?, row))
        };
        Ok(Probabilities { rows: (0..tokens.batch()).map(row).collect::<Result<_>>()? })
    }
}

impl ProbabilityByLayer {
    fn row(&self, cx: &Context<'_>, ids: (&[i64], usize)) -> Result<RowProbability> {
        let model = cx.model();
        let noised = Noised::of(cx, ids, &self.subject, self.answer.as_ref(), (self.noise, self.samples))?;
        let n_layers = model.dims().n_layers;
        let points: Vec<HookPoint> = (0..n_layers).map(|layer| Site::RESID_POST.at(layer)).collect();
        let by_layer = |tokens: &Tokens, noise: bool| -> Result<Vec<f64>> {
            let trace = model.trace(tokens).keep_slice(Site::RESID_POST, PosSlice::Last).logits(PosSlice::None);
            let trace = if noise { trace.edit(Site::EMBED.global(), noised.edit()) } else { trace };
            let run = trace.run()?;
            let streams = points.iter().map(|point| Ok(run.cache.get(*point)?.f_select(1, -1)?));
            let streams = Tensor::f_stack(&streams.collect::<Result<Vec<_>>>()?, 0)?;
            let likely = model.unembed(&streams)?.f_softmax(-1, Kind::Double)?.f_select(2, noised.answer)?;
            answer::numbers(&likely.f_mean_dim(1, false, Kind::Double)?)
        };
        let (clean, corrupted) = (by_layer(&noised.row, false)?, by_layer(&noised.tokens, true)?);
        let output_gap = (clean.last().copied().unwrap_or(f64::NAN) - noised.clean).abs();
        let answer = model.token(noised.answer);
        let lines = [("without noise", clean), ("with noise on the subject", corrupted)];
        let title = format!("probability of `{}` through the layers", answer.trim());
        let layers = Series::new(title, "probability", Axis::indices("layer", n_layers), lines)?;
        Ok(RowProbability { answer, layers, output_gap })
    }
}

register_tools!(ProbabilityByLayer);

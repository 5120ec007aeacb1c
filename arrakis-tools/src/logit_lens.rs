//! Questions about what the residual stream would predict if the model ended early.

use arrakis_core::{
    Answer, Axis, Context, Error, Grid, HookPoint, ModelExt, PosSlice, Prompt, Ranking, Result, Series, Site, Stack,
    TokenChoice, Tokens, Tool, register_tools,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::Tensor;

use crate::index;
use crate::lens_reading::Reading;

/// Reads the residual stream after every block through the final norm and the unembedding.
///
/// At each layer and position the stream is normed with its own scale and unembedded, as if the model ended there; the
/// grid shows the likeliest token, coloured by its probability. Identity: at the last layer the lens is the model's own
/// output, and `logit_gap` is the greatest absolute difference between the two.
/// Source: nostalgebraist, "interpreting GPT: the logit lens" (2020).
///
/// ```
/// # use arrakis_core::{Context, Tool, Prompt};
/// # use arrakis_tools::LogitLens;
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/golden/llama");
/// let model = arrakis_models::load(folder, &arrakis_models::LoadOptions::default())?;
/// let found = LogitLens::new(Prompt::Ids(vec![9, 3, 17])).run(&Context::new(&model))?;
/// assert!(found.rows[0].logit_gap < 1e-4);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LogitLens {
    /// What to read.
    pub prompt: Prompt,
    /// Position whose likeliest tokens and targets are followed through the layers; the last one if absent.
    #[serde(default)]
    pub position: Option<i64>,
    /// Positions that are columns of the grid; all of them if absent.
    #[serde(default)]
    pub positions: Option<Vec<i64>>,
    /// Whether the stream between attention and MLP is read too.
    #[serde(default)]
    pub mid: bool,
    /// How many of the likeliest tokens are given at each layer and position.
    #[serde(default = "five")]
    pub top: usize,
    /// Tokens whose probability and rank are followed through the layers.
    #[serde(default)]
    pub targets: Vec<TokenChoice>,
}

const fn five() -> usize {
    5
}

impl LogitLens {
    /// The lens of `prompt` at every position, with the defaults of everything else.
    pub fn new(prompt: impl Into<Prompt>) -> Self {
        let prompt = prompt.into();
        Self { prompt, position: None, positions: None, mid: false, top: five(), targets: Vec::new() }
    }
}

/// What a logit lens shows, row by row.
#[derive(Debug, Clone)]
pub struct Lens {
    /// One lens for each row of the prompt.
    pub rows: Vec<RowLens>,
}

/// The logit lens of one row.
#[derive(Debug, Clone)]
pub struct RowLens {
    /// Probability of the likeliest token, with the token: `[layer, position]`.
    pub grid: Grid,
    /// Entropy of the prediction, in nats: `[layer, position]`.
    pub entropy: Grid,
    /// The likeliest tokens at the followed position: `[layer, rank]`.
    pub by_layer: Grid,
    /// The likeliest tokens at the followed position after the last layer.
    pub top: Ranking,
    /// Probability of each target at the followed position, by layer.
    pub target_probability: Option<Series>,
    /// How many tokens are likelier than each target at the followed position, by layer.
    pub target_rank: Option<Series>,
    /// Ids of the likeliest tokens: `[layer, position, rank]`.
    pub ids: Stack,
    /// Their probabilities: `[layer, position, rank]`.
    pub probabilities: Stack,
    /// Greatest absolute difference between the last layer's lens and the model's logits.
    pub logit_gap: f64,
}

impl From<Lens> for Answer {
    fn from(lens: Lens) -> Self {
        let count = lens.rows.len();
        lens.rows.into_iter().enumerate().fold(Self::new(), |answer, (row, lens)| {
            let name = |name: &str| index::row_part(row, count, name);
            let mut answer =
                answer.with(name("lens"), lens.grid).with(name("top"), lens.top).with(name("by_layer"), lens.by_layer);
            if let Some(series) = lens.target_probability {
                answer = answer.with(name("target_probability"), series);
            }
            if let Some(series) = lens.target_rank {
                answer = answer.with(name("target_rank"), series);
            }
            answer
                .with(name("entropy"), lens.entropy)
                .with(name("ids"), lens.ids)
                .with(name("probabilities"), lens.probabilities)
                .with(name("logit_gap"), lens.logit_gap)
        })
    }
}

impl Tool for LogitLens {
    const NAME: &'static str = "logit_lens.lens";
    type Output = Lens;

    fn run(&self, cx: &Context<'_>) -> Result<Lens> {
        let model = cx.model();
        let top = index::count("top", self.top, model.dims().vocab)?;
        let targets: Vec<i64> = self.targets.iter().map(|token| token.id(model)).collect::<Result<_>>()?;
        let tokens = self.prompt.tokens(model)?;
        let rows = (0..tokens.batch()).map(|row| {
            cx.progress(row as u64, tokens.batch() as u64)?;
            self.row(cx, &tokens.row(row)?, top, &targets)
        });
        Ok(Lens { rows: rows.collect::<Result<_>>()? })
    }
}

impl LogitLens {
    fn row(&self, cx: &Context<'_>, ids: &[i64], top: usize, targets: &[i64]) -> Result<RowLens> {
        let model = cx.model();
        let followed = index::position(self.position.unwrap_or(-1), ids.len())?;
        let columns: Vec<i64> = match &self.positions {
            None => (0..ids.len() as i64).collect(),
            Some(list) if list.is_empty() => {
                let why = "the list is empty; leave it out for all".into();
                return Err(Error::Invalid { what: "positions".into(), why });
            }
            Some(list) => list.iter().map(|place| index::position(*place, ids.len())).collect::<Result<_>>()?,
        };
        let mut read = columns.clone();
        let place = columns.iter().position(|column| *column == followed).unwrap_or_else(|| {
            read.push(followed);
            columns.len()
        });

        let tokens = Tokens::from_ids(ids)?;
        let mut trace = model.trace(&tokens).keep(Site::RESID_PRE.at(0)).keep(Site::RESID_POST);
        if self.mid {
            trace = trace.keep(Site::RESID_MID);
        }
        let run = trace.logits(PosSlice::At(read.clone())).run()?;
        let at = Tensor::f_from_slice(&read)?.f_to_device(model.device())?;
        let stream: Vec<Tensor> = run
            .cache
            .iter()
            .map(|(_, value)| Ok::<_, Error>(value.f_select(0, 0)?.f_index_select(0, &at)?))
            .collect::<Result<_>>()?;
        let layers: Vec<String> = run.cache.points().iter().map(|point| layer_label(*point)).collect();
        let stream = Tensor::f_stack(&stream, 0)?;
        let reading = Reading::of(cx, &stream, top, targets, &run.logits()?.f_select(0, 0)?)?;
        let texts: Vec<String> = columns.iter().map(|column| model.token(ids[*column as usize])).collect();
        reading.shown(model, &Axis::new("layer", layers), &Axis::new("position", texts), place as i64, targets)
    }
}

/// TransformerLens' name of a place in the residual stream, the first of which is the embedding.
fn layer_label(point: HookPoint) -> String {
    match (point.site, point.layer) {
        (site, Some(layer)) if site == Site::RESID_MID => format!("{layer}_mid"),
        (site, Some(layer)) if site == Site::RESID_POST => format!("{layer}_post"),
        _ => "embed".into(),
    }
}

register_tools!(LogitLens);

//! How chosen tokens rise and fall through the layers, and what moves them.

use arrakis_core::{
    Answer, Axis, Context, Error, Grid, HookPoint, ModelExt, PosSlice, Prompt, Ranking, Residual, Result, Series, Site,
    TokenChoice, Tokens, Tool, answer, register_tools,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use crate::{gap, index};

/// Follows chosen tokens through the layers: logit, probability and rank at each place of the stream, and what moved them.
///
/// At each place (TransformerLens' names: `0_pre`, `0_mid`, …, `final_post`) the stream is read as if the model ended
/// there, with its own scale. What lies between two places, attention or MLP (both in a parallel block), moved a token
/// by the difference of its logits. Identity: the embedding's logit and all movements sum to the model's own;
/// `logit_gap` is the greatest absolute difference.
/// Source: nostalgebraist, "interpreting GPT: the logit lens" (2020); Geva et al., "Transformer feed-forward layers build
/// predictions by promoting concepts in the vocabulary space" (2022).
///
/// ```
/// # use arrakis_core::{Context, Prompt, Tool};
/// # use arrakis_tools::TokenCirculation;
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/golden/llama");
/// # let model = arrakis_models::load(folder, &arrakis_models::LoadOptions::default())?;
/// let asked = TokenCirculation::new(Prompt::Ids(vec![9, 3, 17]), vec![4.into(), 8.into()]);
/// let found = asked.run(&Context::new(&model))?;
/// assert_eq!(found.rows[0].movement.rows.labels[..2], ["0_attn_out", "0_mlp_out"]);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TokenCirculation {
    /// What to read.
    pub prompt: Prompt,
    /// The tokens that are followed.
    pub tokens: Vec<TokenChoice>,
    /// Position that is read; each row's last one if absent.
    #[serde(default)]
    pub position: Option<i64>,
}

impl TokenCirculation {
    /// The way of `tokens` through the layers at the last position of `prompt`.
    pub fn new(prompt: impl Into<Prompt>, tokens: Vec<TokenChoice>) -> Self {
        Self { prompt: prompt.into(), tokens, position: None }
    }
}

/// The way of tokens through the layers, row by row.
#[derive(Debug, Clone)]
pub struct Circulation {
    /// The way in each row of the prompt.
    pub rows: Vec<RowCirculation>,
}

/// The way of tokens through the layers of one row.
#[derive(Debug, Clone)]
pub struct RowCirculation {
    /// The logit of each token, by place.
    pub logits: Series,
    /// The probability of each token, by place.
    pub probability: Series,
    /// How many tokens are likelier than each token, by place.
    pub rank: Series,
    /// By how much each component moved each token's logit: `[component, token]`.
    pub movement: Grid,
    /// The greatest movements of single tokens.
    pub movers: Ranking,
    /// Greatest absolute difference of embedding and movements from the model's logits.
    pub logit_gap: f64,
}

impl From<Circulation> for Answer {
    fn from(found: Circulation) -> Self {
        let count = found.rows.len();
        found.rows.into_iter().enumerate().fold(Self::new(), |answer, (row, found)| {
            let name = |name: &str| index::row_part(row, count, name);
            answer
                .with(name("movement"), found.movement)
                .with(name("movers"), found.movers)
                .with(name("logits"), found.logits)
                .with(name("probability"), found.probability)
                .with(name("rank"), found.rank)
                .with(name("logit_gap"), found.logit_gap)
        })
    }
}

impl Tool for TokenCirculation {
    const NAME: &'static str = "logit_attribution.circulation";
    type Output = Circulation;

    fn run(&self, cx: &Context<'_>) -> Result<Circulation> {
        let model = cx.model();
        if self.tokens.is_empty() {
            return Err(Error::Invalid { what: "tokens".into(), why: "the list is empty; give one at least".into() });
        }
        let targets: Vec<i64> = self.tokens.iter().map(|token| token.id(model)).collect::<Result<_>>()?;
        let tokens = self.prompt.tokens(model)?;
        let rows = (0..tokens.batch()).map(|row| {
            cx.progress(row as u64, tokens.batch() as u64)?;
            self.row(cx, &tokens.row(row)?, &targets)
        });
        Ok(Circulation { rows: rows.collect::<Result<_>>()? })
    }
}

impl TokenCirculation {
    fn row(&self, cx: &Context<'_>, ids: &[i64], targets: &[i64]) -> Result<RowCirculation> {
        let model = cx.model();
        let dims = model.dims();
        let position = index::position(self.position.unwrap_or(-1), ids.len())?;
        let serial = dims.residual == Residual::Serial;
        let mut points: Vec<HookPoint> = Vec::new();
        let (mut places, mut movers) = (Vec::new(), Vec::new());
        for layer in 0..dims.n_layers {
            points.push(Site::RESID_PRE.at(layer));
            places.push(format!("{layer}_pre"));
            if serial {
                points.push(Site::RESID_MID.at(layer));
                places.push(format!("{layer}_mid"));
                movers.extend([format!("{layer}_attn_out"), format!("{layer}_mlp_out")]);
            } else {
                movers.push(format!("{layer}_block"));
            }
        }
        points.push(Site::RESID_POST.at(dims.n_layers - 1));
        places.push("final_post".into());

        let tokens = Tokens::from_ids(ids)?;
        let trace = model.trace(&tokens).logits(PosSlice::At(vec![position]));
        let run = points.iter().fold(trace, |trace, point| trace.keep(*point)).run()?;
        let stream = points.iter().map(|point| Ok(run.cache.get(*point)?.f_select(0, 0)?.f_select(0, position)?));
        let stream = Tensor::f_stack(&stream.collect::<Result<Vec<_>>>()?, 0)?;
        let chosen = Tensor::f_from_slice(targets)?.f_to_device(model.device())?;
        let logits = model.unembed(&stream)?.f_to_kind(Kind::Double)?;
        let own = logits.f_index_select(-1, &chosen)?;
        let likeliness = logits.f_softmax(-1, Kind::Double)?.f_index_select(-1, &chosen)?;
        let ranks = targets.iter().enumerate().map(|(place, _)| {
            let own = own.f_narrow(-1, place as i64, 1)?;
            Ok(logits.f_gt_tensor(&own)?.f_sum_dim_intlist(-1, false, Kind::Double)?)
        });
        let ranks = Tensor::f_stack(&ranks.collect::<Result<Vec<_>>>()?, -1)?;

        let count = places.len() as i64;
        let moved = own.f_narrow(0, 1, count - 1)?.f_sub(&own.f_narrow(0, 0, count - 1)?)?;
        let sum = own.f_select(0, 0)?.f_add(&moved.f_sum_dim_intlist(0, false, Kind::Double)?)?;
        let output = run.logits()?.f_select(0, 0)?.f_select(0, 0)?.f_index_select(0, &chosen)?;
        let names: Vec<String> = targets.iter().map(|id| model.token(*id)).collect();
        let axis = Axis::new("place", places);
        let series = |title: &str, value: &str, values: &Tensor| {
            let line = |(place, name): (usize, &String)| {
                Ok((name.clone(), answer::numbers(&values.f_select(-1, place as i64)?)?))
            };
            let lines = names.iter().enumerate().map(line).collect::<Result<Vec<_>>>()?;
            Series::new(title, value, axis.clone(), lines)
        };
        let columns = Axis::new("token", names.clone());
        let movement =
            Grid::from_tensor("movement of the tokens", "logit", Axis::new("component", movers), columns, &moved)?
                .diverging();
        Ok(RowCirculation {
            logits: series("tokens through the layers", "logit", &own)?,
            probability: series("tokens through the layers", "probability", &likeliness)?,
            rank: series("tokens through the layers", "rank (0 is the likeliest)", &ranks)?,
            movers: movement.strongest(10),
            movement,
            logit_gap: gap::gap(&sum, &output)?,
        })
    }
}

register_tools!(TokenCirculation);

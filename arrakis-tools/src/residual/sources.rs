//! What the stream after each block is made of: what was there before, attention, MLP.

use arrakis_core::{Answer, Axis, Context, Grid, Prompt, Result, Series, Tool, answer, register_tools};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use super::layer_parts::{by_layer, cosine, dot, norm};
use crate::{gap, index};

/// Shows how much of the residual stream after each block came from before it, from its attention and from its MLP.
///
/// Each of the three has a length (in units of the stream), a cosine with the stream after the block, and a share of it:
/// the inner product with the stream over the stream's squared length, so that the three shares sum to 1. Series are
/// means over the row's positions. Identity: the three sum to the stream after the block; `sum_gap` is the greatest
/// absolute difference.
/// Source: Elhage et al., "A mathematical framework for transformer circuits" (2021).
///
/// ```
/// # use arrakis_core::{Context, Prompt, Tool};
/// # use arrakis_tools::ResidualSources;
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/golden/llama");
/// # let model = arrakis_models::load(folder, &arrakis_models::LoadOptions::default())?;
/// let sources = ResidualSources::new(Prompt::Ids(vec![9, 3, 17])).run(&Context::new(&model))?;
/// assert_eq!(sources.rows[0].shares.lines[1].name, "attention");
/// assert!(sources.rows[0].sum_gap < 1e-4);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ResidualSources {
    /// What to read.
    pub prompt: Prompt,
    /// Position that the series are of; means over all positions if absent.
    #[serde(default)]
    pub position: Option<i64>,
}

impl ResidualSources {
    /// The sources of the stream over `prompt`, as means over positions.
    pub fn new(prompt: impl Into<Prompt>) -> Self {
        Self { prompt: prompt.into(), position: None }
    }
}

/// The sources of the stream, row by row.
#[derive(Debug, Clone)]
pub struct Sources {
    /// The sources in each row of the prompt.
    pub rows: Vec<RowSources>,
}

/// The sources of one row's stream.
#[derive(Debug, Clone)]
pub struct RowSources {
    /// Shares of the stream after each block: lines `before`, `attention`, `MLP`.
    pub shares: Series,
    /// Lengths: lines `before`, `attention`, `MLP`, `after`.
    pub norms: Series,
    /// Cosines with the stream after the block: lines `before`, `attention`, `MLP`.
    pub cosines: Series,
    /// Attention's share: `[layer, position]`.
    pub attention_share: Grid,
    /// The MLP's share: `[layer, position]`.
    pub mlp_share: Grid,
    /// Greatest absolute difference of the three's sum from the stream.
    pub sum_gap: f64,
}

impl From<Sources> for Answer {
    fn from(sources: Sources) -> Self {
        let count = sources.rows.len();
        sources.rows.into_iter().enumerate().fold(Self::new(), |answer, (row, found)| {
            let name = |name: &str| index::row_part(row, count, name);
            answer
                .with(name("shares"), found.shares)
                .with(name("norms"), found.norms)
                .with(name("cosines"), found.cosines)
                .with(name("attention_share"), found.attention_share)
                .with(name("mlp_share"), found.mlp_share)
                .with(name("sum_gap"), found.sum_gap)
        })
    }
}

impl Tool for ResidualSources {
    const NAME: &'static str = "residual.sources";
    type Output = Sources;

    fn run(&self, cx: &Context<'_>) -> Result<Sources> {
        let tokens = self.prompt.tokens(cx.model())?;
        let rows = (0..tokens.batch()).map(|row| self.row(cx, &tokens.row(row)?));
        Ok(Sources { rows: rows.collect::<Result<_>>()? })
    }
}

/// Lines of the series, in the order of what is measured.
const LINES: [&str; 4] = ["before", "attention", "MLP", "after"];

impl ResidualSources {
    fn row(&self, cx: &Context<'_>, ids: &[i64]) -> Result<RowSources> {
        let position = self.position.map(|position| index::position(position, ids.len())).transpose()?;
        // Shares of three, cosines of three, lengths of four, and the gap: `[measure, pos]`.
        let measured = by_layer(cx, ids, |parts| {
            let squared = dot(parts.post, parts.post)?;
            let three = [parts.pre, parts.attention, parts.mlp];
            let mut rows = Vec::with_capacity(11);
            for part in three {
                rows.push(dot(part, parts.post)?.f_div(&squared)?);
            }
            for part in three {
                rows.push(cosine(part, parts.post)?);
            }
            for part in three.into_iter().chain([parts.post]) {
                rows.push(norm(part)?);
            }
            let apart = parts.pre.f_add(parts.attention)?.f_add(parts.mlp)?.f_sub(parts.post)?;
            rows.push(apart.f_abs()?.f_amax([-1], false)?);
            Ok(Tensor::f_stack(&rows, 0)?)
        })?;
        let measured = Tensor::f_stack(&measured, 1)?;
        let layers = Axis::indices("layer", measured.size()[1] as usize);
        let texts = Axis::new("position", ids.iter().map(|id| cx.model().token(*id)).collect::<Vec<_>>());
        let series = |title: &str, value: &str, first: i64, count: usize| {
            let lines = LINES[..count].iter().enumerate().map(|(line, name)| {
                let values = measured.f_select(0, first + line as i64)?;
                let values = match position {
                    Some(position) => values.f_select(1, position)?,
                    None => values.f_mean_dim(1, false, Kind::Double)?,
                };
                Ok((*name, answer::numbers(&values)?))
            });
            Series::new(title, value, layers.clone(), lines.collect::<Result<Vec<_>>>()?)
        };
        let grid = |title: &str, place: i64| -> Result<Grid> {
            let values = measured.f_select(0, place)?;
            Ok(Grid::from_tensor(title, "share", layers.clone(), texts.clone(), &values)?.diverging())
        };
        Ok(RowSources {
            shares: series("sources of the stream", "share", 0, 3)?,
            cosines: series("likeness to the stream", "cosine", 3, 3)?,
            norms: series("lengths in the stream", "length", 6, 4)?,
            attention_share: grid("share of attention", 1)?,
            mlp_share: grid("share of the MLP", 2)?,
            sum_gap: gap::greatest(&measured.f_select(0, 10)?)?,
        })
    }
}

register_tools!(ResidualSources);

//! The residual stream in all its parts.

use arrakis_core::{Answer, Axis, Context, Error, Grid, Prompt, Result, Series, Tool, answer, register_tools};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::measured::Measured;
use super::{Split, StreamPlace, direction};
use crate::{Direction, index};

/// Splits the residual stream at a place into what every component wrote to it.
///
/// Components are the embeddings, heads, MLPs or single neurons, and the biases. Of each, at each position: its length
/// (`norms`, in units of the stream), its share (the inner product with the stream over the stream's squared length, so
/// shares sum to 1), and, where a `direction` is given, its projection. Towards a token, parts go through the final norm
/// with the scale held that the whole stream has at the end, so projections are logits. Identity: the parts sum to the
/// stream at that place; `sum_gap` is the greatest absolute difference, `projection_gap` that of the projections.
/// Source: Elhage et al., "A mathematical framework for transformer circuits" (2021).
///
/// ```
/// # use arrakis_core::{Context, Prompt, Tool};
/// # use arrakis_tools::FullDecomposition;
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/golden/llama");
/// # let model = arrakis_models::load(folder, &arrakis_models::LoadOptions::default())?;
/// let parts = FullDecomposition::new(Prompt::Ids(vec![9, 3, 17])).run(&Context::new(&model))?;
/// assert_eq!(parts.rows[0].norms.rows.labels[..2], ["embed", "L0H0"]);
/// assert!(parts.rows[0].sum_gap < 1e-4);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FullDecomposition {
    /// What to read.
    pub prompt: Prompt,
    /// The block before which the stream is split; after the last block if absent.
    #[serde(default)]
    pub layer: Option<usize>,
    /// Whether to split between attention and MLP of that block, in place of before it.
    #[serde(default)]
    pub mid: bool,
    /// Positions to split at; each row's last one if absent.
    #[serde(default)]
    pub positions: Option<Vec<i64>>,
    /// How finely to split.
    #[serde(default)]
    pub by: Split,
    /// What the parts are projected on: a token, `{"answer", "wrong"}`, or a vector; nothing if absent.
    #[serde(default)]
    pub direction: Option<Direction>,
}

impl FullDecomposition {
    /// The split of the last position's stream after the last block, by heads and MLPs.
    pub fn new(prompt: impl Into<Prompt>) -> Self {
        Self { prompt: prompt.into(), layer: None, mid: false, positions: None, by: Split::default(), direction: None }
    }
}

/// A residual stream in parts, row by row.
#[derive(Debug, Clone)]
pub struct ResidualParts {
    /// One split for each row of the prompt.
    pub rows: Vec<RowParts>,
}

/// The residual stream of one row in parts.
#[derive(Debug, Clone)]
pub struct RowParts {
    /// Length of each part: `[component, position]`.
    pub norms: Grid,
    /// Share of the stream that each part makes up: `[component, position]`.
    pub shares: Grid,
    /// What each part projects to: `[component, position]`.
    pub projections: Option<Grid>,
    /// Length of the whole stream at each position.
    pub stream_norm: Series,
    /// Greatest absolute difference of the parts' sum from the stream.
    pub sum_gap: f64,
    /// Greatest absolute difference of the projections' sum from the stream's projection.
    pub projection_gap: Option<f64>,
}

impl From<ResidualParts> for Answer {
    fn from(parts: ResidualParts) -> Self {
        let count = parts.rows.len();
        parts.rows.into_iter().enumerate().fold(Self::new(), |answer, (row, parts)| {
            let name = |name: &str| index::row_part(row, count, name);
            let mut answer = answer.with(name("norms"), parts.norms).with(name("shares"), parts.shares);
            if let Some(projections) = parts.projections {
                answer = answer.with(name("projections"), projections);
            }
            answer = answer.with(name("stream_norm"), parts.stream_norm).with(name("sum_gap"), parts.sum_gap);
            match parts.projection_gap {
                Some(gap) => answer.with(name("projection_gap"), gap),
                None => answer,
            }
        })
    }
}

impl Tool for FullDecomposition {
    const NAME: &'static str = "residual_decomposition.full";
    type Output = ResidualParts;

    fn run(&self, cx: &Context<'_>) -> Result<ResidualParts> {
        let tokens = self.prompt.tokens(cx.model())?;
        let rows = (0..tokens.batch()).map(|row| self.row(cx, &tokens.row(row)?));
        Ok(ResidualParts { rows: rows.collect::<Result<_>>()? })
    }
}

impl FullDecomposition {
    fn row(&self, cx: &Context<'_>, ids: &[i64]) -> Result<RowParts> {
        let place = StreamPlace::asked(self.layer, self.mid)?;
        let positions: Vec<i64> = match &self.positions {
            None => vec![ids.len() as i64 - 1],
            Some(list) if list.is_empty() => {
                let why = "the list is empty; leave it out for the last one".into();
                return Err(Error::Invalid { what: "positions".into(), why });
            }
            Some(list) => list.iter().map(|place| index::position(*place, ids.len())).collect::<Result<_>>()?,
        };
        let texts = positions.iter().map(|position| cx.model().token(ids[*position as usize]));
        let columns = Axis::new("position", texts.collect::<Vec<_>>());
        let found = Measured::of(cx, ids, positions, place, self.by, self.direction.as_ref())?;
        let rows = Axis::new("component", found.labels);
        let grid = |title: &str, value: &str, values: &tch::Tensor| {
            Grid::from_tensor(title, value, rows.clone(), columns.clone(), values)
        };
        let projections = match (&found.projections, &self.direction) {
            (Some(values), Some(direction)) => {
                Some(grid("projections of the parts", direction::label(direction), values)?.diverging())
            }
            _ => None,
        };
        Ok(RowParts {
            norms: grid("lengths of the parts", "length", &found.norms)?,
            shares: grid("shares of the stream", "share", &found.shares)?.diverging(),
            projections,
            stream_norm: Series::new(
                "length of the stream",
                "length",
                columns.clone(),
                [("stream", answer::numbers(&found.stream_norms)?)],
            )?,
            sum_gap: found.sum_gap,
            projection_gap: found.projection_gap,
        })
    }
}

register_tools!(FullDecomposition);

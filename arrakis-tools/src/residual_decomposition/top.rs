//! The greatest parts of the residual stream.

use arrakis_core::{Answer, Context, Error, Prompt, Ranking, Result, Tool, answer, register_tools};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::measured::Measured;
use super::{Split, StreamPlace, direction};
use crate::{Direction, gap, index};

/// Ranks the components that wrote most of the residual stream at one position.
///
/// They are ranked by the absolute value of their length, of their share of the stream (shares sum to 1), or of their
/// projection on a `direction`; a projection towards a token is a part of its logit. Identity: all parts sum to the
/// stream, and `sum_gap` is the greatest absolute difference, in length or in projection.
/// Source: Elhage et al., "A mathematical framework for transformer circuits" (2021).
///
/// ```
/// # use arrakis_core::{Context, Prompt, Tool};
/// # use arrakis_tools::{Split, TopComponents};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/golden/llama");
/// # let model = arrakis_models::load(folder, &arrakis_models::LoadOptions::default())?;
/// let mut asked = TopComponents::new(Prompt::Ids(vec![9, 3, 17]));
/// (asked.split, asked.top) = (Split::Neurons, 5);
/// let found = asked.run(&Context::new(&model))?;
/// assert_eq!(found.rows[0].top.entries.len(), 5);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TopComponents {
    /// What to read.
    pub prompt: Prompt,
    /// The block before which the stream is split; after the last block if absent.
    #[serde(default)]
    pub layer: Option<usize>,
    /// Whether to split between attention and MLP of that block, in place of before it.
    #[serde(default)]
    pub mid: bool,
    /// Position to split at; each row's last one if absent.
    #[serde(default)]
    pub position: Option<i64>,
    /// How finely to split.
    #[serde(default)]
    pub split: Split,
    /// What components are ranked by; their projection if there is a direction, else their length, where absent.
    #[serde(default)]
    pub by: Option<TopBy>,
    /// What the parts are projected on: a token, `{"answer", "wrong"}`, or a vector; nothing if absent.
    #[serde(default)]
    pub direction: Option<Direction>,
    /// How many components are ranked.
    #[serde(default = "ten")]
    pub top: usize,
}

/// What components are ranked by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TopBy {
    /// Their length.
    Norm,
    /// Their share of the stream.
    Share,
    /// Their projection on the direction.
    Projection,
}

const fn ten() -> usize {
    10
}

impl TopComponents {
    /// The ten longest parts of the last position's stream after the last block, by heads and MLPs.
    pub fn new(prompt: impl Into<Prompt>) -> Self {
        let (prompt, split) = (prompt.into(), Split::default());
        Self { prompt, layer: None, mid: false, position: None, split, by: None, direction: None, top: ten() }
    }
}

/// The greatest parts, row by row.
#[derive(Debug, Clone)]
pub struct TopParts {
    /// One ranking for each row of the prompt.
    pub rows: Vec<RowTopParts>,
}

/// The greatest parts of one row's stream.
#[derive(Debug, Clone)]
pub struct RowTopParts {
    /// The components with the greatest absolute numbers, greatest first.
    pub top: Ranking,
    /// The sum of what is ranked.
    pub sum_of_top: f64,
    /// The sum over all components.
    pub sum_of_all: f64,
    /// How many components there are.
    pub count: usize,
    /// Greatest absolute difference of the parts' sum from the stream, or of the projections' sum from its projection.
    pub sum_gap: f64,
}

impl From<TopParts> for Answer {
    fn from(parts: TopParts) -> Self {
        let count = parts.rows.len();
        parts.rows.into_iter().enumerate().fold(Self::new(), |answer, (row, parts)| {
            let name = |name: &str| index::row_part(row, count, name);
            answer
                .with(name("top"), parts.top)
                .with(name("sum_of_top"), parts.sum_of_top)
                .with(name("sum_of_all"), parts.sum_of_all)
                .with(name("count"), parts.count as f64)
                .with(name("sum_gap"), parts.sum_gap)
        })
    }
}

impl Tool for TopComponents {
    const NAME: &'static str = "residual_decomposition.top";
    type Output = TopParts;

    fn run(&self, cx: &Context<'_>) -> Result<TopParts> {
        if self.top == 0 {
            return Err(Error::Invalid { what: "top 0".into(), why: "give one at least".into() });
        }
        let tokens = self.prompt.tokens(cx.model())?;
        let rows = (0..tokens.batch()).map(|row| self.row(cx, &tokens.row(row)?));
        Ok(TopParts { rows: rows.collect::<Result<_>>()? })
    }
}

impl TopComponents {
    fn row(&self, cx: &Context<'_>, ids: &[i64]) -> Result<RowTopParts> {
        let place = StreamPlace::asked(self.layer, self.mid)?;
        let position = index::position(self.position.unwrap_or(-1), ids.len())?;
        let found = Measured::of(cx, ids, vec![position], place, self.split, self.direction.as_ref())?;
        let by = self.by.unwrap_or(if self.direction.is_some() { TopBy::Projection } else { TopBy::Norm });
        let (values, value) = match (by, &found.projections, &self.direction) {
            (TopBy::Norm, ..) => (&found.norms, "length"),
            (TopBy::Share, ..) => (&found.shares, "share of the stream"),
            (TopBy::Projection, Some(values), Some(direction)) => (values, direction::label(direction)),
            (TopBy::Projection, ..) => {
                let why = "there is nothing to project on; give a `direction`".into();
                return Err(Error::Invalid { what: "`by` `projection`".into(), why });
            }
        };
        let mut entries: Vec<(String, f64)> = found.labels.into_iter().zip(answer::numbers(values)?).collect();
        let (count, sum_of_all) = (entries.len(), entries.iter().map(|entry| entry.1).sum());
        // NaN is greater than anything here, so that it is seen.
        entries.sort_by(|a, b| b.1.abs().total_cmp(&a.1.abs()));
        entries.truncate(self.top);
        let sum_of_top = entries.iter().map(|entry| entry.1).sum();
        let sum_gap = gap::worse(found.sum_gap, found.projection_gap.unwrap_or_default());
        Ok(RowTopParts { top: Ranking::new("greatest parts", value, entries), sum_of_top, sum_of_all, count, sum_gap })
    }
}

register_tools!(TopComponents);

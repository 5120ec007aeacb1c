//! How far and in which direction each block moves the stream.

use arrakis_core::{Answer, Axis, Context, Grid, Prompt, Result, Series, Tool, answer, register_tools};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::cell::RefCell;

use tch::{Kind, Tensor};

use super::layer_parts::{by_layer, cosine, norm};
use crate::{gap, index};

/// Measures how each block moves the residual stream: how far, along the stream or across it, and by which angle.
///
/// The update is what attention and MLP of a block write together. Given are its length, its length over that of the
/// stream it is added to, its cosine with that stream, and the angle in degrees between the stream before and after;
/// one minus the cosine of that angle is ShortGPT's block influence. `straightness` is the length of the whole way over
/// the sum of the updates' lengths: 1 where the stream always goes the same way. Series are means over the positions.
/// Identity: the embedding and all updates sum to the final stream; `path_gap` is the greatest absolute difference.
/// Source: Men et al., "ShortGPT: layers in large language models are more redundant than you expect" (2024).
///
/// ```
/// # use arrakis_core::{Context, Prompt, Tool};
/// # use arrakis_tools::ResidualMovement;
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/golden/llama");
/// # let model = arrakis_models::load(folder, &arrakis_models::LoadOptions::default())?;
/// let movement = ResidualMovement::new(Prompt::Ids(vec![9, 3, 17])).run(&Context::new(&model))?;
/// assert!(movement.rows[0].straightness <= 1.0);
/// assert!(movement.rows[0].path_gap < 1e-4);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ResidualMovement {
    /// What to read.
    pub prompt: Prompt,
    /// Position that the series are of; means over all positions if absent.
    #[serde(default)]
    pub position: Option<i64>,
}

impl ResidualMovement {
    /// The movement of the stream over `prompt`, as means over positions.
    pub fn new(prompt: impl Into<Prompt>) -> Self {
        Self { prompt: prompt.into(), position: None }
    }
}

/// The movement of the stream, row by row.
#[derive(Debug, Clone)]
pub struct Movement {
    /// The movement in each row of the prompt.
    pub rows: Vec<RowMovement>,
}

/// The movement of one row's stream.
#[derive(Debug, Clone)]
pub struct RowMovement {
    /// Lengths by layer: lines `update`, `stream before`, and `update / stream before`.
    pub lengths: Series,
    /// By layer: lines `update and stream before`, `stream before and after`.
    pub cosines: Series,
    /// One minus the cosine between the stream before and after each block.
    pub influence: Series,
    /// Angle between the stream before and after each block, in degrees: `[layer, position]`.
    pub angle: Grid,
    /// Length of the update: `[layer, position]`.
    pub update: Grid,
    /// Length of the whole way over the sum of the updates' lengths.
    pub straightness: f64,
    /// Greatest absolute difference of embedding and updates from the final stream.
    pub path_gap: f64,
}

impl From<Movement> for Answer {
    fn from(movement: Movement) -> Self {
        let count = movement.rows.len();
        movement.rows.into_iter().enumerate().fold(Self::new(), |answer, (row, found)| {
            let name = |name: &str| index::row_part(row, count, name);
            answer
                .with(name("angle"), found.angle)
                .with(name("update"), found.update)
                .with(name("influence"), found.influence)
                .with(name("lengths"), found.lengths)
                .with(name("cosines"), found.cosines)
                .with(name("straightness"), found.straightness)
                .with(name("path_gap"), found.path_gap)
        })
    }
}

impl Tool for ResidualMovement {
    const NAME: &'static str = "residual.movement";
    type Output = Movement;

    fn run(&self, cx: &Context<'_>) -> Result<Movement> {
        let tokens = self.prompt.tokens(cx.model())?;
        let rows = (0..tokens.batch()).map(|row| self.row(cx, &tokens.row(row)?));
        Ok(Movement { rows: rows.collect::<Result<_>>()? })
    }
}

impl ResidualMovement {
    fn row(&self, cx: &Context<'_>, ids: &[i64]) -> Result<RowMovement> {
        let position = self.position.map(|position| index::position(position, ids.len())).transpose()?;
        // The sum of the updates so far, and the stream that they were added to first.
        let way = RefCell::new(None::<(Tensor, Tensor)>);
        let last = RefCell::new(Tensor::new());
        let measured = by_layer(cx, ids, |parts| {
            let update = parts.attention.f_add(parts.mlp)?;
            let (before, turned) = (norm(parts.pre)?, cosine(parts.pre, parts.post)?);
            let length = norm(&update)?;
            let angle = turned.f_acos()?.f_rad2deg()?;
            let rows =
                [length.shallow_clone(), length.f_div(&before)?, before, cosine(&update, parts.pre)?, turned, angle];
            let mut way = way.borrow_mut();
            *way = Some(match way.take() {
                Some((start, sum)) => (start, sum.f_add(&update)?),
                None => (parts.pre.shallow_clone(), update),
            });
            *last.borrow_mut() = parts.post.shallow_clone();
            Ok(Tensor::f_stack(&rows, 0)?)
        })?;
        let measured = Tensor::f_stack(&measured, 1)?;
        let at = |values: &Tensor| -> Result<Vec<f64>> {
            answer::numbers(&match position {
                Some(position) => values.f_select(-1, position)?,
                None => values.f_mean_dim(-1, false, Kind::Double)?,
            })
        };
        let (whole, path_gap) = match way.into_inner() {
            Some((start, sum)) => (norm(&sum)?, gap::gap(&start.f_add(&sum)?, &last.into_inner())?),
            None => (Tensor::f_zeros([ids.len() as i64], (Kind::Double, measured.device()))?, 0.0),
        };
        let travelled = measured.f_select(0, 0)?.f_sum_dim_intlist(0, false, Kind::Double)?;
        let straightness = at(&whole.f_div(&travelled)?)?[0];

        let layers = Axis::indices("layer", measured.size()[1] as usize);
        let texts = Axis::new("position", ids.iter().map(|id| cx.model().token(*id)).collect::<Vec<_>>());
        let line = |place: i64| -> Result<Vec<f64>> { at(&measured.f_select(0, place)?) };
        let grid = |title: &str, value: &str, place: i64| {
            Grid::from_tensor(title, value, layers.clone(), texts.clone(), &measured.f_select(0, place)?)
        };
        let turned = line(4)?;
        let influence = turned.iter().map(|cosine| 1.0 - cosine).collect();
        Ok(RowMovement {
            lengths: Series::new(
                "lengths in the stream",
                "length",
                layers.clone(),
                [("update", line(0)?), ("update / stream before", line(1)?), ("stream before", line(2)?)],
            )?,
            cosines: Series::new(
                "directions in the stream",
                "cosine",
                layers.clone(),
                [("update and stream before", line(3)?), ("stream before and after", turned)],
            )?,
            influence: Series::new("block influence", "1 - cosine", layers.clone(), [("influence", influence)])?,
            angle: grid("turn of the stream", "degrees", 5)?,
            update: grid("length of the update", "length", 0)?,
            straightness,
            path_gap,
        })
    }
}

register_tools!(ResidualMovement);

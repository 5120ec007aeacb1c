//! The question which tokens lie along the directions that a head relates.

use arrakis_core::{
    Answer, Axis, Context, Grid, Model, Result, Series, TokenChoice, Tool, Weight, answer, register_tools,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor};

use super::{decomposed, queries_and_keys};
use crate::circuit::{embedded, unembedded};
use crate::columns::columns;
use crate::{Circuit, FactoredMatrix, HeadPlace, Svd, gap, index, lags};

/// Shows which tokens lie furthest along the singular directions of a head's circuit, on its left and on its right.
///
/// The circuit is `Σ s u vᵀ`; a token's projection on the left is its embedding times `u`, on the right its embedding
/// times `v` (QK) or `v` times its unembedding (OV). The tokens at the `+` ends of a direction relate to each other
/// positively, and so do those at the `-` ends: as queries and keys, or as what is read and what is promoted.
/// Projections are of the embeddings as they are: positions, norms and rotations are no part of them. Where scores
/// compare queries and keys of earlier positions too, a head has a QK circuit for each pair of `lags`.
/// Identity: over all directions, `s` times the projections sums to the circuit from token to token; `form_gap` is the
/// greatest absolute difference of the two for all pairs of the given tokens, or of those listed where none are given.
/// Source: Millidge and Black, "The singular value decompositions of transformer weight matrices are highly
/// interpretable" (2022).
///
/// ```
/// # use arrakis_core::{Context, Tool};
/// # use arrakis_tools::{HeadPlace, RelationTokens};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/golden/llama");
/// let model = arrakis_models::load(folder, &arrakis_models::LoadOptions::default())?;
/// let found = RelationTokens::new(HeadPlace::new(1, 2)).run(&Context::new(&model))?;
/// assert_eq!(found.left.rows.labels[..2], ["1+", "1-"]);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RelationTokens {
    /// The head's layer.
    pub layer: usize,
    /// The query head.
    pub head: usize,
    /// The circuit that is decomposed.
    #[serde(default = "queries_and_keys")]
    pub circuit: Circuit,
    /// Lags of query and key, wanted for a QK circuit where scores compare those of earlier positions too: how far before
    /// the attending position the query's token lies, and how far before the position attended to the key's.
    #[serde(default)]
    pub lags: Option<[usize; 2]>,
    /// How many directions are shown.
    #[serde(default = "five")]
    pub directions: usize,
    /// How many tokens are listed at each end of a direction.
    #[serde(default = "five")]
    pub top: usize,
    /// Tokens whose projections are given.
    #[serde(default)]
    pub tokens: Vec<TokenChoice>,
}

const fn five() -> usize {
    5
}

impl RelationTokens {
    /// The tokens along the first directions of a head's QK circuit.
    #[must_use]
    pub const fn new(place: HeadPlace) -> Self {
        let HeadPlace { layer, head } = place;
        Self {
            layer,
            head,
            circuit: queries_and_keys(),
            lags: None,
            directions: five(),
            top: five(),
            tokens: Vec::new(),
        }
    }
}

/// Tokens along the directions of a head.
#[derive(Debug, Clone)]
pub struct TokenDirections {
    /// Singular values of the directions shown.
    pub singular_values: Series,
    /// The tokens furthest along each left direction, at both ends, with their texts: `[end, place]`.
    pub left: Grid,
    /// The tokens furthest along each right direction, at both ends, with their texts: `[end, place]`.
    pub right: Grid,
    /// The given tokens' projections on the left directions: `[token, direction]`.
    pub given_left: Option<Grid>,
    /// The given tokens' projections on the right directions: `[token, direction]`.
    pub given_right: Option<Grid>,
    /// Greatest absolute difference of the sum over directions from the circuit, from token to token.
    pub form_gap: f64,
}

impl From<TokenDirections> for Answer {
    fn from(found: TokenDirections) -> Self {
        let answer = Self::new().with("left", found.left).with("right", found.right);
        let given = [("given_left", found.given_left), ("given_right", found.given_right)];
        let answer = given.into_iter().fold(answer, |answer, (name, grid)| match grid {
            Some(grid) => answer.with(name, grid),
            None => answer,
        });
        answer.with("singular_values", found.singular_values).with("form_gap", found.form_gap)
    }
}

impl Tool for RelationTokens {
    const NAME: &'static str = "relations.tokens";
    type Output = TokenDirections;

    fn run(&self, cx: &Context<'_>) -> Result<TokenDirections> {
        let model = cx.model();
        let dims = model.dims();
        let place = HeadPlace::new(self.layer, self.head);
        let circuit = self.circuit.of_head(model, place, self.lags)?;
        let directions = index::count("directions", self.directions, dims.d_head.min(dims.d_model))?;
        let top = index::count("top", self.top, dims.vocab)? as i64;
        let given: Vec<i64> = self.tokens.iter().map(|token| token.id(model)).collect::<Result<_>>()?;
        cx.progress(0, 1)?;

        let svd = decomposed(&circuit)?;
        let count = directions as i64;
        let (u, v) = (svd.u.f_narrow(1, 0, count)?, svd.v.f_narrow(1, 0, count)?);
        let left = embedded(model, &u)?.f_transpose(0, 1)?;
        let right = match self.circuit {
            Circuit::Qk => embedded(model, &v)?.f_transpose(0, 1)?,
            Circuit::Ov => unembedded(model, &v.f_transpose(0, 1)?)?,
        };
        let name = format!("{} of {}{}", self.circuit.name(), place.label(), lags::suffix(self.lags));
        let (left_ends, mut listed) = ends(model, &left, top, format!("left directions of {name}"))?;
        let (right_ends, more) = ends(model, &right, top, format!("right directions of {name}"))?;
        listed.extend(more);

        let ranks = Axis::new("direction", (1..=directions).map(|rank| rank.to_string()));
        let projected = |side: &str, values: &Tensor| -> Result<Option<Grid>> {
            if given.is_empty() {
                return Ok(None);
            }
            let places = Tensor::f_from_slice(&given)?.f_to_device(model.device())?;
            let values = values.f_index_select(1, &places)?.f_transpose(0, 1)?;
            let rows = Axis::new("token", given.iter().map(|id| model.token(*id)));
            let title = format!("projections on the {side} directions of {name}");
            Ok(Some(Grid::from_tensor(title, "projection", rows, ranks.clone(), &values)?.diverging()))
        };
        let (given_left, given_right) = (projected("left", &left)?, projected("right", &right)?);
        let asked = if given.is_empty() { &listed } else { &given };
        let values = answer::numbers(&svd.singular_values.f_narrow(0, 0, count)?)?;
        Ok(TokenDirections {
            singular_values: Series::new(
                format!("singular values of {name}"),
                "singular value",
                ranks.clone(),
                [(self.circuit.name(), values)],
            )?,
            left: left_ends,
            right: right_ends,
            given_left,
            given_right,
            form_gap: self.form_gap(model, &svd, asked, &circuit)?,
        })
    }
}

impl RelationTokens {
    /// How far the sum over all directions is from the circuit, for all pairs of some tokens.
    fn form_gap(&self, model: &dyn Model, svd: &Svd, ids: &[i64], circuit: &FactoredMatrix) -> Result<f64> {
        let (rows, columns) = ends_of_form(model, self.circuit, ids, ids)?;
        let directions = rows.f_matmul(&svd.u)?.f_mul(&svd.singular_values)?;
        let sum = directions.f_matmul(&svd.v.f_transpose(0, 1)?.f_matmul(&columns)?)?;
        gap::gap(&sum, &circuit.left_matmul(&rows)?.matmul(&columns)?.dense()?)
    }
}

/// What a circuit's form is taken of, in double: embeddings (`[left, d_model]`), and embeddings or unembeddings
/// (`[d_model, right]`).
pub(super) fn ends_of_form(
    model: &dyn Model,
    circuit: Circuit,
    left: &[i64],
    right: &[i64],
) -> Result<(Tensor, Tensor)> {
    let places = |ids: &[i64]| Tensor::f_from_slice(ids)?.f_to_device(model.device());
    let embedding = model.weight(Weight::E.global())?;
    let rows = |ids: &[i64]| embedding.f_index_select(0, &places(ids)?)?.f_to_kind(Kind::Double);
    let right = match circuit {
        Circuit::Qk => rows(right)?.f_transpose(0, 1)?,
        Circuit::Ov => columns(&model.weight(Weight::U.global())?, &places(right)?)?,
    };
    Ok((rows(left)?, right))
}

/// The tokens at both ends of each direction, from their projections (`[direction, vocab]`), and the ids of all listed.
fn ends(model: &dyn Model, projections: &Tensor, top: i64, title: String) -> Result<(Grid, Vec<i64>)> {
    let (most, most_ids) = projections.f_topk(top, 1, true, true)?;
    let (least, least_ids) = projections.f_topk(top, 1, false, true)?;
    let values = Tensor::f_stack(&[most, least], 1)?.f_flatten(0, 1)?;
    let ids = Tensor::f_stack(&[most_ids, least_ids], 1)?.f_to_device(Device::Cpu)?;
    let mut ids: Vec<i64> = Vec::try_from(ids.f_reshape([-1])?)?;
    let cells = ids.iter().map(|id| model.token(*id)).collect();
    let ends = (1..=projections.size()[0]).flat_map(|direction| [format!("{direction}+"), format!("{direction}-")]);
    let (rows, columns) = (Axis::new("direction", ends), Axis::new("place", (1..=top).map(|place| place.to_string())));
    let grid = Grid::from_tensor(title, "projection", rows, columns, &values)?.with_cells(cells)?.diverging();
    ids.sort_unstable();
    ids.dedup();
    Ok((grid, ids))
}

register_tools!(RelationTokens);

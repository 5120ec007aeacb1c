//! The question along which directions a head relates what it reads.

use arrakis_core::{Answer, Axis, Context, Grid, Result, Stack, Tool, register_tools};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use super::{decomposed, queries_and_keys};
use crate::{Circuit, FactoredMatrix, Svd, gap, index, lags};

/// Finds the directions that a head's circuit relates to each other most, by its singular values.
///
/// With the decomposition `W_Q W_Kᵀ = Σ s u vᵀ` a query along `u` scores a key along `v` by `s`; for OV, `W_V W_O = Σ s u
/// vᵀ` moves what lies along `u` to `v`. The leading directions span the subspaces that the head relates. How many it
/// uses is its effective rank, the exponential of the entropy of its singular values over their sum. Directions are unit
/// vectors of the residual stream (`[d_model]`); each pair may be turned over together, and here the greatest entry of
/// each left one is positive. Norms and rotations are no part of a circuit: fold the norms first where their weights
/// matter. Where scores compare queries and keys of earlier positions too, a head has a QK circuit for each pair of
/// `lags`: one matrix, times the entry of its lag matrix.
/// Identities: `norm_gap` is the greatest absolute difference, over the heads, of the root of the summed squares of the
/// singular values from the circuit's norm, and `direction_gap` that of `W v` from `s u`, over the directions given.
/// Source: Millidge and Black, "The singular value decompositions of transformer weight matrices are highly
/// interpretable" (2022); Roy and Vetterli, "The effective rank" (2007).
///
/// ```
/// # use arrakis_core::{Context, Tool};
/// # use arrakis_tools::RelationSubspaces;
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/golden/llama");
/// let model = arrakis_models::load(folder, &arrakis_models::LoadOptions::default())?;
/// let found = RelationSubspaces::default().run(&Context::new(&model))?;
/// assert_eq!(found.left.values.size(), [2, 4, 5, 24]);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RelationSubspaces {
    /// The circuit that is decomposed.
    #[serde(default = "queries_and_keys")]
    pub circuit: Circuit,
    /// Lags of query and key, wanted for a QK circuit where scores compare those of earlier positions too: how far before
    /// the attending position the query's token lies, and how far before the position attended to the key's.
    #[serde(default)]
    pub lags: Option<[usize; 2]>,
    /// Layers to look at; all of them if absent.
    #[serde(default)]
    pub layers: Option<Vec<usize>>,
    /// Query heads to look at in each layer; all of them if absent.
    #[serde(default)]
    pub heads: Option<Vec<usize>>,
    /// How many directions are given of each head.
    #[serde(default = "five")]
    pub top: usize,
}

const fn five() -> usize {
    5
}

impl Default for RelationSubspaces {
    fn default() -> Self {
        Self { circuit: queries_and_keys(), lags: None, layers: None, heads: None, top: five() }
    }
}

/// The directions that heads relate.
#[derive(Debug, Clone)]
pub struct Subspaces {
    /// How many directions a head uses: `[layer, head]`.
    pub effective_rank: Grid,
    /// Singular values, greatest first: `[head, rank]`.
    pub singular_values: Grid,
    /// The share of the squared norm in the directions up to a rank: `[head, rank]`.
    pub share: Grid,
    /// Directions on the left, of queries or of what is read: `[layer, head, rank, d_model]`.
    pub left: Stack,
    /// Directions on the right, of keys or of what is written: `[layer, head, rank, d_model]`.
    pub right: Stack,
    /// Greatest absolute difference of a norm from that of the singular values.
    pub norm_gap: f64,
    /// Greatest absolute difference of a circuit's action on a right direction from the left one times its value.
    pub direction_gap: f64,
}

impl From<Subspaces> for Answer {
    fn from(found: Subspaces) -> Self {
        Self::new()
            .with("effective_rank", found.effective_rank)
            .with("singular_values", found.singular_values)
            .with("share", found.share)
            .with("left", found.left)
            .with("right", found.right)
            .with("norm_gap", found.norm_gap)
            .with("direction_gap", found.direction_gap)
    }
}

impl Tool for RelationSubspaces {
    const NAME: &'static str = "relations.subspaces";
    type Output = Subspaces;

    fn run(&self, cx: &Context<'_>) -> Result<Subspaces> {
        let model = cx.model();
        let dims = model.dims();
        let layers = index::chosen("layer", self.layers.as_deref(), dims.n_layers)?;
        let heads = index::chosen("head", self.heads.as_deref(), dims.n_heads)?;
        let top = index::count("top", self.top, dims.d_head.min(dims.d_model))? as i64;
        let places: Vec<i64> = heads.iter().map(|head| *head as i64).collect();
        let places = Tensor::f_from_slice(&places)?.f_to_device(model.device())?;
        let (mut values, mut lefts, mut rights) = (Vec::new(), Vec::new(), Vec::new());
        let (mut norm_gap, mut direction_gap) = (0.0, 0.0);
        for (done, layer) in layers.iter().enumerate() {
            cx.progress(done as u64, layers.len() as u64)?;
            let (a, b) = self.circuit.of_layer(model, *layer, self.lags)?.into_factors();
            let circuits = FactoredMatrix::new(a.f_index_select(0, &places)?, b.f_index_select(0, &places)?)?;
            let Svd { u, singular_values, v } = decomposed(&circuits)?;
            let squares = singular_values.f_square()?.f_sum_dim_intlist(-1, false, Kind::Double)?;
            norm_gap = gap::worse(norm_gap, gap::gap(&squares.f_sqrt()?, &circuits.norm()?)?);
            let (u, v) = (u.f_narrow(-1, 0, top)?, v.f_narrow(-1, 0, top)?);
            let scaled = u.f_mul(&singular_values.f_narrow(-1, 0, top)?.f_unsqueeze(-2)?)?;
            let moved = circuits.matmul(&v)?.dense()?;
            direction_gap = gap::worse(direction_gap, gap::gap(&moved, &scaled)?);
            values.push(singular_values);
            lefts.push(u.f_transpose(-2, -1)?);
            rights.push(v.f_transpose(-2, -1)?);
        }

        let values = Tensor::f_stack(&values, 0)?;
        let (count, ranks) = ((layers.len() * heads.len()) as i64, values.size()[2]);
        let squares = values.f_square()?;
        let share = squares.f_cumsum(-1, Kind::Double)?.f_div(&squares.f_sum_dim_intlist(-1, true, Kind::Double)?)?;
        let weights = values.f_div(&values.f_sum_dim_intlist(-1, true, Kind::Double)?)?;
        let effective_rank = weights.f_special_entr()?.f_sum_dim_intlist(-1, false, Kind::Double)?.f_exp()?;

        let (layer_axis, head_axis) =
            (Axis::new("layer", index::labels(&layers)), Axis::new("head", index::labels(&heads)));
        let rank_axis = |len: i64| Axis::new("rank", (1..=len).map(|rank| rank.to_string()));
        let names = layers.iter().flat_map(|layer| heads.iter().map(|head| index::head_label(*layer, *head)));
        let name_axis = Axis::new("head", names.collect::<Vec<_>>());
        let circuit = format!("{}{}", self.circuit.name(), lags::suffix(self.lags));
        let by_rank = |title: &str, value: &str, values: &Tensor| {
            let flat = values.f_reshape([count, ranks])?;
            Grid::from_tensor(format!("{title} of {circuit}"), value, name_axis.clone(), rank_axis(ranks), &flat)
        };
        let directions = |title: &str, list: &[Tensor]| {
            let stack = Tensor::f_stack(list, 0)?;
            let axes =
                vec![layer_axis.clone(), head_axis.clone(), rank_axis(top), Axis::indices("dimension", dims.d_model)];
            Stack::new(format!("{title} directions of {circuit}"), "unit vector", axes, stack)
        };
        Ok(Subspaces {
            effective_rank: Grid::from_tensor(
                format!("effective rank of {circuit}"),
                "directions",
                layer_axis.clone(),
                head_axis.clone(),
                &effective_rank,
            )?,
            singular_values: by_rank("singular values", "singular value", &values)?,
            share: by_rank("share of the squared norm", "cumulative share", &share)?,
            left: directions("left", &lefts)?,
            right: directions("right", &rights)?,
            norm_gap,
            direction_gap,
        })
    }
}

register_tools!(RelationSubspaces);

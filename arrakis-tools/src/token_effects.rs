//! What a direction of the residual stream does to the logits: final norm's weight folded, its scale left out.

use arrakis_core::{Axis, Error, Grid, Model, NormKind, Ranking, Result, Weight, answer};
use tch::{Kind, Tensor};

use crate::columns::columns;
use crate::gap;

/// Columns of the unembedding that are held in double at once.
const CHUNK: i64 = 8192;

/// The logits' change per unit of each direction (`[direction, d_model]`, in double): `[direction, vocab]`.
///
/// Each direction is centred where the norm centres, and weighted by the norm's weight.
pub(crate) fn of(model: &dyn Model, directions: &Tensor) -> Result<Tensor> {
    let one = Tensor::f_ones([1], (Kind::Double, directions.device()))?;
    let normed = model.final_norm_with_scale(directions, &one)?.f_to_kind(Kind::Double)?;
    let unembedding = model.weight(Weight::U.global())?;
    let vocab = unembedding.size()[1];
    let mut effects = Vec::new();
    for start in (0..vocab).step_by(CHUNK as usize) {
        let columns = unembedding.f_narrow(1, start, CHUNK.min(vocab - start))?.f_to_kind(Kind::Double)?;
        effects.push(normed.f_matmul(&columns)?);
    }
    Ok(Tensor::f_cat(&effects, 1)?)
}

/// The columns of the unembedding for `ids` with the final norm's weight folded in, centred where the norm centres:
/// `[d_model, id]` in double.
pub(crate) fn folded(model: &dyn Model, ids: &[i64]) -> Result<Tensor> {
    let ids = Tensor::f_from_slice(ids)?.f_to_device(model.device())?;
    let columns = columns(&model.weight(Weight::U.global())?, &ids)?;
    let weighted = match model.weight_if_any(Weight::LN_FINAL_W.global())? {
        Some(weight) => columns.f_mul(&weight.f_to_kind(Kind::Double)?.f_unsqueeze(1)?)?,
        None => columns,
    };
    match model.dims().norm {
        NormKind::Layer => Ok(weighted.f_sub(&weighted.f_mean_dim(0, true, Kind::Double)?)?),
        NormKind::Rms => Ok(weighted),
    }
}

/// The embeddings of every token: `[d_model, vocab]` in double.
pub(crate) fn embeddings(model: &dyn Model) -> Result<Tensor> {
    Ok(model.weight(Weight::E.global())?.f_to_kind(Kind::Double)?.f_transpose(0, 1)?)
}

/// Cosines of directions (`[direction, d_model]`) with the tokens' vectors (`[d_model, vocab]`): `[direction, vocab]`.
///
/// A vector of zeros has the cosine 0 with everything.
pub(crate) fn cosines(directions: &Tensor, vectors: &Tensor) -> Result<Tensor> {
    let length = |of: &Tensor, dimension: i64| -> Result<Tensor> {
        Ok(of.f_square()?.f_sum_dim_intlist(dimension, true, Kind::Double)?.f_sqrt()?)
    };
    let lengths = length(directions, 1)?.f_mul(&length(vectors, 0)?)?.f_clamp_min(f64::MIN_POSITIVE)?;
    Ok(directions.f_matmul(vectors)?.f_div(&lengths)?)
}

/// Tokens in the order of a number, for each of several directions.
pub(crate) struct Chosen {
    /// Ids: `[direction][rank]`.
    pub(crate) ids: Vec<Vec<i64>>,
    /// Their numbers: `[direction, rank]`.
    pub(crate) values: Tensor,
}

impl Chosen {
    /// The `top` tokens with the greatest numbers of each row of `by_token` (`[direction, vocab]`), or with the least.
    pub(crate) fn of(by_token: &Tensor, top: usize, greatest: bool) -> Result<Self> {
        let (values, ids) = by_token.f_topk(top as i64, 1, greatest, true)?;
        let rows = (0..ids.size()[0]).map(|row| Ok(Vec::try_from(ids.f_get(row)?.f_contiguous()?)?));
        Ok(Self { ids: rows.collect::<Result<_>>()?, values })
    }

    /// A grid of them, with the tokens in its cells: `[direction, rank]`.
    pub(crate) fn grid(&self, model: &dyn Model, title: &str, value: &str, rows: Axis) -> Result<Grid> {
        let ranks = Axis::new("rank", (1..=self.values.size()[1]).map(|rank| rank.to_string()));
        let cells = self.ids.iter().flatten().map(|id| model.token(*id)).collect();
        Grid::from_tensor(title, value, rows, ranks, &self.values)?.with_cells(cells)
    }

    /// The first direction's tokens.
    pub(crate) fn ranking(&self, model: &dyn Model, title: &str, value: &str) -> Result<Ranking> {
        let values = answer::numbers(&self.values.f_get(0)?)?;
        let first =
            self.ids.first().ok_or_else(|| Error::Invalid { what: title.into(), why: "no direction".into() })?;
        Ok(Ranking::new(title, value, first.iter().map(|id| model.token(*id)).zip(values)))
    }

    /// How far effects of `directions` on these tokens are from those through the folded unembedding.
    pub(crate) fn folded_gap(&self, model: &dyn Model, directions: &Tensor) -> Result<f64> {
        let mut worst = 0.0;
        for (row, ids) in self.ids.iter().enumerate() {
            let (row, folded) = (row as i64, folded(model, ids)?);
            let again = directions.f_get(row)?.f_unsqueeze(0)?.f_matmul(&folded)?.f_squeeze_dim(0)?;
            worst = gap::worse(worst, gap::gap(&again, &self.values.f_get(row)?)?);
        }
        Ok(worst)
    }
}

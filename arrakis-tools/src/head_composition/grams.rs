//! Composition scores of all pairs at once, by matrices `M Mᵀ` that are formed a few columns at a time.

use arrakis_core::{Context, Model, Result};
use tch::{Kind, Tensor};

use crate::{Circuit, HeadInput};

/// The later layers whose products are formed at once: more means fewer products, less means fewer pairs out of order.
const LAYERS: usize = 4;

/// The bytes of columns held at once where no bound is given.
const BLOCK_BYTES: u64 = 64 << 20;

/// The scores through each input: `[earlier layer, head, later layer, head]`.
///
/// `‖A B‖² = ⟨AᵀA, B Bᵀ⟩`, so that all pairs are one product of two tables with a row for each head. Both matrices are
/// symmetric: what is below the diagonal is taken twice and what is above never formed. This is a third of the work of
/// multiplying the factors of each pair, and does without their QR decompositions.
pub(super) fn all_pairs(cx: &Context<'_>, inputs: &[HeadInput]) -> Result<Vec<Tensor>> {
    let model = cx.model();
    let dims = model.dims();
    let kind = if model.kind() == Kind::Double { Kind::Double } else { Kind::Float };
    let earlier = Grams::of(model, |layer| {
        let (v, o) = Circuit::Ov.of_layer_in(model, layer, kind)?.into_factors();
        Ok((o.f_transpose(1, 2)?, v.f_transpose(1, 2)?))
    })?;
    let later =
        inputs.iter().map(|input| Grams::of(model, |layer| Ok(input.of_layer_in(model, layer, kind)?.into_factors())));
    let later = later.collect::<Result<Vec<_>>>()?;

    let (heads, d_model) = ((dims.n_layers * dims.n_heads) as i64, dims.d_model as i64);
    let column_bytes = (heads * d_model * kind.elt_size_in_bytes() as i64) as u64;
    let width = ((cx.memory_limit().unwrap_or(BLOCK_BYTES) / (2 * column_bytes)) as i64).clamp(1, d_model);
    let options = (kind, model.device());
    let mut squares = Vec::with_capacity(later.len());
    let mut later_norms = Vec::with_capacity(later.len());
    for _ in &later {
        squares.push(Tensor::f_zeros([heads, heads], options)?);
        later_norms.push(Tensor::f_zeros([heads], options)?);
    }
    let mut earlier_norms = Tensor::f_zeros([heads], options)?;
    for start in (0..d_model).step_by(width as usize) {
        cx.progress(start as u64, d_model as u64)?;
        let len = width.min(d_model - start);
        let rest = d_model - start - len;
        let columns = earlier.columns(start, len)?;
        let (diagonal, below) = (earlier.block(start, len, &columns)?, earlier.block(start + len, rest, &columns)?);
        earlier_norms = earlier_norms.f_add(&trace(&diagonal)?)?;
        let twice = flat(&below.f_mul_scalar(2)?)?;
        let diagonal = flat(&diagonal)?;
        for ((squares, norms), later) in squares.iter_mut().zip(&mut later_norms).zip(&later) {
            let columns = later.columns(start, len)?;
            let block = later.block(start, len, &columns)?;
            *norms = norms.f_add(&trace(&block)?)?;
            add_products(squares, &diagonal, &flat(&block)?, dims.n_layers)?;
            add_products(squares, &twice, &flat(&later.block(start + len, rest, &columns)?)?, dims.n_layers)?;
        }
    }

    let shape = [dims.n_layers, dims.n_heads, dims.n_layers, dims.n_heads].map(|len| len as i64);
    let layers = Tensor::f_arange(shape[0], (Kind::Int64, model.device()))?;
    let unordered = layers.f_view([-1, 1, 1, 1])?.f_ge_tensor(&layers.f_view([-1, 1])?)?;
    let finish = |(squares, later): (Tensor, Tensor)| -> Result<Tensor> {
        let share = squares.f_div(&earlier_norms.f_unsqueeze(1)?.f_mul(&later)?)?;
        // Rounding may take what is nearly 0 below it.
        Ok(share.f_clamp_min(0)?.f_sqrt()?.f_view(shape)?.f_masked_fill(&unordered, 0.0)?)
    };
    squares.into_iter().zip(later_norms).map(finish).collect()
}

/// Adds the products of the rows of `earlier` and `later`, a row for each head, where a pair may be in order.
fn add_products(sums: &Tensor, earlier: &Tensor, later: &Tensor, layers: usize) -> Result<()> {
    let heads = earlier.size()[0] / layers as i64;
    for first in (0..layers).step_by(LAYERS) {
        let end = (first + LAYERS).min(layers);
        let (before, own) = ((end - 1) as i64 * heads, (end - first) as i64 * heads);
        let start = first as i64 * heads;
        let later = later.f_narrow(0, start, own)?.f_transpose(0, 1)?;
        let _ =
            sums.f_narrow(0, 0, before)?.f_narrow(1, start, own)?.f_addmm_(&earlier.f_narrow(0, 0, before)?, &later)?;
    }
    Ok(())
}

/// A matrix `M Mᵀ` for each head of the model, kept as factors: `outer · inner · outerᵀ`.
struct Grams {
    /// `[head, d_model, d_head]`, every layer's.
    outer: Tensor,
    /// `[head, d_head, d_head]`.
    inner: Tensor,
}

impl Grams {
    /// Those of `M = outer · rest`, whose factors `part` gives for every head of a layer.
    fn of(model: &dyn Model, part: impl Fn(usize) -> Result<(Tensor, Tensor)>) -> Result<Self> {
        let (mut outers, mut inners) = (Vec::new(), Vec::new());
        for layer in 0..model.dims().n_layers {
            let (outer, rest) = part(layer)?;
            inners.push(rest.f_matmul(&rest.f_transpose(1, 2)?)?);
            outers.push(outer);
        }
        Ok(Self { outer: joined(&outers)?, inner: Tensor::f_cat(&inners, 0)? })
    }

    /// Columns of the matrices, before `outer` has made rows of them: `[head, d_head, len]`.
    fn columns(&self, start: i64, len: i64) -> Result<Tensor> {
        Ok(self.outer.f_narrow(1, start, len)?.f_matmul(&self.inner)?.f_transpose(1, 2)?)
    }

    /// Rows of those columns: `[head, len, columns]`.
    fn block(&self, start: i64, len: i64, columns: &Tensor) -> Result<Tensor> {
        Ok(self.outer.f_narrow(1, start, len)?.f_matmul(columns)?)
    }
}

/// Tensors `[head, d_model, d_head]` one after the other, laid out in memory as they are.
fn joined(parts: &[Tensor]) -> Result<Tensor> {
    // Weights are often transposed views, which take long to copy the other way round.
    if parts.iter().all(|part| part.stride()[1] == 1) {
        let parts = parts.iter().map(|part| part.f_transpose(1, 2)).collect::<Result<Vec<_>, _>>()?;
        return Ok(Tensor::f_cat(&parts, 0)?.f_transpose(1, 2)?);
    }
    Ok(Tensor::f_cat(parts, 0)?)
}

/// The sum of each block's diagonal: `[head]`.
fn trace(blocks: &Tensor) -> Result<Tensor> {
    Ok(blocks.f_diagonal(0, 1, 2)?.f_sum_dim_intlist(-1, false, None::<Kind>)?)
}

/// A row for each block: `[head, rows * columns]`.
fn flat(blocks: &Tensor) -> Result<Tensor> {
    Ok(blocks.f_flatten(1, 2)?)
}

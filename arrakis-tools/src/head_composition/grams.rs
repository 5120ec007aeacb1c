//! Composition scores of all pairs at once, by matrices `M Mᵀ` that are formed a few columns at a time.

use arrakis_core::{Context, Model, Result};
use tch::{Kind, Tensor};

use crate::{Circuit, HeadInput};

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
    let zeros = || Tensor::f_zeros([heads, heads], (kind, model.device()));
    let mut squares = later.iter().map(|_| zeros()).collect::<Result<Vec<_>, _>>()?;
    for start in (0..d_model).step_by(width as usize) {
        cx.progress(start as u64, d_model as u64)?;
        let len = width.min(d_model - start);
        let columns = earlier.columns(start, len)?;
        let of_later = later.iter().map(|later| later.columns(start, len)).collect::<Result<Vec<_>>>()?;
        let below = (start + len, d_model - start - len);
        for (rows, times) in [((start, len), 1.0), (below, 2.0)] {
            if rows.1 == 0 {
                continue;
            }
            let block = earlier.block(rows, &columns.f_mul_scalar(times)?)?;
            for ((squares, later), columns) in squares.iter_mut().zip(&later).zip(&of_later) {
                let _ = squares.f_addmm_(&block, &later.block(rows, columns)?.f_transpose(0, 1)?)?;
            }
        }
    }

    let shape = [dims.n_layers, dims.n_heads, dims.n_layers, dims.n_heads].map(|len| len as i64);
    let layers = Tensor::f_arange(shape[0], (Kind::Int64, model.device()))?;
    let unordered = layers.f_view([-1, 1, 1, 1])?.f_ge_tensor(&layers.f_view([-1, 1])?)?;
    let earlier = earlier.squared_norms()?.f_unsqueeze(1)?;
    let finish = |(squares, later): (Tensor, Grams)| -> Result<Tensor> {
        let share = squares.f_div(&earlier.f_mul(&later.squared_norms()?)?)?;
        // Rounding may take what is nearly 0 below it.
        Ok(share.f_clamp_min(0)?.f_sqrt()?.f_view(shape)?.f_masked_fill(&unordered, 0.0)?)
    };
    squares.into_iter().zip(later).map(finish).collect()
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
        Ok(Self { outer: Tensor::f_cat(&outers, 0)?, inner: Tensor::f_cat(&inners, 0)? })
    }

    /// The squared norms of the matrices, which are the traces: `[head]`.
    fn squared_norms(&self) -> Result<Tensor> {
        Ok(self.outer.f_matmul(&self.inner)?.f_mul(&self.outer)?.f_sum_dim_intlist(
            &[1_i64, 2][..],
            false,
            None::<Kind>,
        )?)
    }

    /// The columns `start..start + len` of the products, transposed and halfway: `[head, d_head, len]`.
    fn columns(&self, start: i64, len: i64) -> Result<Tensor> {
        Ok(self.outer.f_narrow(1, start, len)?.f_matmul(&self.inner)?.f_transpose(1, 2)?)
    }

    /// The given rows of those columns: `[head, rows * len]`.
    fn block(&self, rows: (i64, i64), columns: &Tensor) -> Result<Tensor> {
        let block = self.outer.f_narrow(1, rows.0, rows.1)?.f_matmul(columns)?;
        Ok(block.f_reshape([self.outer.size()[0], rows.1 * columns.size()[2]])?)
    }
}

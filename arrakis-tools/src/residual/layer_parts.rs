//! What each block finds in the residual stream and what its halves add, measured while the model runs.

use std::cell::RefCell;

use arrakis_core::{Cache, Context, HookPoint, PosSlice, Result, Site, Tokens};
use tch::{Kind, Tensor};

use crate::reduce;

/// The stream around one block over one row, in double: `[pos, d_model]` each.
pub(super) struct LayerParts<'a> {
    pub(super) pre: &'a Tensor,
    pub(super) attention: &'a Tensor,
    pub(super) mlp: &'a Tensor,
    pub(super) post: &'a Tensor,
}

/// Runs over one row and gives, for each block, what `measure` makes of its parts; no more than one block is held.
pub(super) fn by_layer(
    cx: &Context<'_>,
    ids: &[i64],
    measure: impl Fn(LayerParts<'_>) -> Result<Tensor>,
) -> Result<Vec<Tensor>> {
    let sites = [Site::RESID_PRE, Site::ATTN_OUT, Site::MLP_OUT, Site::RESID_POST];
    let layers = cx.model().dims().n_layers;
    let points: Vec<HookPoint> = (0..layers).flat_map(|layer| sites.map(|site| site.at(layer))).collect();
    let pending = RefCell::new(Cache::new());
    let look = |point: HookPoint, value: &Tensor| {
        let value = value.f_select(0, 0)?.f_to_kind(Kind::Double)?;
        let mut seen = pending.borrow_mut();
        if point.site != Site::RESID_POST {
            // The value of the block before is of no use any more.
            seen.insert(HookPoint::from(point.site), value);
            return Ok(Tensor::new());
        }
        cx.cancelled()?;
        let [pre, attention, mlp] = [sites[0], sites[1], sites[2]].map(|site| seen.get(site));
        measure(LayerParts { pre: pre?, attention: attention?, mlp: mlp?, post: &value })
    };
    let tokens = Tokens::from_ids(ids)?;
    let (_, kept) = reduce::reduce(cx.model(), &tokens, PosSlice::None, &points, look)?;
    (0..layers).map(|layer| Ok(kept.get(Site::RESID_POST.at(layer))?.shallow_clone())).collect()
}

/// Lengths of vectors along the last dimension.
pub(super) fn norm(values: &Tensor) -> Result<Tensor> {
    Ok(dot(values, values)?.f_sqrt()?)
}

/// Inner products along the last dimension.
pub(super) fn dot(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    Ok(a.f_mul(b)?.f_sum_dim_intlist(-1, false, Kind::Double)?)
}

/// Cosines along the last dimension; 0 where a vector has no length, NaN where one is not finite.
pub(super) fn cosine(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    let lengths = norm(a)?.f_mul(&norm(b)?)?;
    let cosine = dot(a, b)?.f_div(&lengths)?.f_clamp(-1.0, 1.0)?;
    Ok(cosine.f_masked_fill(&lengths.f_eq(0.0)?, 0.0)?)
}

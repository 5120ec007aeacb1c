//! `qk_dot_product`: how well every query matches every key, before mask and softmax.

use arrakis_core::{Axis, Kept, PlotSpec, Site, Stack};
use tch::Tensor;

use super::readings::Readings;
use super::{Kind, Source, refused, title};
use crate::Result;
use crate::multiples::Panels;
use crate::picture::Picture;

pub(super) const KIND: Kind = Kind {
    name: "qk_dot_product",
    about: "How well every query matches every key: q·k / √d_head, after rotation, before softcap, mask and softmax",
    source: Source::Points { needs: &[Site::ROT_Q, Site::ROT_K], may: &[], heads: true, draw },
};

fn draw(spec: &PlotSpec, kept: Kept<'_>) -> Result<Box<dyn Picture>> {
    let queries = Readings::of(spec, kept, Site::ROT_Q)?;
    let keys = Readings::of(spec, kept, Site::ROT_K)?;
    if queries.layers != keys.layers {
        let why = format!("wants queries and keys of the same layers, not {:?} and {:?}", queries.layers, keys.layers);
        return Err(refused(&spec.kind, why));
    }
    let whole = kept.cache.get(Site::ROT_Q.at(queries.layers[0]))?.size()[2] as usize;
    let products: Vec<Tensor> = queries
        .values
        .iter()
        .zip(&keys.values)
        .map(|(q, k)| products(q, k, &queries.heads, whole))
        .collect::<Result<_>>()?;
    let axes = vec![
        queries.layer_axis(),
        queries.head_axis(),
        Axis::new("query", kept.labels.iter().cloned()),
        Axis::new("key", kept.labels.iter().cloned()),
    ];
    let values = Tensor::f_stack(&products, 0)?;
    let stack = Stack::new(title(spec, "QK dot product"), "q·k / √d_head", axes, values)?;
    Ok(Box::new(Panels { causal: true, ..Panels::of(stack) }))
}

/// `q` is `[pos, head, d_head]` of some heads and `k` `[pos, kv_head, d_head]` of all: `[head, query, key]`.
///
/// Under grouped-query attention neighbouring heads of the model's `whole` share a key head.
fn products(q: &Tensor, k: &Tensor, heads: &[usize], whole: usize) -> Result<Tensor> {
    let shared = (whole as i64 / k.size()[1]).max(1);
    let places: Vec<i64> = heads.iter().map(|head| *head as i64 / shared).collect();
    let k = k.f_index_select(1, &Tensor::f_from_slice(&places)?)?.f_permute([1, 2, 0])?;
    let d_head = *q.size().last().unwrap_or(&1);
    Ok(q.f_permute([1, 0, 2])?.f_matmul(&k)?.f_div_scalar((d_head as f64).sqrt())?)
}

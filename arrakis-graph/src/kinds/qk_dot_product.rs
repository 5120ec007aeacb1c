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
    about: "How well every query matches every key: q·k / √d_head, rotated and with the lags of the head, before mask and softmax",
    source: Source::Points { needs: &[Site::ROT_Q, Site::ROT_K], may: &[Site::LAG], heads: true, draw },
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
    let lags = Readings::any(spec, kept, Site::LAG)?;
    let products = products
        .into_iter()
        .zip(&queries.layers)
        .map(|(products, layer)| match lags.layers.iter().position(|lagged| lagged == layer) {
            Some(place) => lagged(&products, &lags.values[place]),
            None => Ok(products),
        })
        .collect::<Result<Vec<Tensor>>>()?;
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

/// The products of a model that lags: `Σ A[l, m] · product[t - l, s - m]`, `lags` being `[head, query lag, key lag]`.
fn lagged(products: &Tensor, lags: &Tensor) -> Result<Tensor> {
    let [_, queries, keys] = products.size()[..] else {
        return Err(refused(KIND.name, format!("wants products of heads, not {:?}", products.size())));
    };
    let mut sum = products.f_zeros_like()?;
    for (query_lag, key_lag) in (0..lags.size()[1]).flat_map(|l| (0..lags.size()[2]).map(move |m| (l, m))) {
        if query_lag >= queries || key_lag >= keys {
            continue;
        }
        let weight = lags.f_select(2, key_lag)?.f_narrow(1, query_lag, 1)?.f_unsqueeze(2)?;
        let earlier = products.f_narrow(1, 0, queries - query_lag)?.f_narrow(2, 0, keys - key_lag)?;
        let shifted = earlier.f_constant_pad_nd([key_lag, 0, query_lag, 0])?;
        sum = sum.f_add(&shifted.f_mul(&weight)?)?;
    }
    Ok(sum)
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

#[cfg(test)]
mod tests {
    use super::lagged;
    use crate::Result;
    use tch::{Device, Kind, Tensor};

    #[test]
    fn lags_weigh_the_products_of_earlier_positions() -> Result<()> {
        let counted = |size: &[i64]| {
            Tensor::arange(size.iter().product::<i64>(), (Kind::Double, Device::Cpu)).sin().reshape(size)
        };
        let (products, lags) = (counted(&[2, 5, 5]), counted(&[2, 3, 3]) + 0.3);
        let found = lagged(&products, &lags)?;
        for place in 0..50 {
            let [head, query, key] = [place / 25, place / 5 % 5, place % 5];
            let mut wanted = 0.0;
            for (l, m) in (0..3).flat_map(|l| (0..3).map(move |m| (l, m))).filter(|(l, m)| *l <= query && *m <= key) {
                wanted += lags.double_value(&[head, l, m]) * products.double_value(&[head, query - l, key - m]);
            }
            assert!((found.double_value(&[head, query, key]) - wanted).abs() < 1e-12);
        }
        Ok(())
    }
}

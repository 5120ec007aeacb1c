//! What components read and write by their weights, the norms' weights folded in.

use arrakis_core::{Model, NormKind, Result, Site, Weight, WeightPoint};
use tch::{Kind, Tensor};

use crate::gap;

/// A matrix that reads the stream (`[…, d_model, out]`) with the norm before it: its weight folded in, centred where
/// the norm centres. In double.
fn folded(model: &dyn Model, weight: WeightPoint, norm: WeightPoint) -> Result<Tensor> {
    let mut map = model.weight(weight)?.f_to_kind(Kind::Double)?;
    if let Some(norm) = model.weight_if_any(norm)? {
        map = map.f_mul(&norm.f_to_kind(Kind::Double)?.f_unsqueeze(-1)?)?;
    }
    Ok(match model.dims().norm {
        NormKind::Layer => map.f_sub(&map.f_mean_dim(-2, true, Kind::Double)?)?,
        NormKind::Rms => map,
    })
}

/// How the heads of a layer read the stream by `W_Q`, `W_K` or `W_V`: `[head, d_model, d_head]`.
pub(crate) fn heads_read(model: &dyn Model, weight: Weight, layer: usize) -> Result<Tensor> {
    folded(model, weight.at(layer), Weight::LN1_W.at(layer))
}

/// How the neurons of a layer read the stream by `W_in` or `W_gate`: `[d_model, d_mlp]`.
pub(super) fn neurons_read(model: &dyn Model, weight: Weight, layer: usize) -> Result<Tensor> {
    let own = model.points().contains(&Site::LN2_SCALE.at(layer));
    folded(model, weight.at(layer), if own { Weight::LN2_W } else { Weight::LN1_W }.at(layer))
}

/// Values of each query head, which shares them with its group: `[head, …]`.
pub(super) fn ungrouped(model: &dyn Model, by_group: &Tensor) -> Result<Tensor> {
    let group = model.dims().n_heads / model.dims().n_kv_heads;
    Ok(by_group.f_repeat_interleave_self_int(group as i64, 0, None)?)
}

/// How much longer a map leaves a unit direction than it leaves directions in the root mean square.
pub(super) struct Gain {
    /// One number for each map, from 0 to the root of `d_model`; 0 where the map is 0.
    pub(super) values: Tensor,
    /// How far the squares along and across the direction are from their sum, as a share of it.
    pub(super) gap: f64,
}

impl Gain {
    /// The gain of maps that read the stream (`[…, d_model, out]`).
    pub(super) fn reading(map: &Tensor, direction: &Tensor) -> Result<Self> {
        let along = direction.f_unsqueeze(0)?.f_matmul(map)?;
        let across = map.f_sub(&direction.f_unsqueeze(-1)?.f_mul(&along)?)?;
        Self::of(&squares(&along)?, &squares(&across)?, &squares(map)?, direction)
    }

    /// The gain of products `read write` (`[…, in, mid]`, `[…, mid, d_model]`) that write to the stream.
    pub(super) fn writing(read: &Tensor, write: &Tensor, direction: &Tensor) -> Result<Self> {
        let gram = read.f_transpose(-1, -2)?.f_matmul(read)?;
        let square = |write: &Tensor| -> Result<Tensor> {
            let product = gram.f_matmul(write)?.f_mul(write)?;
            Ok(product.f_sum_dim_intlist(&[-2_i64, -1][..], false, Kind::Double)?)
        };
        let along = write.f_matmul(&direction.f_unsqueeze(-1)?)?;
        let across = write.f_sub(&along.f_mul(direction)?)?;
        Self::of(&square(&along)?, &square(&across)?, &square(write)?, direction)
    }

    fn of(along: &Tensor, across: &Tensor, whole: &Tensor, direction: &Tensor) -> Result<Self> {
        let floor = whole.f_clamp_min(f64::MIN_POSITIVE)?;
        let d_model = direction.size()[0] as f64;
        let apart = along.f_add(across)?.f_sub(whole)?.f_div(&floor)?;
        let values = along.f_clamp_min(0.0)?.f_div(&floor)?.f_mul_scalar(d_model)?.f_sqrt()?;
        Ok(Self { values, gap: gap::greatest(&apart)? })
    }
}

fn squares(map: &Tensor) -> Result<Tensor> {
    Ok(map.f_square()?.f_sum_dim_intlist(&[-2_i64, -1][..], false, Kind::Double)?)
}

//! The kept values that a picture shows: one row of the batch, its real positions, the chosen heads, layer by layer.

use arrakis_core::{Axis, AxisKind, HookPoint, Kept, PlotSpec, Selector, Site};
use tch::{Device, Kind, Tensor};

use super::refused;
use crate::Result;

/// The values of one site, from the first layer to the last, in double, without the batch.
pub(super) struct Readings {
    /// The layers.
    pub(super) layers: Vec<usize>,
    /// The value of each.
    pub(super) values: Vec<Tensor>,
    /// The numbers of the heads, if the site has some.
    pub(super) heads: Vec<usize>,
}

impl Readings {
    /// Those of a site; an error if a run kept none.
    pub(super) fn of(spec: &PlotSpec, kept: Kept<'_>, site: Site) -> Result<Self> {
        let found = Self::any(spec, kept, site)?;
        if found.layers.is_empty() {
            return Err(arrakis_core::Error::NotKept { point: format!("blocks.*.{site}") }.into());
        }
        Ok(found)
    }

    /// Those of a site, perhaps none.
    pub(super) fn any(spec: &PlotSpec, kept: Kept<'_>, site: Site) -> Result<Self> {
        let mut points: Vec<HookPoint> =
            kept.cache.points().iter().copied().filter(|point| point.site == site && chosen(spec, *point)).collect();
        points.sort_by_key(|point| point.layer);
        let mut found = Self { layers: vec![], values: vec![], heads: vec![] };
        for point in points {
            let (value, heads) = taken(spec, kept, point)?;
            found.layers.push(point.layer.unwrap_or_default());
            found.values.push(value);
            found.heads = heads;
        }
        Ok(found)
    }

    /// The values of all layers as one: `[layer, …]`.
    pub(super) fn stacked(&self) -> Result<Tensor> {
        Ok(Tensor::f_stack(&self.values, 0)?)
    }

    /// The layers as an axis.
    pub(super) fn layer_axis(&self) -> Axis {
        Axis::new("layer", self.layers.iter().map(ToString::to_string))
    }

    /// The heads as an axis.
    pub(super) fn head_axis(&self) -> Axis {
        Axis::new("head", self.heads.iter().map(ToString::to_string))
    }
}

/// Whether a spec reads a point.
fn chosen(spec: &PlotSpec, point: HookPoint) -> bool {
    let chooses = |name: &String| Selector::from(name).resolve(&[point]).is_ok();
    spec.points.is_empty() || spec.points.iter().any(chooses)
}

/// The value at a point and the heads that it holds.
fn taken(spec: &PlotSpec, kept: Kept<'_>, point: HookPoint) -> Result<(Tensor, Vec<usize>)> {
    let axes = point.site.axes();
    let whole = kept.cache.get(point)?;
    let size = whole.size();
    if size.len() != axes.len() {
        return Err(refused(&spec.kind, format!("`{point}` has shape {size:?} and should have {} axes", axes.len())));
    }
    if spec.row as i64 >= size[0] {
        let what = "row of the batch".into();
        return Err(arrakis_core::Error::OutOfRange { what, index: spec.row as i64, len: size[0] }.into());
    }
    let mut value = whole.f_detach()?.f_select(0, spec.row as i64)?.f_to_device(Device::Cpu)?;
    let places = Tensor::f_from_slice(kept.places)?;
    let mut heads = Vec::new();
    for (dimension, axis) in axes.iter().enumerate().skip(1) {
        let along = dimension as i64 - 1;
        match axis {
            AxisKind::Pos | AxisKind::Query | AxisKind::Key => {
                let most = kept.places.iter().copied().max().unwrap_or(0);
                if most >= size[dimension] {
                    let why = format!("`{point}` was kept of {} positions and the text has more", size[dimension]);
                    return Err(refused(&spec.kind, why + "; keep all of them"));
                }
                value = value.f_index_select(along, &places)?;
            }
            AxisKind::Head => {
                let len = size[dimension];
                if let Some(head) = spec.heads.iter().find(|head| **head as i64 >= len) {
                    let index = *head as i64;
                    return Err(arrakis_core::Error::OutOfRange { what: "head".into(), index, len }.into());
                }
                heads = if spec.heads.is_empty() { (0..len as usize).collect() } else { spec.heads.clone() };
                let wanted: Vec<i64> = heads.iter().map(|head| *head as i64).collect();
                value = value.f_index_select(along, &Tensor::f_from_slice(&wanted)?)?;
            }
            _ => {}
        }
    }
    Ok((value.f_to_kind(Kind::Double)?, heads))
}

/// The numbers of a tensor, row by row.
pub(super) fn numbers(tensor: &Tensor) -> Result<Vec<f64>> {
    Ok(arrakis_core::answer::numbers(tensor)?)
}

/// The lower quartile, the median and the upper quartile; NaN of nothing.
pub(super) fn quartiles(values: &[f64]) -> (f64, f64, f64) {
    let mut sorted: Vec<f64> = values.iter().copied().filter(|value| !value.is_nan()).collect();
    sorted.sort_by(f64::total_cmp);
    let at = |share: f64| {
        let place = (sorted.len() as f64 - 1.0).max(0.0) * share;
        let (below, above) = (sorted.get(place.floor() as usize), sorted.get(place.ceil() as usize));
        match (below, above) {
            // Equal infinities have no difference.
            (Some(below), Some(above)) if below < above => below + (above - below) * place.fract(),
            (Some(below), _) => *below,
            _ => f64::NAN,
        }
    };
    (at(0.25), at(0.5), at(0.75))
}

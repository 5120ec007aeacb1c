//! `residual_stream`: how the norm of the residual stream grows.

use arrakis_core::{Kept, PlotSpec, Site};

use super::readings::{Readings, numbers, quartiles};
use super::{Kind, Source, title};
use crate::Result;
use crate::lines::{Curve, Curves};
use crate::picture::Picture;

pub(super) const KIND: Kind = Kind {
    name: "residual_stream",
    about: "The norm of the residual stream after every layer: its median over positions, the middle half, the first position",
    source: Source::Points { needs: &[Site::RESID_POST], may: &[], heads: false, draw },
};

fn draw(spec: &PlotSpec, kept: Kept<'_>) -> Result<Box<dyn Picture>> {
    let read = Readings::of(spec, kept, Site::RESID_POST)?;
    let norm = |value: &tch::Tensor| -> Result<Vec<f64>> { numbers(&value.f_norm_scalaropt_dim(2.0, [-1], false)?) };
    let norms: Vec<Vec<f64>> = read.values.iter().map(norm).collect::<Result<_>>()?;
    Ok(Box::new(Curves {
        title: title(spec, "Norm of the residual stream"),
        axis: read.layer_axis(),
        value: "L2 norm after the layer".into(),
        log: wide(&norms),
        lines: over_positions(&norms),
        notes: vec![],
    }))
}

/// The first position, often far from the others, and the median of those with their middle half.
pub(super) fn over_positions(layers: &[Vec<f64>]) -> Vec<Curve> {
    let first = || layers.iter().map(|layer| layer[0]).collect();
    if layers.iter().any(|layer| layer.len() < 2) {
        return vec![Curve { name: String::new(), values: first(), band: None }];
    }
    let (middle, band) = middles(layers.iter().map(|layer| &layer[1..]));
    vec![
        Curve { name: "median of the later positions, middle half".into(), values: middle, band: Some(band) },
        Curve { name: "first position".into(), values: first(), band: None },
    ]
}

/// The medians of groups and their quartiles.
pub(super) fn middles<'a>(groups: impl Iterator<Item = &'a [f64]>) -> (Vec<f64>, (Vec<f64>, Vec<f64>)) {
    let (mut low, mut middle, mut high) = (vec![], vec![], vec![]);
    for group in groups {
        let (lower, median, upper) = quartiles(group);
        low.push(lower);
        middle.push(median);
        high.push(upper);
    }
    (middle, (low, high))
}

/// Whether positive numbers are so far apart that only their logarithms can be seen together.
pub(super) fn wide(groups: &[Vec<f64>]) -> bool {
    let all = || groups.iter().flatten().copied().filter(|value| value.is_finite());
    let (least, most) =
        all().fold((f64::INFINITY, 0.0_f64), |(least, most), value| (least.min(value), most.max(value)));
    least > 0.0 && most > 30.0 * least
}

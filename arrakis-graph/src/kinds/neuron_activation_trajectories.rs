//! `neuron_activation_trajectories`: how the liveliest neurons go along the text.

use arrakis_core::{Axis, Kept, PlotSpec, Site};

use super::readings::{Readings, numbers};
use super::{Kind, Source, title};
use crate::Result;
use crate::lines::{Curve, Curves};
use crate::picture::Picture;

/// How many neurons are shown.
const SHOWN: usize = 6;
/// How much greater activations at the first position may be before it is left out.
const FAR: f64 = 3.0;

pub(super) const KIND: Kind = Kind {
    name: "neuron_activation_trajectories",
    about: "How neurons go along the text: those of the greatest range over positions",
    source: Source::Points { needs: &[Site::MLP_POST], may: &[], heads: false, draw },
};

fn draw(spec: &PlotSpec, kept: Kept<'_>) -> Result<Box<dyn Picture>> {
    let read = Readings::of(spec, kept, Site::MLP_POST)?;
    let values = read.stacked()?;
    let greatest = |from: i64, to: i64| -> Result<f64> {
        let part = values.f_slice(1, from, to, 1)?.f_abs()?.f_max()?;
        Ok(numbers(&part)?.first().copied().unwrap_or(0.0))
    };
    let len = kept.labels.len() as i64;
    let skip = i64::from(len > 2 && greatest(0, 1)? > FAR * greatest(1, len)?);
    let shown = values.f_slice(1, skip, len, 1)?;
    let range = shown.f_amax([1], false)?.f_sub(&shown.f_amin([1], false)?)?;
    let ranges = numbers(&range)?;
    let neurons = range.size()[1] as usize;
    let mut order: Vec<usize> = (0..ranges.len()).filter(|place| !ranges[*place].is_nan()).collect();
    order.sort_by(|&a, &b| ranges[b].total_cmp(&ranges[a]));
    let curve = |place: usize| -> Result<Curve> {
        let (layer, neuron) = (place / neurons, place % neurons);
        let line = shown.f_select(0, layer as i64)?.f_select(1, neuron as i64)?;
        Ok(Curve {
            name: format!("layer {}, neuron {neuron}", read.layers[layer]),
            values: numbers(&line)?,
            band: None,
        })
    };
    let curves = order.into_iter().take(SHOWN).map(curve).collect::<Result<Vec<_>>>()?;
    let mut notes = vec![format!("the {} neurons of {} with the greatest range", curves.len(), ranges.len())];
    if skip > 0 {
        notes.push("the first position, where activations are far greater, is left out".into());
    }
    Ok(Box::new(Curves {
        title: title(spec, "Neurons along the text"),
        axis: Axis::new("position", kept.labels.iter().skip(skip as usize).cloned()),
        value: "activation".into(),
        lines: curves,
        log: false,
        notes,
    }))
}

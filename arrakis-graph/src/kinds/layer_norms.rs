//! `layer_norms`: what the norms divide by.

use arrakis_core::{Axis, Kept, PlotSpec, Site};

use super::readings::{Readings, numbers, quartiles};
use super::residual_stream::{middles, wide};
use super::{Kind, Source, title};
use crate::Result;
use crate::lines::{Curve, Curves};
use crate::picture::Picture;

pub(super) const KIND: Kind = Kind {
    name: "layer_norms",
    about: "What the norm before attention and the one before the MLP divide by, layer by layer: median and middle half",
    source: Source::Points {
        needs: &[Site::LN1_SCALE],
        may: &[Site::LN2_SCALE, Site::LN_FINAL_SCALE],
        heads: false,
        draw,
    },
};

fn draw(spec: &PlotSpec, kept: Kept<'_>) -> Result<Box<dyn Picture>> {
    let first = Readings::of(spec, kept, Site::LN1_SCALE)?;
    let mut layers = first.layers.clone();
    let mut read = vec![("before attention (ln1)", first)];
    let second = Readings::any(spec, kept, Site::LN2_SCALE)?;
    if !second.layers.is_empty() {
        layers.extend(&second.layers);
        read.push(("before the MLP (ln2)", second));
    }
    layers.sort_unstable();
    layers.dedup();
    let later = |values: Vec<f64>| if values.len() > 1 { values[1..].to_vec() } else { values };
    let (mut curves, mut all) = (Vec::new(), Vec::new());
    for (name, read) in &read {
        let groups: Vec<Vec<f64>> = read.values.iter().map(|value| numbers(value).map(later)).collect::<Result<_>>()?;
        // A layer that was not kept is a gap.
        let group =
            |layer: &usize| read.layers.iter().position(|kept| kept == layer).map_or(&[][..], |place| &groups[place]);
        let (values, band) = middles(layers.iter().map(group));
        curves.push(Curve { name: (*name).to_owned(), values, band: Some(band) });
        all.extend(groups);
    }
    let mut notes = Vec::new();
    if kept.labels.len() > 1 {
        notes.push("the first position, often far from the others, is left out".to_owned());
    }
    for value in &Readings::any(spec, kept, Site::LN_FINAL_SCALE)?.values {
        let (low, median, high) = quartiles(&later(numbers(value)?));
        notes.push(format!("final norm: median {median:.3}, middle half {low:.3} to {high:.3}"));
    }
    Ok(Box::new(Curves {
        title: title(spec, "Scales of the layer norms"),
        axis: Axis::new("layer", layers.iter().map(ToString::to_string)),
        value: "divisor of the norm".into(),
        log: wide(&all),
        lines: curves,
        notes,
    }))
}

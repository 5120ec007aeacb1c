//! `attention`: where every head looks.

use arrakis_core::{Axis, Kept, PlotSpec, Site, Stack};

use super::readings::Readings;
use super::{Kind, Source, title};
use crate::Result;
use crate::multiples::Panels;
use crate::picture::Picture;

pub(super) const KIND: Kind = Kind {
    name: "attention",
    about: "Where every head looks: a map of queries by keys for each layer and head",
    source: Source::Points { needs: &[Site::PATTERN], may: &[], heads: true, draw },
};

fn draw(spec: &PlotSpec, kept: Kept<'_>) -> Result<Box<dyn Picture>> {
    Ok(Box::new(patterns(spec, kept, "Attention")?))
}

/// The patterns of all layers and heads; nothing is drawn of what no head may see.
pub(super) fn patterns(spec: &PlotSpec, kept: Kept<'_>, own: &str) -> Result<Panels> {
    let read = Readings::of(spec, kept, Site::PATTERN)?;
    let values = read.stacked()?;
    let axes = vec![
        read.layer_axis(),
        read.head_axis(),
        Axis::new("query", kept.labels.iter().cloned()),
        Axis::new("key", kept.labels.iter().cloned()),
    ];
    Ok(Panels::of(Stack::new(title(spec, own), "attention", axes, values)?))
}

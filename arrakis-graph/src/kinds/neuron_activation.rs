//! `neuron_activation`: how the activations of neurons are distributed, layer by layer.

use arrakis_core::{Kept, PlotSpec, Site};

use super::readings::{Readings, numbers};
use super::{Kind, Source, title};
use crate::Result;
use crate::picture::Picture;
use crate::violins::Violins;

pub(super) const KIND: Kind = Kind {
    name: "neuron_activation",
    about: "How the activations of neurons are distributed: a violin for each layer, over all neurons and positions",
    source: Source::Points { needs: &[Site::MLP_POST], may: &[], heads: false, draw },
};

fn draw(spec: &PlotSpec, kept: Kept<'_>) -> Result<Box<dyn Picture>> {
    let read = Readings::of(spec, kept, Site::MLP_POST)?;
    let groups = read.values.iter().map(numbers).collect::<Result<Vec<_>>>()?;
    let neurons = read.values[0].size()[1];
    Ok(Box::new(Violins {
        title: title(spec, "Neuron activations"),
        axis: read.layer_axis(),
        value: "activation".into(),
        groups,
        notes: vec![format!("{neurons} neurons at {} positions in each layer", kept.labels.len())],
    }))
}

//! `composition`: which heads read what earlier heads write, as a graph.

use arrakis_core::{Part, PlotSpec, Stack};

use super::grids::wants;
use super::readings::numbers;
use super::{Kind, Parts, Source, title};
use crate::Result;
use crate::head_graph::{HeadGraph, Link};
use crate::picture::Picture;

pub(super) const KIND: Kind = Kind {
    name: "composition",
    about: "Which heads read what earlier heads write: the strongest links as a graph over layers",
    source: Source::Parts(draw),
};

fn draw(spec: &PlotSpec, parts: &Parts<'_>) -> Result<Box<dyn Picture>> {
    let stack = parts.iter().find_map(|(_, part)| match part {
        Part::Stack(stack) if of_pairs(stack) => Some(stack),
        _ => None,
    });
    let Some(stack) = stack else {
        return Err(wants(spec, "a stack of earlier layers, heads, later layers and heads", parts));
    };
    let lengths: Vec<usize> = stack.axes.iter().map(arrakis_core::Axis::len).collect();
    let (heads, layers) = (lengths[1], lengths[2]);
    let link = |(place, weight): (usize, f64)| Link {
        from: (place / (heads * layers * heads), place / (layers * heads) % heads),
        to: (place / heads % layers, place % heads),
        weight,
    };
    let links = numbers(&stack.values)?.into_iter().enumerate().map(link);
    // A head reads earlier layers only; the rest of the table is no score.
    let links = links.filter(|link| link.from.0 < link.to.0).collect();
    Ok(Box::new(HeadGraph {
        title: title(spec, stack.title.clone()),
        value: stack.value.clone(),
        layers: (0..layers).collect(),
        heads: (0..heads).collect(),
        links,
        notes: vec![],
    }))
}

/// Whether a stack has a number for each pair of heads.
fn of_pairs(stack: &Stack) -> bool {
    match stack.axes.as_slice() {
        [from, heads, to, others] => {
            let named = from.name.contains("layer") && to.name.contains("layer");
            named && from.len() == to.len() && heads.len() == others.len() && heads.name.contains("head")
        }
        _ => false,
    }
}

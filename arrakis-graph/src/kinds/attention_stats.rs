//! `attention_stats`: which heads look where earlier heads have gathered something.

use arrakis_core::{Kept, PlotSpec, Site};
use tch::Tensor;

use super::readings::{Readings, numbers};
use super::{Kind, Source, refused, title};
use crate::Result;
use crate::head_graph::{HeadGraph, Link};
use crate::picture::Picture;

pub(super) const KIND: Kind = Kind {
    name: "attention_stats",
    about: "Attention flow between heads: how much attention goes in two steps, by a head of one layer and one before it",
    source: Source::Points { needs: &[Site::PATTERN], may: &[], heads: true, draw },
};

/// The pattern of a virtual head (Elhage et al. 2021) is the product of two; this is the part of it that moves.
///
/// A step to the own position moves nothing, and one to the first position is where heads rest; both are left out.
fn draw(spec: &PlotSpec, kept: Kept<'_>) -> Result<Box<dyn Picture>> {
    let read = Readings::of(spec, kept, Site::PATTERN)?;
    let heads = read.heads.len();
    if read.layers.len() < 2 {
        return Err(refused(&spec.kind, "shows what flows between layers and wants the patterns of two at least"));
    }
    let moved: Vec<Tensor> = read.values.iter().map(moving).collect::<Result<_>>()?;
    let gathered: Vec<Tensor> =
        moved.iter().map(|moved| Ok(moved.f_sum_dim_intlist(-1, false, tch::Kind::Double)?)).collect::<Result<_>>()?;
    let mut links = Vec::new();
    for (later, moved) in moved.iter().enumerate() {
        for (earlier, gathered) in gathered.iter().take(later).enumerate() {
            // [later head, key] × [key, earlier head]; what the queries look at is a mean over them.
            let looked = moved.f_mean_dim(1_i64, false, tch::Kind::Double)?;
            let flow = looked.f_matmul(&gathered.f_transpose(0, 1)?)?;
            for (place, weight) in numbers(&flow)?.into_iter().enumerate() {
                links.push(Link { from: (earlier, place % heads), to: (later, place / heads), weight });
            }
        }
    }
    let notes = vec![
        "two-step attention: a mean over queries; steps to the own and to the first position are left out".to_owned(),
        "from patterns alone: it says where heads look, not what they carry".to_owned(),
    ];
    let title = title(spec, "Attention flow between heads");
    Ok(Box::new(HeadGraph {
        title,
        value: "attention in two steps".into(),
        layers: read.layers,
        heads: read.heads,
        links,
        notes,
    }))
}

/// A pattern without the steps to the own and to the first position: `[head, query, key]`.
fn moving(pattern: &Tensor) -> Result<Tensor> {
    let moved = pattern.f_tril(-1)?;
    let _ = moved.f_slice(2, 0, 1, 1)?.f_zero_()?;
    Ok(moved)
}

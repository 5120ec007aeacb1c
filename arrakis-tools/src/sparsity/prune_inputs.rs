//! What the maps of a block read: the norm of each of their inputs over a corpus.

use std::collections::HashMap;

use arrakis_core::{Context, HookPoint, Model, Result, Site, WeightPoint};
use tch::{Kind, Tensor};

use super::prunable::Prunable;
use crate::corpus_pass::CorpusPass;
use crate::map_inputs::MapInputs;
use crate::token_vectors;

/// The norm of each input of a map over the tokens of a corpus, by the map's weight: `[input]`.
pub(crate) fn norms(
    cx: &Context<'_>,
    pass: &CorpusPass,
    weights: &[(WeightPoint, Prunable)],
) -> Result<HashMap<WeightPoint, Tensor>> {
    let model = cx.model();
    let sources: Vec<(WeightPoint, MapInputs)> =
        weights.iter().filter_map(|(weight, part)| Some((*weight, source(model, *part, weight.layer?)))).collect();
    let mut points: Vec<HookPoint> = Vec::new();
    for (_, source) in &sources {
        if !points.contains(&source.point) {
            points.push(source.point);
        }
    }
    let mut sums: HashMap<WeightPoint, Tensor> = HashMap::new();
    pass.each(cx, |batch| {
        token_vectors::read(model, batch, &points, |point, vectors| {
            for (weight, source) in sources.iter().filter(|(_, source)| source.point == point) {
                let inputs = source.of(model, &vectors)?;
                let squares = inputs.f_square()?.f_sum_dim_intlist(0, false, Kind::Double)?;
                let sum = match sums.get(weight) {
                    Some(sum) => sum.f_add(&squares)?,
                    None => squares,
                };
                sums.insert(*weight, sum);
            }
            Ok(())
        })
    })?;
    sums.into_iter().map(|(weight, sum)| Ok((weight, sum.f_sqrt()?))).collect()
}

/// The inputs of a map.
fn source(model: &dyn Model, part: Prunable, layer: usize) -> MapInputs {
    match part {
        Prunable::Q | Prunable::K | Prunable::V => MapInputs::attention(layer),
        Prunable::O => MapInputs::plain(Site::Z.at(layer)),
        Prunable::Gate | Prunable::In => MapInputs::mlp(model, layer),
        Prunable::Out => MapInputs::plain(Site::MLP_POST.at(layer)),
    }
}

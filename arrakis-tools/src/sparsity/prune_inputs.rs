//! What the maps of a block read: the norm of each of their inputs over a corpus.

use std::collections::HashMap;

use arrakis_core::{Context, HookPoint, Model, Result, Site, Weight, WeightPoint};
use tch::{Kind, Tensor};

use super::prune::Prunable;
use crate::corpus_pass::CorpusPass;
use crate::token_vectors;

/// The norm of each input of a map over the tokens of a corpus, by the map's weight: `[input]`.
pub(crate) fn norms(
    cx: &Context<'_>,
    pass: &CorpusPass,
    weights: &[(WeightPoint, Prunable)],
) -> Result<HashMap<WeightPoint, Tensor>> {
    let model = cx.model();
    let sources: Vec<(WeightPoint, Source)> =
        weights.iter().filter_map(|(weight, part)| Some((*weight, Source::of(model, *part, weight.layer?)))).collect();
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
                let inputs = source.inputs(model, &vectors)?;
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

/// Where the inputs of a map are seen, and the norm's weight and bias between there and the map.
struct Source {
    point: HookPoint,
    scale: Option<WeightPoint>,
    shift: Option<WeightPoint>,
}

impl Source {
    fn of(model: &dyn Model, part: Prunable, layer: usize) -> Self {
        let normed = |site: Site, scale: Weight, shift: Weight| Self {
            point: site.at(layer),
            scale: Some(scale.at(layer)),
            shift: Some(shift.at(layer)),
        };
        let plain = |site: Site| Self { point: site.at(layer), scale: None, shift: None };
        match part {
            Prunable::O => plain(Site::Z),
            Prunable::Out => plain(Site::MLP_POST),
            // A parallel block may share the norm of attention.
            Prunable::Gate | Prunable::In if model.points().contains(&Site::LN2_NORMALIZED.at(layer)) => {
                normed(Site::LN2_NORMALIZED, Weight::LN2_W, Weight::LN2_B)
            }
            _ => normed(Site::LN1_NORMALIZED, Weight::LN1_W, Weight::LN1_B),
        }
    }

    /// What the map reads: `[token, input]`.
    fn inputs(&self, model: &dyn Model, vectors: &Tensor) -> Result<Tensor> {
        let mut inputs = vectors.shallow_clone();
        if let Some(scale) = self.scale.map(|scale| model.weight_if_any(scale)).transpose()?.flatten() {
            inputs = inputs.f_mul(&scale)?;
        }
        if let Some(shift) = self.shift.map(|shift| model.weight_if_any(shift)).transpose()?.flatten() {
            inputs = inputs.f_add(&shift)?;
        }
        Ok(inputs.f_to_kind(Kind::Double)?)
    }
}

//! What the linear maps of a block read, after the norm before them.

use arrakis_core::{HookPoint, Model, Result, Site, Weight, WeightPoint};
use tch::{Kind, Tensor};

/// Where the inputs of a map are seen, and the norm's weight and bias between there and the map.
pub(crate) struct MapInputs {
    /// Where they are seen.
    pub(crate) point: HookPoint,
    scale: Option<WeightPoint>,
    shift: Option<WeightPoint>,
}

impl MapInputs {
    /// What queries, keys and values are made of.
    pub(crate) const fn attention(layer: usize) -> Self {
        Self {
            point: Site::LN1_NORMALIZED.at(layer),
            scale: Some(Weight::LN1_W.at(layer)),
            shift: Some(Weight::LN1_B.at(layer)),
        }
    }

    /// What neurons are made of; a parallel block may share the norm of attention.
    pub(crate) fn mlp(model: &dyn Model, layer: usize) -> Self {
        let point = Site::LN2_NORMALIZED.at(layer);
        if !model.points().contains(&point) {
            return Self::attention(layer);
        }
        Self { point, scale: Some(Weight::LN2_W.at(layer)), shift: Some(Weight::LN2_B.at(layer)) }
    }

    /// What a map reads as it is at a point.
    pub(crate) const fn plain(point: HookPoint) -> Self {
        Self { point, scale: None, shift: None }
    }

    /// What the map reads, from the vectors at the point: `[token, input]`, in double.
    pub(crate) fn of(&self, model: &dyn Model, vectors: &Tensor) -> Result<Tensor> {
        let weight = |point: Option<WeightPoint>| point.map(|point| model.weight_if_any(point)).transpose();
        let mut inputs = vectors.f_to_kind(Kind::Double)?;
        if let Some(scale) = weight(self.scale)?.flatten() {
            inputs = inputs.f_mul(&scale)?;
        }
        if let Some(shift) = weight(self.shift)?.flatten() {
            inputs = inputs.f_add(&shift)?;
        }
        Ok(inputs)
    }
}

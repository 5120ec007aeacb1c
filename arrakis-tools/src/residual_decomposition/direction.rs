//! Parts of the residual stream on a direction.

use arrakis_core::{Model, Result};
use tch::Tensor;

use crate::Direction;

/// A direction that parts are projected on.
pub(super) struct Along {
    /// `[d_model]`, in double.
    vector: Tensor,
    /// What projections are divided by: `[pos]`.
    scale: Tensor,
}

impl Along {
    /// The direction where the final norm has that scale (`[pos]`).
    ///
    /// Towards a token, projections are parts of its logit, and the scale is that of the whole stream; towards anything
    /// else they are lengths along a vector of length 1.
    pub(super) fn of(direction: &Direction, model: &dyn Model, scale: &Tensor) -> Result<Self> {
        Ok(match direction {
            Direction::Token(_) | Direction::Difference { .. } => {
                Self { vector: direction.numbers(model, model.dims().d_model)?, scale: scale.shallow_clone() }
            }
            Direction::Vector(_) | Direction::Head { .. } => {
                Self { vector: direction.unit(model)?, scale: scale.f_ones_like()? }
            }
        })
    }

    /// What values of the stream project to: of `[…, pos, d_model]`, `[…, pos]`.
    pub(super) fn project(&self, values: &Tensor) -> Result<Tensor> {
        Ok(values.f_matmul(&self.vector)?.f_div(&self.scale)?)
    }

    /// The same of what is written (`[neuron, d_model]`) by activities (`[neuron, pos]`): `[neuron, pos]`.
    pub(super) fn project_written(&self, active: &Tensor, out: &Tensor) -> Result<Tensor> {
        Ok(active.f_mul(&out.f_matmul(&self.vector)?.f_unsqueeze(-1)?)?.f_div(&self.scale)?)
    }
}

/// What a projection is, with its unit.
pub(super) const fn label(direction: &Direction) -> &'static str {
    match direction {
        Direction::Difference { .. } => "logit difference",
        Direction::Token(_) => "logit",
        Direction::Vector(_) | Direction::Head { .. } => "length along the direction",
    }
}

//! The linear maps of a block, each as one matrix.

use arrakis_core::{Result, Weight};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::Tensor;

/// A linear map of a block that may be pruned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Prunable {
    /// Queries, all heads together.
    Q,
    /// Keys.
    K,
    /// Values.
    V,
    /// Output of attention.
    O,
    /// The activated side of a gated MLP.
    Gate,
    /// Into the neurons, or the linear side of a gated MLP.
    In,
    /// Out of the neurons.
    Out,
}

impl Prunable {
    pub(crate) const ALL: [Self; 7] = [Self::Q, Self::K, Self::V, Self::O, Self::Gate, Self::In, Self::Out];

    /// The weight of the map.
    pub(crate) const fn weight(self) -> Weight {
        match self {
            Self::Q => Weight::Q,
            Self::K => Weight::K,
            Self::V => Weight::V,
            Self::O => Weight::O,
            Self::Gate => Weight::GATE,
            Self::In => Weight::IN,
            Self::Out => Weight::OUT,
        }
    }

    /// The weight as `[input, output]`.
    pub(crate) fn flat(self, weight: &Tensor) -> Result<Tensor> {
        Ok(match self {
            Self::Q | Self::K | Self::V => weight.f_transpose(0, 1)?.f_flatten(1, 2)?,
            Self::O => weight.f_flatten(0, 1)?,
            Self::Gate | Self::In | Self::Out => weight.shallow_clone(),
        })
    }

    /// What [`flat`](Prunable::flat) made, in the weight's own shape again.
    pub(crate) fn folded(self, flat: &Tensor, size: &[i64]) -> Result<Tensor> {
        Ok(match self {
            Self::Q | Self::K | Self::V => {
                flat.f_view([size[1], size[0], size[2]])?.f_transpose(0, 1)?.f_contiguous()?
            }
            _ => flat.f_view(size)?,
        })
    }
}

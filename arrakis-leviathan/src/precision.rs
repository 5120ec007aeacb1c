//! What a training computes in.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::Kind;

use crate::{Error, Result};

/// What the passes of a training are computed in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Precision {
    /// Single precision.
    Float32,
    /// Double precision.
    Float64,
    /// bfloat16, in which weights, their gradients and the losses stay single.
    Bfloat16,
}

impl Precision {
    /// The precision of LibTorch's name for it.
    ///
    /// # Errors
    /// A kind that loses small gradients.
    pub fn of(kind: Kind) -> Result<Self> {
        let mut known = [Self::Float32, Self::Float64, Self::Bfloat16].into_iter();
        known.find(|precision| precision.kind() == kind).ok_or_else(|| {
            let why = format!("{kind:?} loses small gradients; train in float32, float64 or bfloat16");
            Error::config("dtype", why)
        })
    }

    /// LibTorch's name for what passes are computed in.
    #[must_use]
    pub const fn kind(self) -> Kind {
        match self {
            Self::Float32 => Kind::Float,
            Self::Float64 => Kind::Double,
            Self::Bfloat16 => Kind::BFloat16,
        }
    }

    /// LibTorch's name for what weights, gradients and losses are.
    #[must_use]
    pub const fn of_weights(self) -> Kind {
        match self {
            Self::Float32 | Self::Bfloat16 => Kind::Float,
            Self::Float64 => Kind::Double,
        }
    }
}

//! A direction of the residual stream that parts are projected on.

use arrakis_core::{Error, Model, Result, TokenChoice, Weight};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

/// What parts of the residual stream are projected on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum PartDirection {
    /// The unembedding of a token less that of another, after the final norm: a part of their logit difference.
    Difference {
        /// The right token.
        answer: TokenChoice,
        /// The token it is compared with.
        wrong: TokenChoice,
    },
    /// The unembedding of a token, after the final norm: a part of its logit.
    Token(TokenChoice),
    /// A vector of the stream, made a unit vector: the part's length along it.
    Vector(Vec<f64>),
}

impl PartDirection {
    /// The vector (`[d_model]`, in double), and whether parts go through the final norm before they are projected.
    pub(super) fn resolve(&self, model: &dyn Model) -> Result<(Tensor, bool)> {
        let unembed = || model.weight(Weight::U.global());
        let column = |token: &TokenChoice| -> Result<Tensor> {
            Ok(unembed()?.f_select(1, token.id(model)?)?.f_to_kind(Kind::Double)?)
        };
        match self {
            Self::Difference { answer, wrong } => Ok((column(answer)?.f_sub(&column(wrong)?)?, true)),
            Self::Token(token) => Ok((column(token)?, true)),
            Self::Vector(numbers) => {
                let refuse = |why: String| Err(Error::Invalid { what: "direction".into(), why });
                let d_model = model.dims().d_model;
                let length = numbers.iter().map(|number| number * number).sum::<f64>().sqrt();
                if numbers.len() != d_model {
                    return refuse(format!("it has {} numbers and the stream has {d_model}", numbers.len()));
                }
                if !length.is_finite() || length == 0.0 {
                    return refuse(format!("its length is {length}; give finite numbers that are not all 0"));
                }
                let vector = Tensor::f_from_slice(numbers)?.f_div_scalar(length)?;
                Ok((vector.f_to_device(model.device())?, false))
            }
        }
    }

    /// What a projection is, with its unit.
    pub(super) const fn label(&self) -> &'static str {
        match self {
            Self::Difference { .. } => "logit difference",
            Self::Token(_) => "logit",
            Self::Vector(_) => "length along the direction",
        }
    }
}

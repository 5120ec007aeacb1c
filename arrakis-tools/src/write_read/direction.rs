//! A direction of the residual stream, given by a token, a head, or its numbers.

use arrakis_core::{Error, Model, NormKind, Result, TokenChoice, Weight};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use super::maps;
use crate::HeadInput;
use crate::index;

/// A direction of the residual stream; its length is of no account.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum StreamDirection {
    /// What the logit of a token reads after the last layer: its unembedding times the final norm's weight.
    Token(TokenChoice),
    /// The same of the logit of one token minus that of another.
    Difference {
        /// The token that counts positively.
        answer: TokenChoice,
        /// The token that counts negatively.
        wrong: TokenChoice,
    },
    /// What a head reads: a singular direction of `W_Q W_Kᵀ` (for queries and keys) or of `W_V W_O` (for values).
    ///
    /// The norm's weight is folded in; rotation and the norms of queries and keys are left out. Its sign is such that
    /// the greatest entry is positive.
    Head {
        /// Layer and head.
        head: [usize; 2],
        /// Which of its inputs.
        side: HeadInput,
        /// Which singular direction; 0 is the one that is read most.
        #[serde(default)]
        component: usize,
    },
    /// Its `d_model` numbers.
    Vector(Vec<f64>),
}

/// A direction looked up.
pub(super) struct Unit {
    /// A vector of length 1, in double: `[d_model]`.
    pub(super) vector: Tensor,
    /// The layer before which it is read; the number of layers for a logit.
    pub(super) before: usize,
}

impl StreamDirection {
    /// The unit vector; an error if there is none.
    pub(super) fn unit(&self, model: &dyn Model) -> Result<Unit> {
        let dims = model.dims();
        let invalid = |why: String| Err(Error::Invalid { what: "direction".into(), why });
        let (vector, before) = match self {
            Self::Token(token) => (logit(model, token)?, dims.n_layers),
            Self::Difference { answer, wrong } => (logit(model, answer)?.f_sub(&logit(model, wrong)?)?, dims.n_layers),
            Self::Head { head, side, component } => {
                let (layer, head) = index::head(dims, *head)?;
                (read_by_head(model, layer, head, *side, *component)?, layer)
            }
            Self::Vector(numbers) => {
                if numbers.len() != dims.d_model {
                    return invalid(format!("{} numbers where d_model is {}", numbers.len(), dims.d_model));
                }
                (Tensor::f_from_slice(numbers)?.f_to_device(model.device())?, dims.n_layers)
            }
        };
        let length = vector.f_norm()?.f_double_value(&[])?;
        if !length.is_finite() || length == 0.0 {
            return invalid(format!("its length is {length}; give one that is finite and not 0"));
        }
        Ok(Unit { vector: vector.f_div_scalar(length)?, before })
    }
}

/// What the logit of a token reads of the stream, but for the scale of the final norm: `[d_model]`.
fn logit(model: &dyn Model, token: &TokenChoice) -> Result<Tensor> {
    let mut column = model.weight(Weight::U.global())?.f_select(1, token.id(model)?)?.f_to_kind(Kind::Double)?;
    if let Some(norm) = model.weight_if_any(Weight::LN_FINAL_W.global())? {
        column = column.f_mul(&norm.f_to_kind(Kind::Double)?)?;
    }
    Ok(match model.dims().norm {
        NormKind::Layer => column.f_sub(&column.f_mean(Kind::Double)?)?,
        NormKind::Rms => column,
    })
}

/// A left singular vector of the circuit by which a head reads one of its inputs: `[d_model]`.
fn read_by_head(model: &dyn Model, layer: usize, head: usize, side: HeadInput, component: usize) -> Result<Tensor> {
    let dims = model.dims();
    let most = dims.d_head.min(dims.d_model);
    if component >= most {
        return Err(Error::OutOfRange { what: "component".into(), index: component as i64, len: most as i64 });
    }
    let group = (head / (dims.n_heads / dims.n_kv_heads)) as i64;
    let query = || -> Result<Tensor> { Ok(maps::heads_read(model, Weight::Q, layer)?.f_get(head as i64)?) };
    let key = || -> Result<Tensor> { Ok(maps::heads_read(model, Weight::K, layer)?.f_get(group)?) };
    let (reads, beside) = match side {
        HeadInput::Q => (query()?, key()?),
        HeadInput::K => (key()?, query()?),
        HeadInput::V => {
            let writes = model.weight(Weight::O.at(layer))?.f_get(head as i64)?.f_to_kind(Kind::Double)?;
            (maps::heads_read(model, Weight::V, layer)?.f_get(group)?, writes.f_transpose(0, 1)?)
        }
    };
    // The product is d_model wide and of rank d_head: its singular vectors are those of a small matrix.
    let (basis, own) = Tensor::f_linalg_qr(&reads, "reduced")?;
    let (_, other) = Tensor::f_linalg_qr(&beside, "reduced")?;
    let (left, _, _) = own.f_matmul(&other.f_transpose(0, 1)?)?.f_svd(true, true)?;
    let vector = basis.f_matmul(&left.f_select(1, component as i64)?)?;
    let greatest = vector.f_abs()?.f_argmax(0, false)?;
    Ok(vector.f_mul(&vector.f_index_select(0, &greatest.f_reshape([1])?)?.f_sign()?)?)
}

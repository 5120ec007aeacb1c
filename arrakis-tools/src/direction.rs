//! A direction of activations, given by its numbers, a token, a pair of tokens, or a head.

use arrakis_core::{Error, Model, Result, TokenChoice, Weight};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use crate::write_read::maps;
use crate::{HeadInput, index, lags, token_effects};

/// A direction of the residual stream, or of the activations at another place if it is given by its numbers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Direction {
    /// Its numbers, as many as there are at the place where it is read.
    Vector(Vec<f64>),
    /// What the logit of a token reads after the last layer: its unembedding with the final norm's weight folded in.
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
    /// the greatest entry is positive. Lags of queries and keys multiply the product by a number, which leaves its
    /// directions as they are.
    Head {
        /// Layer and head.
        head: [usize; 2],
        /// Which of its inputs.
        side: HeadInput,
        /// Which singular direction; 0 is the one that is read most.
        #[serde(default)]
        component: usize,
    },
}

impl Direction {
    /// The numbers, in double: `[width]`; an error if they are not `width` finite ones that point somewhere.
    pub(crate) fn numbers(&self, model: &dyn Model, width: usize) -> Result<Tensor> {
        let refuse = |why: String| Error::Invalid { what: "direction".into(), why };
        let numbers = match self {
            Self::Vector(numbers) => {
                if let Some(place) = numbers.iter().position(|number| !number.is_finite()) {
                    return Err(refuse(format!("entry {place} is {}", numbers[place])));
                }
                Tensor::f_from_slice(numbers)?.f_to_device(model.device())?
            }
            Self::Token(token) => token_effects::folded(model, &[token.id(model)?])?.f_select(1, 0)?,
            Self::Difference { answer, wrong } => {
                let both = [answer.id(model)?, wrong.id(model)?];
                if both[0] == both[1] {
                    let token = model.token(both[0]);
                    return Err(refuse(format!("`{token}` is compared with itself; give two different tokens")));
                }
                let both = token_effects::folded(model, &both)?;
                both.f_select(1, 0)?.f_sub(&both.f_select(1, 1)?)?
            }
            Self::Head { head, side, component } => {
                let (layer, head) = index::head(model.dims(), *head)?;
                read_by_head(model, layer, head, *side, *component)?
            }
        };
        let found = numbers.numel();
        if found != width {
            return Err(refuse(format!("it has {found} numbers where {width} are wanted")));
        }
        let length = numbers.f_norm()?.f_double_value(&[])?;
        if !length.is_finite() || length == 0.0 {
            return Err(refuse(format!("its length is {length}; give finite numbers that are not all 0")));
        }
        Ok(numbers)
    }

    /// The numbers in the residual stream, as a vector of length 1: `[d_model]`, in double.
    pub(crate) fn unit(&self, model: &dyn Model) -> Result<Tensor> {
        let numbers = self.numbers(model, model.dims().d_model)?;
        Ok(numbers.f_div(&numbers.f_norm()?)?)
    }
}

/// A left singular vector of the circuit by which a head reads one of its inputs: `[d_model]`.
fn read_by_head(model: &dyn Model, layer: usize, head: usize, side: HeadInput, component: usize) -> Result<Tensor> {
    let dims = model.dims();
    let most = dims.d_head.min(dims.d_model);
    if component >= most {
        return Err(Error::OutOfRange { what: "component".into(), index: component as i64, len: most as i64 });
    }
    let group = (head / (dims.n_heads / dims.n_kv_heads)) as i64;
    if side != HeadInput::V {
        lags::check(model, layer)?;
    }
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

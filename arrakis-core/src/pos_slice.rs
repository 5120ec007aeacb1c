//! Which positions of a value are wanted.

use tch::Tensor;

use crate::{Error, Result, last_real};

/// The wanted positions of the rows of a batch, as TransformerLens' `pos_slice`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum PosSlice {
    /// Every position.
    #[default]
    All,
    /// Each row's last real token.
    Last,
    /// These positions of every row, padding counted; negative ones count from the end.
    At(Vec<i64>),
    /// None.
    None,
}

impl PosSlice {
    /// How many of `len` positions are wanted.
    #[must_use]
    pub fn count(&self, len: i64) -> i64 {
        match self {
            Self::All => len,
            Self::Last => 1,
            Self::At(positions) => positions.len() as i64,
            Self::None => 0,
        }
    }

    /// The wanted positions of `value` along `dimension`, which keeps its place: a copy, unless all are wanted.
    ///
    /// `mask` (`[batch, pos]`) says which tokens are real, and the batch is the first dimension.
    pub fn of(&self, value: &Tensor, dimension: usize, mask: Option<&Tensor>) -> Result<Tensor> {
        let size = value.size();
        let len = size[dimension];
        match self {
            Self::All => Ok(value.shallow_clone()),
            Self::None => Ok(value.f_narrow(dimension as i64, 0, 0)?.f_contiguous()?),
            Self::At(positions) => {
                let places = positions.iter().map(|position| place(*position, len)).collect::<Result<Vec<i64>>>()?;
                Ok(value
                    .f_index_select(dimension as i64, &Tensor::f_from_slice(&places)?.f_to_device(value.device())?)?)
            }
            Self::Last => {
                let real = match mask {
                    Some(mask) if mask.size()[1] != len => Some(mask.f_narrow(1, mask.size()[1] - len, len)?),
                    Some(mask) => Some(mask.shallow_clone()),
                    None => return Ok(value.f_narrow(dimension as i64, len - 1, 1)?.f_contiguous()?),
                };
                let last = last_real(real.as_ref(), size[0], len)?.f_to_device(value.device())?;
                let (mut ones, mut wanted) = (vec![1; size.len()], size.clone());
                (ones[0], wanted[dimension]) = (size[0], 1);
                Ok(value.f_gather(dimension as i64, &last.f_view(&ones[..])?.f_expand(&wanted[..], false)?, false)?)
            }
        }
    }
}

/// The place of a position among `len`; negative ones count from the end.
fn place(position: i64, len: i64) -> Result<i64> {
    let at = if position < 0 { position + len } else { position };
    if (0..len).contains(&at) {
        return Ok(at);
    }
    Err(Error::OutOfRange { what: "position".into(), index: position, len })
}

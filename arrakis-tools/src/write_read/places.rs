//! One position of each row, picked on the way.

use arrakis_core::{Model, Result, Tokens};
use tch::{Kind, Tensor};

use crate::index;

/// One position of each row.
pub(super) struct Places {
    rows: Tensor,
    positions: Tensor,
}

impl Places {
    /// The position in every row; each row's last one if absent.
    pub(super) fn of(model: &dyn Model, tokens: &Tokens, position: Option<i64>) -> Result<Self> {
        let positions: Vec<i64> = (0..tokens.batch())
            .map(|row| index::position(position.unwrap_or(-1), tokens.row(row)?.len()))
            .collect::<Result<_>>()?;
        Ok(Self {
            rows: Tensor::f_arange(tokens.batch() as i64, (Kind::Int64, model.device()))?,
            positions: Tensor::f_from_slice(&positions)?.f_to_device(model.device())?,
        })
    }

    /// The value (`[row, pos, …]`) there, in double: `[row, …]`.
    pub(super) fn pick(&self, value: &Tensor) -> Result<Tensor> {
        Ok(value.f_index(&[Some(&self.rows), Some(&self.positions)])?.f_to_kind(Kind::Double)?)
    }
}

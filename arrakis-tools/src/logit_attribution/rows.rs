//! The positions at which the rows of a batch are read, and the logits there.

use arrakis_core::{Model, PosSlice, Result, Tokens, Weight};
use tch::{Kind, Tensor};

use crate::columns::columns;
use crate::index;

/// One position of each row, checked.
pub(crate) struct ReadRows {
    /// `[batch]`, 0, 1, 2 …
    rows: Tensor,
    /// `[batch]`.
    positions: Tensor,
    /// The wanted positions, each once, and where each row's is among them.
    wanted: Vec<i64>,
    /// `[batch]`.
    places: Tensor,
}

impl ReadRows {
    /// A position counted over each row's real tokens; the last one if absent.
    pub(crate) fn of(model: &dyn Model, tokens: &Tokens, position: Option<i64>) -> Result<Self> {
        let positions: Vec<i64> = (0..tokens.batch())
            .map(|row| index::position(position.unwrap_or(-1), tokens.row(row)?.len()))
            .collect::<Result<_>>()?;
        let mut wanted = positions.clone();
        wanted.sort_unstable();
        wanted.dedup();
        let places: Vec<i64> =
            positions.iter().map(|position| wanted.partition_point(|known| known < position) as i64).collect();
        let device = model.device();
        Ok(Self {
            rows: Tensor::f_arange(tokens.batch() as i64, (Kind::Int64, device))?,
            positions: Tensor::f_from_slice(&positions)?.f_to_device(device)?,
            wanted,
            places: Tensor::f_from_slice(&places)?.f_to_device(device)?,
        })
    }

    /// The logits that [`Self::logits`] picks from.
    pub(crate) fn wanted(&self) -> PosSlice {
        PosSlice::At(self.wanted.clone())
    }

    /// The value of each row at its position (`[batch, …]`), in double.
    pub(crate) fn at(&self, value: &Tensor) -> Result<Tensor> {
        Ok(value.f_index(&[Some(&self.rows), Some(&self.positions)])?.f_to_kind(Kind::Double)?)
    }

    /// The logits of each row at its position, of the wanted ones: `[batch, vocab]`, in double.
    pub(crate) fn logits(&self, logits: &Tensor) -> Result<Tensor> {
        Ok(logits.f_index(&[Some(&self.rows), Some(&self.places)])?.f_to_kind(Kind::Double)?)
    }
}

/// The logit of `answer` less that of `wrong`, ids of each row (`[batch]`), of logits (`[batch, vocab]`): `[batch]`.
pub(crate) fn difference(logits: &Tensor, answer: &Tensor, wrong: Option<&Tensor>) -> Result<Tensor> {
    let own = |ids: &Tensor| logits.f_gather(-1, &ids.f_unsqueeze(-1)?, false)?.f_squeeze_dim(-1);
    Ok(match wrong {
        Some(wrong) => own(answer)?.f_sub(&own(wrong)?)?,
        None => own(answer)?,
    })
}

/// The unembedding of `answer` less that of `wrong`, ids of each row (`[batch]`): `[batch, d_model]`, in double.
pub(crate) fn direction(model: &dyn Model, answer: &Tensor, wrong: Option<&Tensor>) -> Result<Tensor> {
    let unembed = model.weight(Weight::U.global())?;
    let column = |ids: &Tensor| -> Result<Tensor> { Ok(columns(&unembed, ids)?.f_transpose(0, 1)?) };
    Ok(match wrong {
        Some(wrong) => column(answer)?.f_sub(&column(wrong)?)?,
        None => column(answer)?,
    })
}

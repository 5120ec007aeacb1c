//! Token ids in a batch, and the prompts they come from.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use crate::{Error, Model, Result};

/// A batch of token ids, with a mask where some are padding.
#[derive(Debug)]
pub struct Tokens {
    ids: Tensor,
    mask: Option<Tensor>,
}

impl Tokens {
    /// A batch of rows; shorter ones are padded on the right, and the mask says so.
    pub fn from_rows(rows: &[Vec<i64>]) -> Result<Self> {
        let len = rows.iter().map(Vec::len).max().unwrap_or(0);
        if rows.iter().any(Vec::is_empty) || len == 0 {
            return Err(Error::EmptyPrompt);
        }
        let shape = [rows.len() as i64, len as i64];
        let padded = |pad: i64, value: &dyn Fn(i64) -> i64| -> Vec<i64> {
            let row = |row: &Vec<i64>| {
                let mut row: Vec<i64> = row.iter().map(|id| value(*id)).collect();
                row.resize(len, pad);
                row
            };
            rows.iter().flat_map(row).collect()
        };
        let ids = Tensor::f_from_slice(&padded(0, &|id| id))?.f_view(shape)?;
        let ragged = rows.iter().any(|row| row.len() != len);
        let mask = if ragged {
            Some(Tensor::f_from_slice(&padded(0, &|_| 1))?.f_view(shape)?.f_to_kind(Kind::Bool)?)
        } else {
            None
        };
        Ok(Self { ids, mask })
    }

    /// One row.
    pub fn from_ids(ids: &[i64]) -> Result<Self> {
        Self::from_rows(&[ids.to_vec()])
    }

    /// A batch of ids (`[batch, pos]`), all of them real.
    pub fn from_tensor(ids: &Tensor) -> Result<Self> {
        let size = ids.size();
        if size.len() != 2 {
            let why = format!("shape {size:?} where [batch, pos] is wanted");
            return Err(Error::Invalid { what: "token ids".into(), why });
        }
        if size[0] == 0 || size[1] == 0 {
            return Err(Error::EmptyPrompt);
        }
        if !matches!(ids.kind(), Kind::Int64 | Kind::Int | Kind::Int16 | Kind::Uint8) {
            let why = format!("kind {:?} where whole numbers are wanted", ids.kind());
            return Err(Error::Invalid { what: "token ids".into(), why });
        }
        Ok(Self { ids: ids.f_to_kind(Kind::Int64)?, mask: None })
    }

    /// The same ids with a mask (`[batch, pos]`, true where a token is real).
    pub fn with_mask(self, mask: &Tensor) -> Result<Self> {
        if mask.size() != self.ids.size() {
            let why = format!("shape {:?} for token ids {:?}", mask.size(), self.ids.size());
            return Err(Error::Invalid { what: "mask".into(), why });
        }
        let mask = mask.f_to_kind(Kind::Bool)?;
        if mask.f_any_dim(1, false)?.f_all()?.f_int64_value(&[])? == 0 {
            return Err(Error::EmptyPrompt);
        }
        let whole = mask.f_all()?.f_int64_value(&[])? != 0;
        Ok(Self { ids: self.ids, mask: (!whole).then_some(mask) })
    }

    /// The ids: `[batch, pos]`.
    pub fn ids(&self) -> &Tensor {
        &self.ids
    }

    /// True where a token is real, if some are padding: `[batch, pos]`.
    #[must_use]
    pub fn mask(&self) -> Option<&Tensor> {
        self.mask.as_ref()
    }

    /// Rows.
    #[must_use]
    pub fn batch(&self) -> usize {
        self.ids.size()[0] as usize
    }

    /// Positions, padding included.
    #[must_use]
    pub fn positions(&self) -> usize {
        self.ids.size()[1] as usize
    }

    /// Each row's last real position: `[batch]`.
    pub fn last(&self) -> Result<Tensor> {
        last_real(self.mask.as_ref(), self.batch() as i64, self.positions() as i64)
    }

    /// The real ids of a row.
    pub fn row(&self, row: usize) -> Result<Vec<i64>> {
        if row >= self.batch() {
            return Err(Error::OutOfRange { what: "row".into(), index: row as i64, len: self.batch() as i64 });
        }
        let ids = self.ids.f_get(row as i64)?;
        let ids = match &self.mask {
            Some(mask) => ids.f_masked_select(&mask.f_get(row as i64)?)?,
            None => ids,
        };
        Ok(Vec::try_from(ids)?)
    }

    /// The texts of a row's positions, padding included: labels for an axis.
    pub fn labels(&self, model: &dyn Model, row: usize) -> Result<Vec<String>> {
        if row >= self.batch() {
            return Err(Error::OutOfRange { what: "row".into(), index: row as i64, len: self.batch() as i64 });
        }
        let ids: Vec<i64> = Vec::try_from(self.ids.f_get(row as i64)?)?;
        Ok(ids.into_iter().map(|id| model.token(id)).collect())
    }
}

impl Clone for Tokens {
    fn clone(&self) -> Self {
        Self { ids: self.ids.shallow_clone(), mask: self.mask.as_ref().map(Tensor::shallow_clone) }
    }
}

/// The last true position of each row of `mask`, or the last of `len` positions without one: `[batch]`.
pub fn last_real(mask: Option<&Tensor>, batch: i64, len: i64) -> Result<Tensor> {
    let Some(mask) = mask else {
        return Ok(Tensor::f_full([batch], len - 1, (Kind::Int64, tch::Device::Cpu))?);
    };
    let places = Tensor::f_arange(len, (Kind::Int64, mask.device()))?;
    Ok(mask.f_to_kind(Kind::Int64)?.f_mul(&places)?.f_amax([1], false)?)
}

/// What a tool reads: a text, several texts, token ids, or rows of token ids.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Prompt {
    /// One text.
    Text(String),
    /// Several texts, one row each.
    Texts(Vec<String>),
    /// The token ids of one row.
    Ids(Vec<i64>),
    /// Rows of token ids.
    Rows(Vec<Vec<i64>>),
}

impl Prompt {
    /// The tokens of the prompt.
    pub fn tokens(&self, model: &dyn Model) -> Result<Tokens> {
        match self {
            Self::Text(text) => Tokens::from_rows(&[model.encode(text)?]),
            Self::Texts(texts) => {
                let rows: Result<Vec<Vec<i64>>> = texts.iter().map(|text| model.encode(text)).collect();
                Tokens::from_rows(&rows?)
            }
            Self::Ids(ids) => Tokens::from_ids(ids),
            Self::Rows(rows) => Tokens::from_rows(rows),
        }
    }
}

impl From<&str> for Prompt {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

/// One token: its id, or a text that is exactly one token (mind the leading space: `" Mary"`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum TokenChoice {
    /// The id.
    Id(i64),
    /// The text.
    Text(String),
}

impl TokenChoice {
    /// The id; an error if it is not in the vocabulary or the text is not exactly one token.
    pub fn id(&self, model: &dyn Model) -> Result<i64> {
        match self {
            Self::Id(token) => {
                let vocab = model.dims().vocab as i64;
                if (0..vocab).contains(token) {
                    return Ok(*token);
                }
                Err(Error::OutOfRange { what: "token id".into(), index: *token, len: vocab })
            }
            Self::Text(text) => model.token_id(text),
        }
    }
}

impl From<&str> for TokenChoice {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<i64> for TokenChoice {
    fn from(id: i64) -> Self {
        Self::Id(id)
    }
}

//! How much a pattern looks like that of a known kind of head.

use arrakis_core::Result;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor};

/// How heads are scored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum HeadMethod {
    /// Mean attention along a diagonal of the pattern, over a sequence given twice.
    #[default]
    Pattern,
    /// TransformerLens' head detector, `mul`: the share of attention that lies on the expected pairs.
    Mul,
    /// TransformerLens' head detector, `abs`: 1 minus the mean absolute difference, times the length.
    Abs,
}

/// The kinds of head that are looked for, in the order of [`Expected::of`].
pub(crate) const KINDS: [&str; 3] = ["previous_token", "duplicate_token", "induction"];

/// The pairs of query and key that each kind of head is expected to attend to.
pub(crate) struct Expected {
    /// `[kind, query, key]`, ones and zeros in double.
    pairs: Tensor,
    /// `[query, key]`, zero where attention is left out of account.
    counted: Tensor,
    method: HeadMethod,
}

impl Expected {
    /// What is expected over a sequence whose last `2 * half` tokens are one given twice: whole diagonals, `1`, `half`
    /// and `half - 1` below the main one.
    pub(crate) fn diagonals(len: i64, half: i64, device: Device) -> Result<Self> {
        let diagonal = |offset: i64| -> Result<Tensor> {
            Ok(Tensor::f_ones([len - offset], (Kind::Double, device))?.f_diag_embed(-offset, 0, 1)?)
        };
        let pairs = Tensor::f_stack(&[diagonal(1)?, diagonal(half)?, diagonal(half - 1)?], 0)?;
        let counted = Tensor::f_ones([len, len], (Kind::Double, device))?;
        Ok(Self { pairs, counted, method: HeadMethod::Pattern })
    }

    /// What TransformerLens' detector expects over any tokens: the key just before the query; earlier keys with the
    /// query's token; keys just after such ones.
    pub(crate) fn by_token(
        ids: &[i64],
        method: HeadMethod,
        exclude_first: bool,
        exclude_current: bool,
        device: Device,
    ) -> Result<Self> {
        let len = ids.len();
        let double = |holds: &dyn Fn(usize, usize) -> bool| -> Result<Tensor> {
            let cells = (0..len).flat_map(|query| (0..len).map(move |key| (query, key)));
            let values: Vec<f64> = cells.map(|(query, key)| f64::from(u8::from(holds(query, key)))).collect();
            Ok(Tensor::f_from_slice(&values)?.f_view([len as i64, len as i64])?.f_to_device(device)?)
        };
        let duplicate = |query: usize, key: usize| key < query && ids[key] == ids[query];
        let pairs = [
            double(&|query, key| key + 1 == query)?,
            double(&duplicate)?,
            double(&|query, key| key > 0 && key <= query && duplicate(query, key - 1))?,
        ];
        let counted = double(&|query, key| !(exclude_first && key == 0 || exclude_current && key == query))?;
        Ok(Self { pairs: Tensor::f_stack(&pairs, 0)?, counted, method })
    }

    /// The scores of `pattern` (`[head, query, key]`, double): `[kind, head]`.
    ///
    /// A head whose whole attention is left out of account has the score NaN under `mul`.
    pub(crate) fn scores(&self, pattern: &Tensor) -> Result<Tensor> {
        let cells = |values: &Tensor| values.f_sum_dim_intlist(&[-2_i64, -1][..], false, Kind::Double);
        let pattern = pattern.f_mul(&self.counted)?.f_unsqueeze(0)?;
        let pairs = self.pairs.f_mul(&self.counted)?.f_unsqueeze(1)?;
        Ok(match self.method {
            HeadMethod::Pattern => cells(&pattern.f_mul(&pairs)?)?.f_div(&cells(&pairs)?)?,
            HeadMethod::Mul => cells(&pattern.f_mul(&pairs)?)?.f_div(&cells(&pattern)?)?,
            HeadMethod::Abs => {
                let len = Tensor::f_from_slice(&[self.pairs.size()[2] as f64])?.f_to_device(pattern.device())?;
                cells(&pattern.f_sub(&pairs)?.f_abs()?)?.f_div(&len)?.f_neg()?.f_add_scalar(1.0)?
            }
        })
    }
}

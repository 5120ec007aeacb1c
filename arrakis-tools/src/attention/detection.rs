//! How much a pattern looks like that of a known kind of head.

use arrakis_core::Result;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor};

/// How heads are scored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum HeadMethod {
    /// Mean attention to the expected key, over a sequence given twice: of the tokens that have one before them, or of
    /// those given for the second time.
    #[default]
    Pattern,
    /// Mean attention along whole diagonals, as in TransformerLens' demos: `pattern`, and one or two queries before the
    /// second time, which look at the first token.
    Diagonal,
    /// TransformerLens' head detector, `mul`: the share of attention that lies on the expected pairs.
    Mul,
    /// TransformerLens' head detector, `abs`: 1 minus the mean absolute difference, times the length.
    Abs,
}

impl HeadMethod {
    /// Whether the method is about a sequence given twice.
    pub(crate) const fn wants_repeat(self) -> bool {
        matches!(self, Self::Pattern | Self::Diagonal)
    }
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
    /// What is expected over a sequence whose last `2 * half` tokens are one given twice: the keys 1, `half` and
    /// `half - 1` before the query, the latter two for the second time only unless `method` takes whole diagonals.
    pub(crate) fn repeated(len: i64, half: i64, method: HeadMethod, device: Device) -> Result<Self> {
        let options = (Kind::Double, device);
        let diagonal = |offset: i64, queries: i64| -> Result<Tensor> {
            let queries = if method == HeadMethod::Diagonal { len - offset } else { queries };
            let skipped = len - offset - queries;
            let ones = Tensor::f_cat(&[Tensor::f_zeros([skipped], options)?, Tensor::f_ones([queries], options)?], 0)?;
            Ok(ones.f_diag_embed(-offset, 0, 1)?)
        };
        let pairs = [diagonal(1, len - 1)?, diagonal(half, half)?, diagonal(half - 1, half)?];
        Ok(Self { pairs: Tensor::f_stack(&pairs, 0)?, counted: Tensor::f_ones([len, len], options)?, method })
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
            HeadMethod::Pattern | HeadMethod::Diagonal => cells(&pattern.f_mul(&pairs)?)?.f_div(&cells(&pairs)?)?,
            HeadMethod::Mul => cells(&pattern.f_mul(&pairs)?)?.f_div(&cells(&pattern)?)?,
            HeadMethod::Abs => {
                let len = Tensor::f_from_slice(&[self.pairs.size()[2] as f64])?.f_to_device(pattern.device())?;
                cells(&pattern.f_sub(&pairs)?.f_abs()?)?.f_div(&len)?.f_neg()?.f_add_scalar(1.0)?
            }
        })
    }
}

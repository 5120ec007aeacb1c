//! Scores by cross-correlation: queries and keys are signals that may lag, and a lag matrix weighs the lags.
//!
//! `C(t, s) = Σ_{l<W} Σ_{m<W} A[l, m] · q_{t-l} · k_{s-m} / √d_head`, terms before the first position dropped. Every
//! form is the dot product of queries and keys that were made to lag beforehand, so the kernels of attention serve it.

use arrakis_core::Result;
use tch::{Device, Kind, Tensor};

use crate::linear::by_row;

/// The lag weights of a block's heads, one row for each model of the stack.
#[derive(Debug)]
pub enum LagWeights {
    /// The diagonal of `A`: `[stack, head, lag]`.
    Diagonal(Tensor),
    /// The terms of `A = Σ_r α_r β_rᵀ`: twice `[stack, head, rank, lag]`.
    Terms {
        /// Weights of the query lags, `α`.
        query: Tensor,
        /// Weights of the key lags, `β`.
        key: Tensor,
    },
}

impl LagWeights {
    /// The lags of each signal, the present included.
    #[must_use]
    pub fn window(&self) -> i64 {
        let weights = match self {
            Self::Diagonal(weights) => weights,
            Self::Terms { query, .. } => query,
        };
        weights.size().last().copied().unwrap_or(1)
    }

    /// The lag matrix of each head: `[stack, head, query lag, key lag]`.
    pub fn matrix(&self) -> Result<Tensor> {
        match self {
            Self::Diagonal(weights) => Ok(weights.f_diag_embed(0, -2, -1)?),
            Self::Terms { query, key } => Ok(query.f_transpose(2, 3)?.f_matmul(key)?),
        }
    }

    /// Queries and keys (side by side along heads: `[stack * batch, pos, 2 * head, d_head]`) whose dot product is the
    /// correlation: `[stack * batch, pos, 2 * head, width]`.
    pub fn lagged(&self, qk: &Tensor) -> Result<Tensor> {
        match self {
            Self::Diagonal(weights) => {
                // The lags of both signals side by side; the weight is on the queries alone.
                let ones = weights.f_ones_like()?;
                let both = Tensor::f_cat(&[weights, &ones], 1)?;
                let shifted = shifted(qk, self.window())?;
                let terms = shifted.iter().zip(0..).map(|(x, lag)| scaled(x, &both.f_select(2, lag)?));
                Ok(Tensor::f_cat(&terms.collect::<Result<Vec<Tensor>>>()?, 3)?)
            }
            Self::Terms { query, key } => {
                let both = Tensor::f_cat(&[query, key], 1)?;
                let shifted = shifted(qk, self.window())?;
                let ranks = both.size()[2];
                let terms = (0..ranks).map(|rank| filtered(&shifted, &both.f_select(2, rank)?));
                let mut terms = terms.collect::<Result<Vec<Tensor>>>()?;
                match terms.len() {
                    1 => Ok(terms.remove(0)),
                    _ => Ok(Tensor::f_cat(&terms, 3)?),
                }
            }
        }
    }
}

/// Scores of a lag matrix of each row (`[batch, head, lag, lag]`), without the scale: `[batch, head, query, key]`.
///
/// `q` has the last positions of the text, or all of them, with the `past` before them; `k` has all: `[batch, pos, head,
/// d_head]`. For whoever looks at the lags, or edits them; [`LagWeights::lagged`] is quicker.
pub fn scores(matrix: &Tensor, q: &Tensor, k: &Tensor, past: i64) -> Result<Tensor> {
    let window = matrix.size()[3];
    let stacked = |x: &Tensor| -> Result<Tensor> { Ok(Tensor::f_stack(&shifted(x, window)?, 3)?.f_transpose(1, 2)?) };
    let queries = stacked(q)?.f_narrow(2, past, q.size()[1] - past)?.f_flatten(3, 4)?;
    let keys = matrix.f_unsqueeze(2)?.f_matmul(&stacked(k)?)?.f_flatten(3, 4)?;
    Ok(queries.f_matmul(&keys.f_transpose(2, 3)?)?)
}

/// `x` (`[batch, pos, head, d_head]`) at every lag: each position has what lay so far before it, zeros where nothing did.
fn shifted(x: &Tensor, window: i64) -> Result<Vec<Tensor>> {
    let len = x.size()[1];
    let padded = x.f_constant_pad_nd([0, 0, 0, 0, window - 1, 0])?;
    (0..window)
        .map(|lag| if lag == 0 { Ok(x.shallow_clone()) } else { Ok(padded.f_narrow(1, window - 1 - lag, len)?) })
        .collect()
}

/// `x` (`[stack * batch, pos, head, d_head]`) times `[stack, head]`.
fn scaled(x: &Tensor, weight: &Tensor) -> Result<Tensor> {
    Ok(x.f_mul(&row_weight(x, weight)?)?)
}

/// The sum of signals at all lags, each times its weight: `weights` is `[stack, head, lag]`.
fn filtered(shifted: &[Tensor], weights: &Tensor) -> Result<Tensor> {
    let mut sum: Option<Tensor> = None;
    for (lag, x) in shifted.iter().enumerate() {
        let weight = row_weight(x, &weights.f_select(2, lag as i64)?)?;
        sum = Some(match sum {
            None => x.f_mul(&weight)?,
            Some(sum) => sum.f_addcmul(x, &weight)?,
        });
    }
    sum.ok_or_else(|| arrakis_core::Error::Invalid { what: "lags".into(), why: "there are none".into() })
}

fn row_weight(x: &Tensor, weight: &Tensor) -> Result<Tensor> {
    Ok(by_row(weight, x.size()[0])?.f_unsqueeze(1)?.f_unsqueeze(3)?)
}

/// Attention over queries and keys that may be wider than the values: `[batch, head, pos, d_head]`.
///
/// `allowed` is true where a key may be seen, and `causal` stands for the usual mask.
pub fn attend(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    (allowed, causal): (Option<&Tensor>, bool),
    scale: f64,
) -> Result<Tensor> {
    let (wide, width) = (q.size()[3], v.size()[3]);
    if causal && q.device() == Device::Cpu {
        return in_blocks(q, k, v, scale);
    }
    if wide == width {
        return Ok(Tensor::f_scaled_dot_product_attention(q, k, v, allowed, 0.0, causal, Some(scale), false)?);
    }
    // The fused kernels want one width.
    let padded = v.f_constant_pad_nd([0, wide - width])?;
    let mixed = Tensor::f_scaled_dot_product_attention(q, k, &padded, allowed, 0.0, causal, Some(scale), false)?;
    Ok(mixed.f_narrow(3, 0, width)?)
}

/// Queries in one block of [`in_blocks`]: few enough that little above the diagonal is computed.
const BLOCK: i64 = 64;

/// Causal attention in blocks of queries, each over the keys up to its end: quicker than the fused kernel on the CPU,
/// whose backward pass computes the scores again.
fn in_blocks(q: &Tensor, k: &Tensor, v: &Tensor, scale: f64) -> Result<Tensor> {
    let (size, len) = (v.size(), q.size()[2]);
    let q = q.f_mul_scalar(scale)?.f_flatten(0, 1)?;
    let (k, v) = (k.f_flatten(0, 1)?, v.f_flatten(0, 1)?);
    let mut mixed = Vec::new();
    for first in (0..len).step_by(BLOCK as usize) {
        let rows = BLOCK.min(len - first);
        let end = first + rows;
        let mask = Tensor::f_full([rows, end], f64::NEG_INFINITY, (q.kind(), q.device()))?.f_triu(first + 1)?;
        let keys = k.f_narrow(1, 0, end)?.f_transpose(1, 2)?;
        let scores = mask.f_baddbmm(&q.f_narrow(1, first, rows)?, &keys, 1, 1)?;
        mixed.push(scores.f_softmax(-1, None::<Kind>)?.f_bmm(&v.f_narrow(1, 0, end)?)?);
    }
    Ok(Tensor::f_cat(&mixed, 1)?.f_view(&size[..])?)
}

/// The pattern of scores in which unseen keys are minus infinity, in the kind of the scores or a wider one.
pub(crate) fn softmax(scores: &Tensor) -> Result<Tensor> {
    let kind = scores.kind();
    let wide = if matches!(kind, Kind::Half | Kind::BFloat16) { Kind::Float } else { kind };
    Ok(scores.f_softmax(-1, wide)?.f_to_kind(kind)?)
}

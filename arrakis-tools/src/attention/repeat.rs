//! Sequences given twice: what can be copied the second time, and what the model makes of it.

use std::collections::HashSet;

use arrakis_core::{Result, Stream};
use tch::{Kind, Tensor};

/// A random sequence of `length` different tokens given twice, after `bos`; there are as many, without `bos`.
///
/// A token drawn twice would be a duplicate of its own.
pub(crate) fn random(stream: &mut Stream, bos: Option<i64>, length: usize, vocab: usize) -> Vec<i64> {
    let mut drawn: HashSet<i64> = bos.into_iter().collect();
    let mut ids = Vec::with_capacity(length);
    while ids.len() < length {
        let id = stream.below(vocab as u64) as i64;
        if drawn.insert(id) {
            ids.push(id);
        }
    }
    bos.into_iter().chain(ids.iter().copied()).chain(ids.iter().copied()).collect()
}

/// The length of the sequence that `ids` hold twice, after one more token at most.
pub(crate) fn half(ids: &[i64]) -> Option<i64> {
    let half = ids.len() / 2;
    let (first, second) = ids[ids.len() % 2..].split_at(half);
    (half >= 2 && first == second).then_some(half as i64)
}

/// Mean cross entropy of the tokens of a sequence given twice, in nats.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RepeatLoss {
    /// Where the tokens are new.
    pub first_half: f64,
    /// Where they have been seen; without the first of them, which nothing foretells.
    pub second_half: f64,
}

impl RepeatLoss {
    /// The loss of each half; `logits` are those of every position: `[1, pos, vocab]`.
    pub(crate) fn of(logits: &Tensor, ids: &[i64], half: i64) -> Result<Self> {
        let predicted = ids.len() as i64 - 1;
        let logits = logits.f_select(0, 0)?.f_narrow(0, 0, predicted)?.f_to_kind(Kind::Double)?;
        let next = Tensor::f_from_slice(&ids[1..])?.f_to_device(logits.device())?.f_unsqueeze(-1)?;
        let own = logits.f_gather(-1, &next, false)?.f_squeeze_dim(-1)?;
        let losses = logits.f_logsumexp(-1, false)?.f_sub(&own)?;
        let mean = |start: i64, len: i64| -> Result<f64> {
            Ok(losses.f_narrow(0, start, len)?.f_mean(Kind::Double)?.f_double_value(&[])?)
        };
        Ok(Self { first_half: mean(0, predicted - half)?, second_half: mean(predicted - half + 1, half - 1)? })
    }
}

//! A head that reads: its activations in one row of tokens, and what its input does there.

use std::cell::RefCell;

use arrakis_core::{Cache, Error, HookPoint, Model, ModelExt, PosSlice, Result, Scores, Site, Tokens, Weight, edit};
use tch::{Kind, Tensor};

use crate::{HeadInput, HeadPlace, gap, lags};

/// The activations of a head in one row of tokens, in double.
pub(super) struct Receiver {
    pub(super) place: HeadPlace,
    pub(super) input: HeadInput,
    /// The place of the input among the heads of its site.
    pub(super) head: i64,
    /// The divisor of the norm before it: `[pos, 1]`.
    pub(super) scale: Tensor,
    /// Its queries, keys or values, as projected: `[pos, d_head]`.
    pub(super) vectors: Tensor,
    /// `[query, key]`.
    pub(super) pattern: Tensor,
    /// Where a key is not seen: `[query, key]`.
    unseen: Tensor,
    /// What queries and keys make together, if the input is one of them: `[query, key]`.
    scores: Option<Tensor>,
    /// What its input meets, at the other end: rotated keys or queries, or `z` over its squared length: `[pos, d_head]`.
    other: Tensor,
    /// What scores are, times their dot products.
    factor: f64,
}

impl Receiver {
    /// The head's activations in a row.
    pub(super) fn of(model: &dyn Model, ids: &[i64], place: HeadPlace, input: HeadInput) -> Result<Self> {
        let layer = place.layer;
        let compares = input != HeadInput::V;
        if compares {
            pairs(model, layer)?;
        }
        let rotated = model.points().contains(&Site::ROT_Q.at(layer));
        if compares && !rotated && model.weights().contains(&Weight::Q_NORM.at(layer)) {
            let why =
                "it norms queries and keys and does not rotate them, so no hook point shows what scores are made of";
            return Err(Error::Invalid { what: "model".into(), why: why.into() });
        }
        let (head, kv_head) = (place.head as i64, place.kv_head(model));
        let seen = RefCell::new(Cache::new());
        let look = |point: HookPoint, value: &Tensor| {
            let row = value.f_get(0)?;
            let own = match point.site {
                Site::LN1_SCALE => row,
                Site::ATTN_SCORES | Site::PATTERN => row.f_get(head)?,
                Site::K | Site::ROT_K | Site::V => row.f_select(1, kv_head)?,
                _ => row.f_select(1, head)?,
            };
            seen.borrow_mut().insert(point, own.f_to_kind(Kind::Double)?.f_contiguous()?);
            Ok(value.shallow_clone())
        };
        let wanted: &[Site] = match (compares, rotated) {
            (false, _) => &[Site::V, Site::Z],
            (true, false) => &[Site::Q, Site::K],
            (true, true) => &[Site::Q, Site::K, Site::ROT_Q, Site::ROT_K],
        };
        let scored = model.scores(layer) != Scores::None;
        let scores = scored.then_some(Site::ATTN_SCORES);
        let tokens = Tokens::from_ids(ids)?;
        let trace = model.trace(&tokens).logits(PosSlice::None).stop_at(layer + 1);
        let sites = [Site::LN1_SCALE, Site::PATTERN];
        sites
            .iter()
            .chain(wanted)
            .chain(scores.iter())
            .fold(trace, |trace, site| trace.edit(site.at(layer), edit::at_point(&look)))
            .run()?;
        let seen = seen.into_inner();
        let take = |site: Site| -> Result<Tensor> { Ok(seen.get(site.at(layer))?.shallow_clone()) };

        let (scale, pattern) = (take(Site::LN1_SCALE)?, take(Site::PATTERN)?);
        if !compares {
            let (vectors, z) = (take(Site::V)?, take(Site::Z)?);
            let other = z.f_div(&z.f_square()?.f_sum_dim_intlist(-1, true, Kind::Double)?)?;
            let unseen = if scored { take(Site::ATTN_SCORES)?.f_eq(f64::NEG_INFINITY)? } else { pattern.f_eq(0.0)? };
            let (head, scores, factor) = (kv_head, None, 0.0);
            return Ok(Self { place, input, head, scale, vectors, pattern, unseen, scores, other, factor });
        }
        let (query, key) = if rotated { (Site::ROT_Q, Site::ROT_K) } else { (Site::Q, Site::K) };
        let (q, k, scores) = (take(query)?, take(key)?, take(Site::ATTN_SCORES)?);
        let factor = factor(&scores, &q.f_matmul(&k.f_transpose(0, 1)?)?)?;
        let (site, head, other) = if input == HeadInput::Q { (Site::Q, head, k) } else { (Site::K, kv_head, q) };
        let (vectors, unseen) = (take(site)?, scores.f_eq(f64::NEG_INFINITY)?);
        Ok(Self { place, input, head, scale, vectors, pattern, unseen, scores: Some(scores), other, factor })
    }

    /// Whether a query sees a key.
    pub(super) fn sees(&self, query: i64, key: i64) -> Result<bool> {
        Ok(self.unseen.f_int64_value(&[query, key])? == 0)
    }

    /// The effects of parts at one position (`[component, d_head]`, turned) on a query and a key: `[component]`.
    pub(super) fn effects(&self, parts: &Tensor, query: i64, key: i64) -> Result<Tensor> {
        let there = if self.input == HeadInput::Q { key } else { query };
        Ok(parts.f_mv(&self.other.f_get(there)?)?.f_mul_scalar(self.strength(query, key)?)?)
    }

    /// The effect of parts at every position (`[pos, d_head]`, turned): `[query, key]`, 0 where a key is not seen.
    pub(super) fn effect_grid(&self, parts: &Tensor) -> Result<Tensor> {
        let effects = match self.input {
            HeadInput::Q => parts.f_matmul(&self.other.f_transpose(0, 1)?)?.f_mul_scalar(self.factor)?,
            HeadInput::K => self.other.f_matmul(&parts.f_transpose(0, 1)?)?.f_mul_scalar(self.factor)?,
            HeadInput::V => self.other.f_matmul(&parts.f_transpose(0, 1)?)?.f_mul(&self.pattern)?,
        };
        Ok(effects.f_masked_fill(&self.unseen, 0.0)?)
    }

    /// What the effects of all components sum to.
    pub(super) fn whole_effect(&self, query: i64, key: i64) -> Result<f64> {
        if let Some(scores) = &self.scores {
            return Ok(scores.f_double_value(&[query, key])?);
        }
        let share = self.vectors.f_get(key)?.f_dot(&self.other.f_get(query)?)?.f_double_value(&[])?;
        Ok(share * self.strength(query, key)?)
    }

    /// What a dot product at a query and a key is multiplied by.
    fn strength(&self, query: i64, key: i64) -> Result<f64> {
        match self.input {
            HeadInput::Q | HeadInput::K => Ok(self.factor),
            HeadInput::V => Ok(self.pattern.f_double_value(&[query, key])?),
        }
    }
}

/// An error unless scores are the dot products of the pair's own query and key.
fn pairs(model: &dyn Model, layer: usize) -> Result<()> {
    lags::check(model, layer)?;
    if model.scores(layer) == Scores::Lagged {
        let why = "they compare queries and keys of earlier positions too, so that a part at one position reaches the \
                   scores of others; ask for the input `v`";
        return Err(Error::Invalid { what: format!("the scores of layer {layer}"), why: why.into() });
    }
    Ok(())
}

/// What scores are, times their dot products: read off the pair with the greatest one, and 0 where all are 0.
///
/// # Errors
/// Scores that are no multiple of their dot products, by more than a coarse kind rounds.
fn factor(scores: &Tensor, dots: &Tensor) -> Result<f64> {
    let seen = scores.f_ne(f64::NEG_INFINITY)?;
    let (scores, dots) = (scores.f_masked_select(&seen)?, dots.f_masked_select(&seen)?);
    let place = dots.f_abs()?.f_argmax(0, false)?.f_int64_value(&[])?;
    let dot = dots.f_double_value(&[place])?;
    let factor = if dot == 0.0 { 0.0 } else { scores.f_double_value(&[place])? / dot };
    let (apart, greatest) = (gap::gap(&scores, &dots.f_mul_scalar(factor)?)?, gap::greatest(&scores)?);
    if apart > MOST_APART * greatest {
        let why = "they are not proportional to the dot products of queries and keys, so parts of these do not sum to \
                   them; ask for the input `v`";
        return Err(Error::Invalid { what: "the scores of the receiver".into(), why: why.into() });
    }
    Ok(factor)
}

/// How far scores may be from a multiple of dot products, as a share of the greatest: what bfloat16 rounds, and more.
const MOST_APART: f64 = 0.1;

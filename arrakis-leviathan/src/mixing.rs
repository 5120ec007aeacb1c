//! The mixing half of a block: from the residual stream through queries, keys and values to what the heads write.

use arrakis_core::{Error, Result, Site, Tap};
use arrakis_models::Place;
use arrakis_models::mask::Mask;
use arrakis_models::rope::Rotation;
use tch::{Kind, Tensor};

use crate::config::{Config, Mixer};
use crate::layout::Role;
use crate::linear::{by_row, linear};
use crate::mixer::correlation::{attend, softmax};
use crate::mixer::{correlation, involution, original};
use crate::network::Reader;
use crate::sites::{CORRELATION, KERNEL, LAG};

/// What a pass knows beside the residual stream.
pub(crate) struct Surroundings<'a> {
    pub(crate) config: &'a Config,
    pub(crate) place: &'a Place,
    pub(crate) mask: &'a Mask,
    pub(crate) rotation: Option<&'a Rotation>,
    /// Keys beside queries (`[batch, head, key, 2 * d_head]`) and values (`[batch, head, key, d_head]`) seen before.
    pub(crate) past: Option<&'a (Tensor, Tensor)>,
    pub(crate) keep: bool,
}

impl Surroundings<'_> {
    fn heads(&self) -> i64 {
        self.config.n_heads as i64
    }

    fn d_head(&self) -> i64 {
        self.config.d_head() as i64
    }
}

/// The sites of the streams that each head may read on its own.
const SPLIT: [Site; 4] = [Site::ATTN_IN, Site::Q_INPUT, Site::K_INPUT, Site::V_INPUT];

/// Queries beside keys (`[batch, pos, 2 * head, d_head]`), and values (`[batch, pos, head, d_head]`).
type Projected = (Tensor, Tensor);

/// What mixing writes (`[batch, pos, d_model]`), and what is to be remembered of it.
pub(crate) fn apply(
    resid_pre: &Tensor,
    reader: &Reader<'_>,
    around: &Surroundings<'_>,
    tap: &mut Tap<'_>,
) -> Result<(Tensor, Option<(Tensor, Tensor)>)> {
    let (mixed, seen) = match around.config.mixer {
        Mixer::Involution { kernel } => involve(resid_pre, kernel as i64, reader, around, tap)?,
        Mixer::Attention | Mixer::Correlation { .. } | Mixer::Original => score(resid_pre, reader, around, tap)?,
    };
    let z = tap.at(Site::Z, mixed)?;
    Ok((write(&z, reader, around, tap)?, seen))
}

/// Values mixed by scores of queries and keys: `[batch, pos, head, d_head]`.
fn score(
    resid_pre: &Tensor,
    reader: &Reader<'_>,
    around: &Surroundings<'_>,
    tap: &mut Tap<'_>,
) -> Result<(Tensor, Option<(Tensor, Tensor)>)> {
    let (heads, d_head, place) = (around.heads(), around.d_head(), around.place);
    let (qk, v) = projected(resid_pre, reader, around, tap)?;
    let qk = rotated(qk, around, tap)?;
    let v = v.f_transpose(1, 2)?;
    let (qk, v) = match around.past {
        None => (qk, v),
        Some((past_kq, past_v)) => {
            let past = past_kq.f_transpose(1, 2)?;
            let past = Tensor::f_cat(&[past.f_narrow(3, d_head, d_head)?, past.f_narrow(3, 0, d_head)?], 2)?;
            (Tensor::f_cat(&[&past, &qk], 1)?, Tensor::f_cat(&[past_v, &v], 2)?)
        }
    };
    let seen = if around.keep {
        let kq = Tensor::f_cat(&[qk.f_narrow(2, heads, heads)?, qk.f_narrow(2, 0, heads)?], 3)?;
        Some((kq.f_transpose(1, 2)?, v.shallow_clone()))
    } else {
        None
    };
    let weights = reader.lags()?;
    let qk = match (&weights, &place.real) {
        // What is no token is silence to the signals, as what lies before the text is.
        (Some(_), Some(real)) => silenced(&qk, real)?,
        _ => qk,
    };
    let part = |x: &Tensor, first: i64| -> Result<Tensor> { Ok(x.f_narrow(2, first, heads)?) };
    let mixed = match &weights {
        Some(weights) if tap.watches(LAG) => {
            let matrix = by_row(&weights.matrix()?, place.batch)?;
            let matrix = matrix.f_expand([place.batch, -1, -1, -1], false)?.f_contiguous()?;
            let matrix = tap.at(LAG, matrix)?;
            let raw = correlation::scores(&matrix, &part(&qk, 0)?, &part(&qk, heads)?, place.past_len)?;
            look(&raw.f_mul_scalar(scale(d_head))?, &v, around.mask.allowed(), tap)?
        }
        Some(weights) => by_product(&weights.lagged(&qk)?, &v, around, tap)?,
        None if around.config.mixer == Mixer::Original => {
            by_original(&part(&qk, 0)?, &part(&qk, heads)?, &v, reader.stack(), around, tap)?
        }
        None => by_product(&qk, &v, around, tap)?,
    };
    Ok((mixed.f_transpose(1, 2)?, seen))
}

/// `x` (`[batch, pos, head, d_head]`) with zeros where `real` (`[batch, pos]`) says that there is no token.
fn silenced(x: &Tensor, real: &Tensor) -> Result<Tensor> {
    let real = real.f_to_device(x.device())?.f_unsqueeze(2)?.f_unsqueeze(3)?;
    Ok(x.f_mul(&real.f_to_kind(x.kind())?)?)
}

fn scale(d_head: i64) -> f64 {
    1.0 / (d_head as f64).sqrt()
}

/// Values mixed by the dot products of queries and keys of any width: `[batch, head, pos, d_head]`.
fn by_product(qk: &Tensor, v: &Tensor, around: &Surroundings<'_>, tap: &mut Tap<'_>) -> Result<Tensor> {
    let (heads, place) = (around.heads(), around.place);
    let q = qk.f_narrow(1, place.past_len, place.len)?.f_narrow(2, 0, heads)?.f_transpose(1, 2)?;
    let k = qk.f_narrow(2, heads, heads)?.f_transpose(1, 2)?;
    let scale = scale(around.d_head());
    if tap.watches_any(&[Site::ATTN_SCORES, Site::PATTERN]) {
        let scores = q.f_matmul(&k.f_transpose(2, 3)?)?.f_mul_scalar(scale)?;
        return look(&scores, v, around.mask.allowed(), tap);
    }
    let mask = match around.mask {
        Mask::Open => (None, false),
        Mask::Causal(_) => (None, true),
        Mask::Some(allowed) => (Some(allowed), false),
    };
    attend(&q, &k, v, mask, scale)
}

/// Values mixed by the published scores, each model of the stack by itself: `[batch, head, pos, d_head]`.
fn by_original(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    stack: i64,
    around: &Surroundings<'_>,
    tap: &mut Tap<'_>,
) -> Result<Tensor> {
    if around.past.is_some() || around.keep || around.place.real.is_some() {
        let why = "the published score has no causal order: no past, no padding; run the whole text at once";
        return Err(Error::Invalid { what: "mixer `original`".into(), why: why.into() });
    }
    let (q, k) = (q.f_transpose(1, 2)?, k.f_transpose(1, 2)?);
    let models = q.f_chunk(stack, 0)?.into_iter().zip(k.f_chunk(stack, 0)?);
    let correlated = models.map(|(q, k)| original::correlation(&q, &k)).collect::<Result<Vec<Tensor>>>()?;
    let correlated = tap.at(CORRELATION, Tensor::f_cat(&correlated, 0)?)?;
    if tap.watches_any(&[Site::ATTN_SCORES, Site::PATTERN]) {
        let scores = correlated.f_matmul(&k.f_transpose(2, 3)?)?.f_mul_scalar(scale(around.d_head()))?;
        return look(&scores, v, None, tap);
    }
    attend(&correlated, &k, v, (None, false), scale(around.d_head()))
}

/// Scores and pattern shown, and values mixed by them: `[batch, head, pos, d_head]`.
fn look(scores: &Tensor, v: &Tensor, allowed: Option<&Tensor>, tap: &mut Tap<'_>) -> Result<Tensor> {
    let scores = match allowed {
        Some(allowed) => scores.f_masked_fill(&allowed.f_logical_not()?, f64::NEG_INFINITY)?,
        None => scores.shallow_clone(),
    };
    let scores = tap.at(Site::ATTN_SCORES, scores)?;
    let pattern = tap.at(Site::PATTERN, softmax(&scores)?)?;
    Ok(pattern.f_matmul(v)?)
}

/// Values gathered by the kernels that positions make: `[batch, pos, head, d_head]`.
fn involve(
    resid_pre: &Tensor,
    kernel: i64,
    reader: &Reader<'_>,
    around: &Surroundings<'_>,
    tap: &mut Tap<'_>,
) -> Result<(Tensor, Option<(Tensor, Tensor)>)> {
    let (heads, d_head, place) = (around.heads(), around.d_head(), around.place);
    let normalized = reader.norm(resid_pre, Role::Norm1, (Site::LN1_SCALE, Site::LN1_NORMALIZED), tap)?.0;
    let inward = linear(&normalized, reader.get(Role::Inward)?, Some(reader.get(Role::InwardBias)?))?;
    tap.passed(Site::V);
    let shape = [place.batch, place.len, heads];
    let v = inward.f_narrow(2, 0, heads * d_head)?.f_view(&[&shape[..], &[d_head]].concat()[..])?;
    let v = tap.at(Site::V, v)?;
    let kernels = inward.f_narrow(2, heads * d_head, heads * kernel)?;
    let kernels = tap.at(KERNEL, kernels.f_view(&[&shape[..], &[kernel]].concat()[..])?)?;
    let v = match around.past {
        Some((_, past)) => Tensor::f_cat(&[&past.f_transpose(1, 2)?, &v], 1)?,
        None => v,
    };
    let seen = around.keep.then(|| -> Result<_> { Ok((v.f_transpose(1, 2)?, v.f_transpose(1, 2)?)) }).transpose()?;
    let v = match &place.real {
        Some(real) => silenced(&v, real)?,
        None => v,
    };
    if !tap.watches(Site::PATTERN) {
        return Ok((involution::gather(&kernels, &v)?, seen));
    }
    let pattern = tap.at(Site::PATTERN, involution::pattern(&kernels, v.size()[1])?)?;
    Ok((pattern.f_matmul(&v.f_transpose(1, 2)?)?.f_transpose(1, 2)?, seen))
}

/// Queries, keys and values of the normalised stream.
fn projected(
    resid_pre: &Tensor,
    reader: &Reader<'_>,
    around: &Surroundings<'_>,
    tap: &mut Tap<'_>,
) -> Result<Projected> {
    let (heads, d_head, place) = (around.heads(), around.d_head(), around.place);
    let split = tap.watches_any(&SPLIT).then(|| split_inputs(resid_pre, heads, tap)).transpose()?;
    let (shared, edited) = reader.norm(resid_pre, Role::Norm1, (Site::LN1_SCALE, Site::LN1_NORMALIZED), tap)?;
    let (weight, bias) = (reader.get(Role::Inward)?, reader.get(Role::InwardBias)?);
    let [q, k, v] = if let Some(inputs) = split {
        if let Some(site) = edited {
            let why = "has no effect on heads whose inputs are split in the same run; edit `hook_q_input`, \
                       `hook_k_input`, `hook_v_input` or `hook_attn_in` in its place";
            return Err(Error::Edit { point: tap.point(site), why: why.into() });
        }
        let (weight, bias) = (reader.single(weight)?, reader.single(bias)?);
        let third = |place: i64, input: &Tensor| -> Result<Tensor> {
            let input = reader.plain_norm(input, Role::Norm1)?;
            let width = heads * d_head;
            let weight = weight.f_narrow(1, place * width, width)?.f_unflatten(1, [heads, d_head])?;
            let bias = bias.f_narrow(0, place * width, width)?.f_view([heads, d_head])?;
            Ok(Tensor::f_einsum("bphm,mhd->bphd", &[&input, &weight], None::<i64>)?.f_add(&bias)?)
        };
        let [q, k, v] = &inputs;
        let thirds = [third(0, q)?, third(1, k)?, third(2, v)?];
        tap.passed(Site::V);
        thirds
    } else {
        let inward = linear(&shared, weight, Some(bias))?;
        tap.passed(Site::V);
        let inward = inward.f_view([place.batch, place.len, 3 * heads, d_head])?;
        if !tap.watches_any(&[Site::Q, Site::K]) {
            let v = tap.at(Site::V, inward.f_narrow(2, 2 * heads, heads)?)?;
            return Ok((inward.f_narrow(2, 0, 2 * heads)?, v));
        }
        [inward.f_narrow(2, 0, heads)?, inward.f_narrow(2, heads, heads)?, inward.f_narrow(2, 2 * heads, heads)?]
    };
    let q = tap.at(Site::Q, q)?;
    let k = tap.at(Site::K, k)?;
    let v = tap.at(Site::V, v)?;
    Ok((Tensor::f_cat(&[&q, &k], 2)?, v))
}

/// The residual stream once for each head, for queries, keys and values.
fn split_inputs(resid_pre: &Tensor, heads: i64, tap: &mut Tap<'_>) -> Result<[Tensor; 3]> {
    let size = resid_pre.size();
    let by_head = resid_pre.f_unsqueeze(2)?.f_expand([size[0], size[1], heads, size[2]], false)?;
    let common = tap.at(Site::ATTN_IN, by_head)?;
    let mut own = |site| tap.at(site, common.shallow_clone());
    Ok([own(Site::Q_INPUT)?, own(Site::K_INPUT)?, own(Site::V_INPUT)?])
}

/// Queries beside keys, rotated where positions are.
fn rotated(qk: Tensor, around: &Surroundings<'_>, tap: &mut Tap<'_>) -> Result<Tensor> {
    let Some(rotation) = around.rotation else { return Ok(qk) };
    let turned = rotation.apply(&qk)?;
    if !tap.watches_any(&[Site::ROT_Q, Site::ROT_K]) {
        return Ok(turned);
    }
    let heads = around.heads();
    let q = tap.at(Site::ROT_Q, turned.f_narrow(2, 0, heads)?)?;
    let k = tap.at(Site::ROT_K, turned.f_narrow(2, heads, heads)?)?;
    Ok(Tensor::f_cat(&[&q, &k], 2)?)
}

/// What the heads write: `[batch, pos, d_model]`.
fn write(z: &Tensor, reader: &Reader<'_>, around: &Surroundings<'_>, tap: &mut Tap<'_>) -> Result<Tensor> {
    let (weight, bias) = (reader.get(Role::Outward)?, reader.get(Role::OutwardBias)?);
    if !tap.watches(Site::RESULT) {
        return linear(&z.f_flatten(2, 3)?, weight, Some(bias));
    }
    let by_head = reader.single(weight)?.f_unflatten(0, [around.heads(), around.d_head()])?;
    let result = tap.at(Site::RESULT, Tensor::f_einsum("bphd,hdm->bphm", &[z, &by_head], None::<i64>)?)?;
    Ok(result.f_sum_dim_intlist(2, false, None::<Kind>)?.f_add(&reader.single(bias)?)?)
}

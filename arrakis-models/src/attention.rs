//! Causal self-attention: fused where nobody watches scores or pattern, step by step where somebody does.

use arrakis_core::{Error, Result, Site, Tap};
use tch::{Kind, Tensor};

use crate::architecture::{ScorePrecision, wide};
use crate::linear::Linear;
use crate::mask::Mask;
use crate::norm::Norm;
use crate::rope::Rotation;

/// The attention half of a block.
#[derive(Debug, Clone)]
pub(crate) struct Attention {
    pub(crate) q: Linear,
    pub(crate) k: Linear,
    pub(crate) v: Linear,
    /// The three as the checkpoint has them in one matrix, none of them edited since.
    pub(crate) stacked: Option<Linear>,
    pub(crate) o: Linear,
    /// The norms of each head's queries and keys.
    pub(crate) qk_norms: Option<[Norm; 2]>,
    pub(crate) n_heads: i64,
    pub(crate) n_kv_heads: i64,
    pub(crate) d_head: i64,
    pub(crate) score_scale: f64,
    pub(crate) score_precision: ScorePrecision,
}

/// What a pass knows beside the residual stream.
pub(crate) struct Surroundings<'a> {
    /// The rotation of the positions of this pass.
    pub(crate) rotation: Option<&'a Rotation>,
    /// The rotation of all keys, where cached keys are kept unrotated.
    pub(crate) key_rotation: Option<&'a Rotation>,
    pub(crate) mask: &'a Mask,
    /// Keys and values seen before: `[batch, kv_head, key, d_head]`.
    pub(crate) past: Option<&'a (Tensor, Tensor)>,
    /// Whether keys and values are to be given back.
    pub(crate) keep: bool,
}

/// What the three projections read.
pub(crate) enum Inputs {
    /// All the same: `[batch, pos, d_model]`.
    Shared(Tensor),
    /// Queries, keys and values each its own: `[batch, pos, head, d_model]` where heads were split.
    Split([Tensor; 3]),
}

impl Attention {
    /// The inputs of the projections from the residual stream before the block; and that stream normalised.
    pub(crate) fn inputs(&self, norm: &Norm, resid_pre: &Tensor, tap: &mut Tap<'_>) -> Result<(Inputs, Tensor)> {
        let split = self.split_inputs(resid_pre, tap)?;
        let (shared, edited) = norm.tapped(resid_pre, tap, Site::LN1_SCALE, Site::LN1_NORMALIZED)?;
        if split.iter().all(Option::is_none) {
            return Ok((Inputs::Shared(shared.shallow_clone()), shared));
        }
        if let Some(site) = edited {
            let why = "has no effect on heads whose inputs are split in the same run; edit `hook_q_input`, \
                       `hook_k_input`, `hook_v_input` or `hook_attn_in` in its place";
            return Err(Error::Edit { point: tap.point(site), why: why.into() });
        }
        let normed =
            |input: Option<Tensor>| input.map_or_else(|| Ok(shared.shallow_clone()), |input| norm.apply(&input));
        let [q, k, v] = split;
        Ok((Inputs::Split([normed(q)?, normed(k)?, normed(v)?]), shared))
    }

    /// The residual stream once for each head, where anyone watches that.
    fn split_inputs(&self, resid_pre: &Tensor, tap: &mut Tap<'_>) -> Result<[Option<Tensor>; 3]> {
        let by_head = |heads: i64| -> Result<Tensor> {
            let size = resid_pre.size();
            Ok(resid_pre.f_unsqueeze(2)?.f_expand([size[0], size[1], heads, size[2]], false)?)
        };
        let ungrouped = self.n_kv_heads == self.n_heads;
        let common = if ungrouped && tap.watches(Site::ATTN_IN) {
            Some(tap.at(Site::ATTN_IN, by_head(self.n_heads)?)?)
        } else {
            None
        };
        let mut split = |site: Site, heads: i64| -> Result<Option<Tensor>> {
            if !tap.watches(site) {
                return Ok(common.as_ref().map(Tensor::shallow_clone));
            }
            let input = common.as_ref().map_or_else(|| by_head(heads), |common| Ok(common.shallow_clone()))?;
            Ok(Some(tap.at(site, input)?))
        };
        Ok([
            split(Site::Q_INPUT, self.n_heads)?,
            split(Site::K_INPUT, self.n_kv_heads)?,
            split(Site::V_INPUT, self.n_kv_heads)?,
        ])
    }

    /// What attention writes (`[batch, pos, d_model]`), and the keys and values of everything seen.
    pub(crate) fn apply(
        &self,
        inputs: &Inputs,
        around: &Surroundings<'_>,
        tap: &mut Tap<'_>,
    ) -> Result<(Tensor, (Tensor, Tensor))> {
        let [q, k, v] = self.projected(inputs, around, tap)?;
        tap.passed(Site::V);
        let (q, k, v) = (tap.at(Site::Q, q)?, tap.at(Site::K, k)?, tap.at(Site::V, v)?);
        let (q, k) = match &self.qk_norms {
            Some([q_norm, k_norm]) => (q_norm.apply(&q)?, k_norm.apply(&k)?),
            None => (q, k),
        };
        let (q, k, kept) = rotate(&q, &k, around, tap)?;
        let v = v.f_transpose(1, 2)?;
        let (kept, k, v) = match around.past {
            None => (kept, k, v),
            Some((past_k, past_v)) => {
                let kept = Tensor::f_cat(&[past_k, &kept], 2)?;
                let v = Tensor::f_cat(&[past_v, &v], 2)?;
                let k = match around.key_rotation {
                    Some(rotation) => rotation.apply(&kept.f_transpose(1, 2)?)?.f_transpose(1, 2)?,
                    None => kept.shallow_clone(),
                };
                (kept, k, v)
            }
        };
        let mixed = self.mix(&q, &k, &v, around.mask, tap)?;
        let z = tap.at(Site::Z, mixed.f_transpose(1, 2)?)?;
        Ok((self.write(&z, tap)?, (kept, v)))
    }

    /// Queries, keys and values: `[batch, pos, head, d_head]`.
    fn projected(&self, inputs: &Inputs, around: &Surroundings<'_>, tap: &Tap<'_>) -> Result<[Tensor; 3]> {
        let (input, stacked) = match (inputs, &self.stacked) {
            (Inputs::Shared(input), Some(stacked)) => (input, stacked),
            (Inputs::Shared(input), None) => return self.projected_apart([input; 3]),
            (Inputs::Split([q, k, v]), _) => return self.projected_apart([q, k, v]),
        };
        let heads = stacked.apply(input)?.f_unflatten(-1, [-1, self.d_head])?;
        let (q_heads, kv_heads) = (self.n_heads, self.n_kv_heads);
        let part = |site: Site, start: i64, len: i64, kept: bool| {
            let part = heads.f_narrow(2, start, len)?;
            // Who keeps a part should not hold the other two.
            if kept || tap.watches(site) { part.f_contiguous() } else { Ok(part) }
        };
        Ok([
            part(Site::Q, 0, q_heads, false)?,
            part(Site::K, q_heads, kv_heads, around.keep)?,
            part(Site::V, q_heads + kv_heads, kv_heads, around.keep)?,
        ])
    }

    fn projected_apart(&self, [q, k, v]: [&Tensor; 3]) -> Result<[Tensor; 3]> {
        Ok([
            self.project(&self.q, q, self.n_heads)?,
            self.project(&self.k, k, self.n_kv_heads)?,
            self.project(&self.v, v, self.n_kv_heads)?,
        ])
    }

    fn project(&self, map: &Linear, input: &Tensor, heads: i64) -> Result<Tensor> {
        let size = input.size();
        if size.len() == 3 {
            return Ok(map.apply(input)?.f_view([size[0], size[1], heads, self.d_head])?);
        }
        let weight = map.weight.f_view([size[3], heads, self.d_head])?;
        let projected = Tensor::f_einsum("bphm,mhd->bphd", &[input, &weight], None::<i64>)?;
        match &map.bias {
            Some(bias) => Ok(projected.f_add(&bias.f_view([heads, self.d_head])?)?),
            None => Ok(projected),
        }
    }

    /// Values mixed by the pattern: `[batch, head, pos, d_head]`.
    fn mix(&self, q: &Tensor, k: &Tensor, v: &Tensor, mask: &Mask, tap: &mut Tap<'_>) -> Result<Tensor> {
        let kind = match self.score_precision {
            ScorePrecision::Model => q.kind(),
            ScorePrecision::Single => wide(q.kind()),
        };
        let (q, k) = (q.f_to_kind(kind)?, k.f_to_kind(kind)?);
        if tap.watches_any(&[Site::ATTN_SCORES, Site::PATTERN]) {
            self.mix_step_by_step(&q, &k, v, mask, tap)
        } else {
            Ok(self.mix_fused(&q, &k, &v.f_to_kind(kind)?, mask)?.f_to_kind(v.kind())?)
        }
    }

    fn mix_fused(&self, q: &Tensor, k: &Tensor, v: &Tensor, mask: &Mask) -> Result<Tensor> {
        let (allowed, causal) = match mask {
            Mask::Open => (None, false),
            Mask::Causal(_) => (None, true),
            Mask::Some(allowed) => (Some(allowed), false),
        };
        let grouped = self.n_kv_heads != self.n_heads;
        let scale = Some(self.score_scale);
        Ok(Tensor::f_scaled_dot_product_attention(q, k, v, allowed, 0.0, causal, scale, grouped)?)
    }

    /// Grouped heads share their keys without repeating them: the queries of a group are stacked along positions.
    fn mix_step_by_step(&self, q: &Tensor, k: &Tensor, v: &Tensor, mask: &Mask, tap: &mut Tap<'_>) -> Result<Tensor> {
        let (batch, queries, keys) = (q.size()[0], q.size()[2], k.size()[2]);
        let stacked = [batch, self.n_kv_heads, self.n_heads / self.n_kv_heads * queries, -1];
        let whole = [batch, self.n_heads, queries, -1];
        // Scores are the biggest values of a pass: queries are scaled in their place, and nobody has seen them yet.
        let q = q.f_mul_scalar(self.score_scale)?;
        let mut scores =
            q.f_reshape(stacked)?.f_matmul(&k.f_transpose(2, 3)?)?.f_view([batch, self.n_heads, queries, keys])?;
        if let Some(allowed) = mask.allowed() {
            let _ = scores.f_masked_fill_(&allowed.f_logical_not()?, f64::NEG_INFINITY)?;
        }
        let scores = tap.at(Site::ATTN_SCORES, scores)?;
        let pattern = scores.f_softmax(-1, wide(scores.kind()))?.f_to_kind(v.kind())?;
        let pattern = tap.at(Site::PATTERN, pattern)?;
        Ok(pattern.f_reshape(stacked)?.f_matmul(v)?.f_view(whole)?)
    }

    /// What the heads write: `[batch, pos, d_model]`.
    fn write(&self, z: &Tensor, tap: &mut Tap<'_>) -> Result<Tensor> {
        let size = z.size();
        if !tap.watches(Site::RESULT) {
            return self.o.apply(&z.f_reshape([size[0], size[1], self.n_heads * self.d_head])?);
        }
        let weight = self.o.weight.f_reshape([self.n_heads, self.d_head, -1])?;
        let result = tap.at(Site::RESULT, Tensor::f_einsum("bphd,hdm->bphm", &[z, &weight], None::<i64>)?)?;
        let sum = result.f_sum_dim_intlist(2, false, None::<Kind>)?;
        match &self.o.bias {
            Some(bias) => Ok(sum.f_add(bias)?),
            None => Ok(sum),
        }
    }
}

/// Queries and keys as `[batch, head, pos, d_head]`, rotated; and the keys as they are to be cached.
fn rotate(q: &Tensor, k: &Tensor, around: &Surroundings<'_>, tap: &mut Tap<'_>) -> Result<(Tensor, Tensor, Tensor)> {
    let Some(rotation) = around.rotation else {
        let k = k.f_transpose(1, 2)?;
        return Ok((q.f_transpose(1, 2)?, k.shallow_clone(), k));
    };
    let rotated_q = tap.at(Site::ROT_Q, rotation.apply(q)?)?.f_transpose(1, 2)?;
    let rotated_k = tap.at(Site::ROT_K, rotation.apply(k)?)?.f_transpose(1, 2)?;
    let kept = if around.key_rotation.is_some() { k.f_transpose(1, 2)? } else { rotated_k.shallow_clone() };
    Ok((rotated_q, rotated_k, kept))
}

//! A head that reads: its activations in one row, and what each earlier component wrote of them.

use std::cell::RefCell;

use arrakis_core::{Error, HookPoint, Model, ModelExt, NormKind, PosSlice, Result, Site, Tokens, Weight, edit};
use tch::{Kind, Tensor};

use crate::{HeadInput, HeadPlace};

/// The activations of a head in one row of tokens, in double.
pub(super) struct Receiver {
    place: HeadPlace,
    input: HeadInput,
    /// The place of its input among the heads of the input's site.
    head: i64,
    /// The divisor of the norm before it: `[pos, 1]`.
    scale: Tensor,
    /// Its queries, keys or values, as projected: `[pos, d_head]`.
    pub(super) input_vectors: Tensor,
    /// `[query, key]`.
    pub(super) pattern: Tensor,
    /// Minus infinity where a key is not seen: `[query, key]`.
    scores: Tensor,
    /// What its input meets, at the other end: rotated keys or queries, or `z` over its squared length: `[pos, d_head]`.
    other: Tensor,
    /// What scores are, times their dot products.
    factor: f64,
}

/// What the components wrote of a receiver's input.
pub(super) struct Parts {
    /// The components, in the order of writing.
    pub(super) names: Vec<String>,
    /// At one position: `[component, d_head]`.
    pub(super) at: Tensor,
    /// The sender's, at every position: `[pos, d_head]`.
    pub(super) sender: Tensor,
    /// The sum of all, at every position: `[pos, d_head]`.
    pub(super) sum: Tensor,
}

/// Parts as they meet the other end: after norm and rotation.
pub(super) struct Turned {
    pub(super) sender: Tensor,
    pub(super) components: Tensor,
}

impl Receiver {
    /// The head's activations in a row.
    pub(super) fn of(model: &dyn Model, ids: &[i64], place: HeadPlace, input: HeadInput) -> Result<Self> {
        let tokens = Tokens::from_ids(ids)?;
        let layer = place.layer;
        let rotated = model.points().contains(&Site::ROT_Q.at(layer));
        if !rotated && model.weights().contains(&Weight::Q_NORM.at(layer)) {
            let why =
                "it norms queries and keys and does not rotate them, so no hook point shows what scores are made of";
            return Err(Error::Invalid { what: "model".into(), why: why.into() });
        }
        let [q_site, k_site] = if rotated { [Site::ROT_Q, Site::ROT_K] } else { [Site::Q, Site::K] };
        let sites =
            [Site::LN1_SCALE, Site::Q, Site::K, Site::V, q_site, k_site, Site::ATTN_SCORES, Site::PATTERN, Site::Z];
        let trace = model.trace(&tokens).logits(PosSlice::None).stop_at(layer + 1);
        let run = sites.iter().fold(trace, |trace, site| trace.keep(site.at(layer))).run()?;
        let kept =
            |site: Site| -> Result<Tensor> { Ok(run.cache.get(site.at(layer))?.f_get(0)?.f_to_kind(Kind::Double)?) };
        let (head, kv_head) = (place.head as i64, place.kv_head(model));
        let by_head = |site: Site, head: i64| -> Result<Tensor> { Ok(kept(site)?.f_select(1, head)?) };
        let scores = kept(Site::ATTN_SCORES)?.f_get(head)?;
        let pattern = kept(Site::PATTERN)?.f_get(head)?;
        let (q, k) = (by_head(q_site, head)?, by_head(k_site, kv_head)?);
        let factor = factor(&scores, &q.f_matmul(&k.f_transpose(0, 1)?)?)?;
        let (site, own, other) = match input {
            HeadInput::Q => (Site::Q, head, k),
            HeadInput::K => (Site::K, kv_head, q),
            HeadInput::V => {
                let z = by_head(Site::Z, head)?;
                let squared = z.f_square()?.f_sum_dim_intlist(-1, true, Kind::Double)?;
                (Site::V, kv_head, z.f_div(&squared)?)
            }
        };
        let (scale, input_vectors) = (kept(Site::LN1_SCALE)?, by_head(site, own)?);
        Ok(Self { place, input, head: own, scale, input_vectors, pattern, scores, other, factor })
    }

    /// Whether a query sees a key.
    pub(super) fn sees(&self, query: i64, key: i64) -> Result<bool> {
        Ok(self.scores.f_double_value(&[query, key])? != f64::NEG_INFINITY)
    }

    /// What each component wrote of the input, through the norm with its scale held fixed.
    pub(super) fn parts(&self, model: &dyn Model, ids: &[i64], at: i64, sender: HeadPlace) -> Result<Parts> {
        let read = self.reading_matrix(model)?;
        let embeds = [Site::EMBED, Site::POS_EMBED].map(Site::global);
        let embeds = embeds.into_iter().filter(|point| model.points().contains(point));
        let blocks = (0..self.place.layer).flat_map(|layer| [Site::Z.at(layer), Site::MLP_OUT.at(layer)]);
        let points: Vec<HookPoint> = embeds.chain(blocks).collect();
        let mut found = Parts {
            names: Vec::new(),
            at: self.input_vectors.f_narrow(0, 0, 0)?,
            sender: self.input_vectors.f_zeros_like()?,
            sum: self.input_vectors.f_zeros_like()?,
        };
        let tokens = Tokens::from_ids(ids)?;
        let state = RefCell::new(&mut found);
        let look = |point: HookPoint, value: &Tensor| {
            let written = value.f_get(0)?.f_to_kind(Kind::Double)?;
            let mut found = state.borrow_mut();
            match point.layer {
                Some(layer) if point.site == Site::Z => {
                    self.add_heads(model, layer, &written, &read, sender, at, &mut found)?
                }
                layer => {
                    let name = point.site.name().trim_start_matches("hook_");
                    let name = layer.map_or_else(|| name.to_owned(), |layer| format!("{layer}_{name}"));
                    let part = written.f_matmul(&read)?.f_div(&self.scale)?;
                    found.add(vec![name], &part.f_unsqueeze(1)?, at)?;
                }
            }
            drop(found);
            Ok(value.shallow_clone())
        };
        // Blocks stop before the receiver's own, whose stream is all that it reads.
        let trace = model.trace(&tokens).logits(PosSlice::None).stop_at(self.place.layer);
        points.iter().fold(trace, |trace, point| trace.edit(*point, edit::at_point(&look))).run()?;
        self.add_biases(model, at, &mut found)?;
        Ok(found)
    }

    /// From the stream, before the norm's division, to the input: `[d_model, d_head]`.
    fn reading_matrix(&self, model: &dyn Model) -> Result<Tensor> {
        let layer = self.place.layer;
        let weight = self.projection(model)?;
        let weight = match model.weight_if_any(Weight::LN1_W.at(layer))? {
            Some(norm) => weight.f_mul(&norm.f_to_kind(Kind::Double)?.f_unsqueeze(1)?)?,
            None => weight,
        };
        match model.dims().norm {
            // To centre what is read is to centre what reads it.
            NormKind::Layer => Ok(weight.f_sub(&weight.f_mean_dim(0, true, Kind::Double)?)?),
            NormKind::Rms => Ok(weight),
        }
    }

    /// `W_Q`, `W_K` or `W_V` of the head, in double.
    fn projection(&self, model: &dyn Model) -> Result<Tensor> {
        let weight = match self.input {
            HeadInput::Q => Weight::Q,
            HeadInput::K => Weight::K,
            HeadInput::V => Weight::V,
        };
        Ok(model.weight(weight.at(self.place.layer))?.f_get(self.head)?.f_to_kind(Kind::Double)?)
    }

    /// Adds what the heads of a layer wrote, and its output bias, from `z` (`[pos, head, d_head]`).
    #[allow(clippy::too_many_arguments)]
    fn add_heads(
        &self,
        model: &dyn Model,
        layer: usize,
        z: &Tensor,
        read: &Tensor,
        sender: HeadPlace,
        at: i64,
        found: &mut Parts,
    ) -> Result<()> {
        let through = model.weight(Weight::O.at(layer))?.f_to_kind(Kind::Double)?.f_matmul(read)?;
        let parts = Tensor::f_einsum("phd,hde->phe", &[z, &through], None::<&[i64]>)?;
        let parts = parts.f_div(&self.scale.f_unsqueeze(1)?)?;
        if layer == sender.layer {
            found.sender = parts.f_select(1, sender.head as i64)?;
        }
        let heads = 0..z.size()[1] as usize;
        found.add(heads.map(|head| HeadPlace::new(layer, head).label()).collect(), &parts, at)?;
        if let Some(bias) = model.weight_if_any(Weight::O_B.at(layer))? {
            let part = bias.f_to_kind(Kind::Double)?.f_unsqueeze(0)?.f_matmul(read)?.f_div(&self.scale)?;
            found.add(vec![format!("{layer}_attn_bias")], &part.f_unsqueeze(1)?, at)?;
        }
        Ok(())
    }

    /// Adds the biases of the norm and of the projection.
    fn add_biases(&self, model: &dyn Model, at: i64, found: &mut Parts) -> Result<()> {
        let layer = self.place.layer;
        let shape = found.sum.f_unsqueeze(1)?.size();
        if let Some(bias) = model.weight_if_any(Weight::LN1_B.at(layer))? {
            let part = bias.f_to_kind(Kind::Double)?.f_unsqueeze(0)?.f_matmul(&self.projection(model)?)?;
            found.add(vec![format!("{layer}_ln1_bias")], &part.f_expand(&shape, false)?, at)?;
        }
        let bias = match self.input {
            HeadInput::Q => Weight::Q_B,
            HeadInput::K => Weight::K_B,
            HeadInput::V => Weight::V_B,
        };
        if let Some(bias) = model.weight_if_any(bias.at(layer))? {
            let part = bias.f_get(self.head)?.f_to_kind(Kind::Double)?.f_expand(&shape, false)?;
            found.add(vec![format!("{layer}_{}_bias", self.input.name())], &part, at)?;
        }
        Ok(())
    }

    /// Parts after the input's norm, with the scale that the whole has, and after its rotation.
    ///
    /// `sender` is at every position (`[pos, d_head]`), `components` at the one position `at` (`[component, d_head]`).
    /// How a model rotates is its own affair, so the parts are put where its queries or keys are, at their positions.
    pub(super) fn turned(&self, model: &dyn Model, sender: &Tensor, components: &Tensor, at: i64) -> Result<Turned> {
        let layer = self.place.layer;
        let (site, rotated_site) = match self.input {
            HeadInput::Q => (Site::Q, Site::ROT_Q),
            HeadInput::K => (Site::K, Site::ROT_K),
            HeadInput::V => {
                return Ok(Turned { sender: sender.shallow_clone(), components: components.shallow_clone() });
            }
        };
        if !model.points().contains(&rotated_site.at(layer)) {
            return Ok(Turned { sender: sender.shallow_clone(), components: components.shallow_clone() });
        }
        // One row of all positions with the sender's parts, then rows of the one position with the components'.
        let (len, d_head) = sender.size2()?;
        let count = components.size()[0];
        let rows = 1 + (count - 1) / len + 1;
        let padded = components.f_constant_pad_nd([0, 0, 0, (rows - 1) * len - count])?;
        let vectors = Tensor::f_cat(&[sender, &padded], 0)?.f_view([rows, len, d_head])?;
        let options = (Kind::Int64, model.device());
        let positions = Tensor::f_cat(
            &[Tensor::f_arange(len, options)?.f_unsqueeze(0)?, Tensor::f_full([rows - 1, len], at, options)?],
            0,
        )?;
        let tokens = Tokens::from_tensor(&positions.f_zeros_like()?)?;
        let residual = Tensor::f_zeros([rows, len, model.dims().d_model as i64], (model.kind(), model.device()))?;
        let put = edit::with(|value| Ok(value.f_select_scatter(&vectors.f_to_kind(value.kind())?, 2, self.head)?));
        let run = model
            .trace(&tokens)
            .start_at(layer, &residual)
            .stop_at(layer + 1)
            .positions(&positions)
            .logits(PosSlice::None)
            .edit(site.at(layer), put)
            .keep(rotated_site.at(layer))
            .run()?;
        let turned = run.cache.get(rotated_site.at(layer))?.f_select(2, self.head)?.f_to_kind(Kind::Double)?;
        let mut turned = turned.f_reshape([rows * len, d_head])?;
        if model.weights().contains(&Weight::Q_NORM.at(layer)) {
            // The model normed each part with its own scale.
            let own = norm_scale(model, &vectors.f_view([rows * len, d_head])?)?;
            let whole = self.input_vectors.f_index_select(0, &positions.f_reshape([-1])?)?;
            turned = turned.f_mul(&own)?.f_div(&norm_scale(model, &whole)?)?;
        }
        Ok(Turned { sender: turned.f_narrow(0, 0, len)?, components: turned.f_narrow(0, len, count)? })
    }

    /// The effects of parts at one position (`[component, d_head]`, turned) on a query and a key: `[component]`.
    pub(super) fn effects(&self, parts: &Tensor, query: i64, key: i64) -> Result<Tensor> {
        let there = if self.input == HeadInput::Q { key } else { query };
        Ok(parts.f_mv(&self.other.f_get(there)?)?.f_mul_scalar(self.strength(query, key)?)?)
    }

    /// The effect of parts at every position (`[pos, d_head]`, turned): `[query, key]`, 0 where a key is not seen.
    pub(super) fn effect_grid(&self, parts: &Tensor) -> Result<Tensor> {
        let dots = match self.input {
            HeadInput::Q => parts.f_matmul(&self.other.f_transpose(0, 1)?)?,
            HeadInput::K | HeadInput::V => self.other.f_matmul(&parts.f_transpose(0, 1)?)?,
        };
        let effects = match self.input {
            HeadInput::Q | HeadInput::K => dots.f_mul_scalar(self.factor)?,
            HeadInput::V => dots.f_mul(&self.pattern)?,
        };
        Ok(effects.f_masked_fill(&self.scores.f_eq(f64::NEG_INFINITY)?, 0.0)?)
    }

    /// What the effects of all components sum to.
    pub(super) fn whole_effect(&self, query: i64, key: i64) -> Result<f64> {
        match self.input {
            HeadInput::Q | HeadInput::K => Ok(self.scores.f_double_value(&[query, key])?),
            HeadInput::V => {
                let share = self.input_vectors.f_get(key)?.f_dot(&self.other.f_get(query)?)?.f_double_value(&[])?;
                Ok(share * self.strength(query, key)?)
            }
        }
    }

    /// What a dot product at a query and a key is multiplied by.
    fn strength(&self, query: i64, key: i64) -> Result<f64> {
        match self.input {
            HeadInput::Q | HeadInput::K => Ok(self.factor),
            HeadInput::V => Ok(self.pattern.f_double_value(&[query, key])?),
        }
    }
}

impl Parts {
    /// Adds components from what they are at every position: `[pos, component, d_head]`.
    fn add(&mut self, names: Vec<String>, parts: &Tensor, at: i64) -> Result<()> {
        self.names.extend(names);
        self.at = Tensor::f_cat(&[&self.at, &parts.f_get(at)?], 0)?;
        self.sum = self.sum.f_add(&parts.f_sum_dim_intlist(1, false, Kind::Double)?)?;
        Ok(())
    }
}

/// What scores are, times their dot products: read off the pair with the greatest one, and 0 where all are 0.
fn factor(scores: &Tensor, dots: &Tensor) -> Result<f64> {
    let seen = scores.f_ne(f64::NEG_INFINITY)?;
    let (scores, dots) = (scores.f_masked_select(&seen)?, dots.f_masked_select(&seen)?);
    let place = dots.f_abs()?.f_argmax(0, false)?.f_int64_value(&[])?;
    let dot = dots.f_double_value(&[place])?;
    if dot == 0.0 { Ok(0.0) } else { Ok(scores.f_double_value(&[place])? / dot) }
}

/// The divisor of the norm of queries and keys (`[…, d_head]`): `[…, 1]`.
fn norm_scale(model: &dyn Model, x: &Tensor) -> Result<Tensor> {
    let centred = match model.dims().norm {
        NormKind::Layer => x.f_sub(&x.f_mean_dim(-1, true, Kind::Double)?)?,
        NormKind::Rms => x.shallow_clone(),
    };
    let squared = centred.f_square()?.f_mean_dim(-1, true, Kind::Double)?;
    Ok(squared.f_add_scalar(model.dims().norm_eps)?.f_sqrt()?)
}

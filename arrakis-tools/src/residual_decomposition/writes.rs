//! The writes to the residual stream in one run, in TransformerLens' stacks.

use arrakis_core::{
    Cache, Context, Error, HookPoint, Model, NormKind, PosSlice, Residual, Result, Site, Tokens, Weight,
};
use tch::{Kind, Tensor};

use super::{Decomposition, StreamPlace, Sublayers};
use crate::logit_attribution::rows;
use crate::written::component_label;
use crate::{index, reduce};

/// A run whose writes to the residual stream were kept: what TransformerLens asks its `ActivationCache` about them.
///
/// Everything is in double, at the wanted positions. Heads and neurons are kept as `hook_z` and `mlp.hook_post` and
/// multiplied by the rows of their output matrix when asked for.
///
/// ```
/// use arrakis_core::{Context, ModelExt, PosSlice, Tokens};
/// use arrakis_tools::{ResidualWrites, StreamPlace, Sublayers};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/golden/gpt2");
/// # let model = arrakis_models::load(folder, &arrakis_models::LoadOptions::default())?;
/// let tokens = Tokens::from_ids(&[9, 3, 17])?;
/// let writes = ResidualWrites::of(&Context::new(&model), &tokens, &PosSlice::Last, false)?;
/// let parts = writes.decompose_resid(StreamPlace::End, Sublayers::All, true)?;
/// assert_eq!(parts.labels[..4], ["embed", "pos_embed", "0_attn_out", "0_mlp_out"]);
/// assert_eq!(writes.stack_head_results(StreamPlace::Before(1), false)?.labels[3], "L0H3");
/// # Ok(())
/// # }
/// ```
pub struct ResidualWrites<'a> {
    model: &'a dyn Model,
    kept: Cache,
}

impl<'a> ResidualWrites<'a> {
    /// Runs over `tokens` and keeps, at the wanted positions, what is written; the neurons only if they are wanted.
    pub fn of(cx: &Context<'a>, tokens: &Tokens, positions: &PosSlice, neurons: bool) -> Result<Self> {
        let model = cx.model();
        let dims = model.dims();
        let wanted = positions.count(tokens.positions() as i64);
        if wanted == 0 {
            let why = "no position is wanted; give one at least".into();
            return Err(Error::Invalid { what: "positions".into(), why });
        }
        let embeds = [Site::EMBED, Site::POS_EMBED].map(Site::global);
        let mut sites = vec![Site::RESID_PRE, Site::Z, Site::ATTN_OUT, Site::MLP_OUT];
        if dims.residual == Residual::Serial {
            sites.push(Site::RESID_MID);
        }
        if neurons {
            sites.push(Site::MLP_POST);
        }
        let blocks = (0..dims.n_layers).flat_map(|layer| sites.iter().map(move |site| site.at(layer)));
        let ends = [Site::RESID_POST.at(dims.n_layers - 1), Site::LN_FINAL_SCALE.global()];
        let points: Vec<HookPoint> =
            embeds.into_iter().filter(|point| model.points().contains(point)).chain(blocks).chain(ends).collect();
        let numbers = points.iter().map(|point| point.shape(dims, tokens.batch() as i64, wanted));
        let bytes = numbers.map(|shape| shape.iter().product::<i64>() as u64 * 8).sum();
        if let Some(limit) = cx.memory_limit().filter(|limit| bytes > *limit) {
            return Err(Error::TooMuchMemory { bytes, limit });
        }
        let (_, kept) = reduce::reduce(model, tokens, PosSlice::None, &points, |_, value| {
            Ok(positions.of(value, 1, tokens.mask())?.f_to_kind(Kind::Double)?)
        })?;
        Ok(Self { model, kept })
    }

    /// The stream itself at a place: `[batch, pos, d_model]`.
    pub fn stream(&self, place: StreamPlace) -> Result<&Tensor> {
        self.kept.get(place.resolve(self.model.dims())?.2)
    }

    /// The divisor of the final norm: `[batch, pos, 1]`.
    pub fn final_scale(&self) -> Result<&Tensor> {
        self.kept.get(Site::LN_FINAL_SCALE.global())
    }

    /// The embeddings: of tokens, and of positions where they are learned.
    pub fn embeddings(&self) -> Result<Decomposition> {
        let points = [Site::EMBED.global(), Site::POS_EMBED.global()];
        self.named(points.into_iter().filter(|point| self.kept.contains(*point)))
    }

    /// What attention and MLP of one block write, or one of them.
    pub fn sublayers(&self, layer: usize, mode: Sublayers) -> Result<Decomposition> {
        let attention = (mode != Sublayers::Mlp).then_some(Site::ATTN_OUT.at(layer));
        let mlp = (mode != Sublayers::Attention).then_some(Site::MLP_OUT.at(layer));
        self.named(attention.into_iter().chain(mlp))
    }

    /// What each head of one block writes, without the output bias.
    pub fn heads(&self, layer: usize) -> Result<Decomposition> {
        let out = self.model.weight(Weight::O.at(layer))?.f_to_kind(Kind::Double)?;
        let stack = Tensor::f_einsum("bphd,hdm->hbpm", &[self.kept.get(Site::Z.at(layer))?, &out], None::<&[i64]>)?;
        let labels = (0..self.model.dims().n_heads).map(|head| index::head_label(layer, head)).collect();
        Ok(Decomposition { labels, stack })
    }

    /// How active the neurons of one block are (`[batch, pos, neuron]`), and what each writes for a 1 (`[neuron, d_model]`).
    pub fn neuron_factors(&self, layer: usize) -> Result<(&Tensor, Tensor)> {
        let out = self.model.weight(Weight::OUT.at(layer))?.f_to_kind(Kind::Double)?;
        Ok((self.kept.get(Site::MLP_POST.at(layer))?, out))
    }

    /// What each neuron of one block writes, without the output bias.
    pub fn neurons(&self, layer: usize) -> Result<Decomposition> {
        let (active, out) = self.neuron_factors(layer)?;
        let out = out.f_unsqueeze(1)?.f_unsqueeze(1)?;
        let stack = active.f_permute([2, 0, 1])?.f_unsqueeze(-1)?.f_mul(&out)?;
        let labels = (0..self.model.dims().d_mlp).map(|neuron| super::neuron_label(layer, neuron)).collect();
        Ok(Decomposition { labels, stack })
    }

    /// The stream before each block up to a place, and between its halves if wanted (TransformerLens' `accumulated_resid`).
    pub fn accumulated_resid(&self, place: StreamPlace, incl_mid: bool) -> Result<Decomposition> {
        let (layers, _, end) = place.resolve(self.model.dims())?;
        let mut parts = Vec::new();
        for layer in 0..layers {
            parts.push((format!("{layer}_pre"), self.kept.get(Site::RESID_PRE.at(layer))?.shallow_clone()));
            if incl_mid && self.model.dims().residual == Residual::Serial {
                parts.push((format!("{layer}_mid"), self.kept.get(Site::RESID_MID.at(layer))?.shallow_clone()));
            }
        }
        let last = match end.site {
            Site::RESID_POST => "final_post".to_owned(),
            Site::RESID_MID => {
                parts.push((format!("{layers}_pre"), self.kept.get(Site::RESID_PRE.at(layers))?.shallow_clone()));
                format!("{layers}_mid")
            }
            _ => format!("{layers}_pre"),
        };
        parts.push((last, self.kept.get(end)?.shallow_clone()));
        Decomposition::of(parts)
    }

    /// What embeddings and the halves of the blocks wrote before a place (TransformerLens' `decompose_resid`).
    pub fn decompose_resid(&self, place: StreamPlace, mode: Sublayers, incl_embeds: bool) -> Result<Decomposition> {
        let (layers, mid, _) = place.resolve(self.model.dims())?;
        let mut parts = Vec::new();
        if incl_embeds {
            parts.push(self.embeddings()?);
        }
        for layer in 0..layers {
            parts.push(self.sublayers(layer, mode)?);
        }
        if mid && mode != Sublayers::Mlp {
            parts.push(self.sublayers(layers, Sublayers::Attention)?);
        }
        Decomposition::joined(parts)
    }

    /// What every head wrote before a place (TransformerLens' `stack_head_results`); the rest of the stream as
    /// `remainder`, if wanted.
    pub fn stack_head_results(&self, place: StreamPlace, incl_remainder: bool) -> Result<Decomposition> {
        let (layers, mid, _) = place.resolve(self.model.dims())?;
        let parts = (0..layers + usize::from(mid)).map(|layer| self.heads(layer)).collect::<Result<Vec<_>>>()?;
        self.with_remainder(parts, place, incl_remainder)
    }

    /// What every neuron wrote before a place (TransformerLens' `stack_neuron_results`); the rest of the stream as
    /// `remainder`, if wanted.
    pub fn stack_neuron_results(&self, place: StreamPlace, incl_remainder: bool) -> Result<Decomposition> {
        let (layers, _, _) = place.resolve(self.model.dims())?;
        let parts = (0..layers).map(|layer| self.neurons(layer)).collect::<Result<Vec<_>>>()?;
        self.with_remainder(parts, place, incl_remainder)
    }

    /// Heads, MLPs or their neurons, embeddings and the summed biases before a place, which sum to the stream
    /// (TransformerLens' `full_decomposition`).
    pub fn full_decomposition(&self, place: StreamPlace, expand_neurons: bool) -> Result<Decomposition> {
        let (layers, mid, _) = place.resolve(self.model.dims())?;
        let mut parts = (0..layers + usize::from(mid)).map(|layer| self.heads(layer)).collect::<Result<Vec<_>>>()?;
        for layer in 0..layers {
            parts.push(if expand_neurons { self.neurons(layer)? } else { self.sublayers(layer, Sublayers::Mlp)? });
        }
        parts.push(self.embeddings()?);
        let bias = self.accumulated_bias(place, expand_neurons)?.f_expand_as(self.stream(place)?)?;
        parts.push(Decomposition::of(vec![("bias".into(), bias)])?);
        Decomposition::joined(parts)
    }

    /// The output biases of attention before a place, and of the MLPs if wanted, summed: `[d_model]`.
    pub fn accumulated_bias(&self, place: StreamPlace, include_mlp_biases: bool) -> Result<Tensor> {
        let dims = self.model.dims();
        let (layers, mid, _) = place.resolve(dims)?;
        let attention = (0..layers + usize::from(mid)).map(|layer| Weight::O_B.at(layer));
        let mlps = (0..if include_mlp_biases { layers } else { 0 }).map(|layer| Weight::OUT_B.at(layer));
        let mut sum = Tensor::f_zeros([dims.d_model as i64], (Kind::Double, self.model.device()))?;
        for bias in attention.chain(mlps) {
            if let Some(bias) = self.model.weight_if_any(bias)? {
                sum = sum.f_add(&bias.f_to_kind(Kind::Double)?)?;
            }
        }
        Ok(sum)
    }

    /// The parts under the final norm, with the scale held that the whole stream had there (TransformerLens'
    /// `apply_ln_to_stack`, times the norm's weight where it is not folded).
    pub fn apply_ln(&self, parts: &Decomposition) -> Result<Decomposition> {
        let stack = self.model.final_norm_with_scale(&parts.stack, self.final_scale()?)?;
        Ok(Decomposition { labels: parts.labels.clone(), stack })
    }

    /// Each part under the final norm as if it were the whole stream, with its own scale, the norm's weight and its bias
    /// (what TransformerLens' `accumulated_resid` does with `apply_ln`).
    pub fn apply_own_ln(&self, parts: &Decomposition) -> Result<Decomposition> {
        let dims = self.model.dims();
        let centred = match dims.norm {
            NormKind::Layer => parts.stack.f_sub(&parts.stack.f_mean_dim(-1, true, Kind::Double)?)?,
            NormKind::Rms => parts.stack.shallow_clone(),
        };
        let scale = centred.f_square()?.f_mean_dim(-1, true, Kind::Double)?.f_add_scalar(dims.norm_eps)?.f_sqrt()?;
        let mut stack = self.model.final_norm_with_scale(&parts.stack, &scale)?;
        if let Some(bias) = self.model.weight_if_any(Weight::LN_FINAL_B.global())? {
            stack = stack.f_add(&bias.f_to_kind(Kind::Double)?)?;
        }
        Ok(Decomposition { labels: parts.labels.clone(), stack })
    }

    /// What each part adds to the logit of `answer` less that of `wrong`, ids of each row (`[batch]`), through the
    /// final norm with its scale held (TransformerLens' `logit_attrs`): `[component, batch, pos]`.
    pub fn logit_attrs(&self, parts: &Decomposition, answer: &Tensor, wrong: Option<&Tensor>) -> Result<Tensor> {
        let direction = rows::direction(self.model, answer, wrong)?;
        Ok(Tensor::f_einsum("cbpm,bm->cbp", &[&self.apply_ln(parts)?.stack, &direction], None::<&[i64]>)?)
    }

    fn named(&self, points: impl Iterator<Item = HookPoint>) -> Result<Decomposition> {
        let part = |point: HookPoint| Ok((component_label(point), self.kept.get(point)?.shallow_clone()));
        Decomposition::of(points.map(part).collect::<Result<_>>()?)
    }

    fn with_remainder(
        &self,
        mut parts: Vec<Decomposition>,
        place: StreamPlace,
        incl_remainder: bool,
    ) -> Result<Decomposition> {
        if incl_remainder {
            let mut rest = self.stream(place)?.shallow_clone();
            for part in &parts {
                rest = rest.f_sub(&part.sum()?)?;
            }
            parts.push(Decomposition::of(vec![("remainder".into(), rest)])?);
        }
        Decomposition::joined(parts)
    }
}

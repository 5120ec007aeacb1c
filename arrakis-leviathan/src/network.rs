//! The forward pass, of one model or of a stack of models whose rows follow each other in the batch.

use arrakis_core::{Dims, Error, Input, Output, Pass, PosSlice, Result, Site, Tap};
use arrakis_models::Place;
use arrakis_models::architecture::Window;
use arrakis_models::mask::Masks;
use arrakis_models::rope::{Rope, Scaling};
use tch::{Kind, Tensor};

use crate::config::{Config, Positions};
use crate::layout::Role;
use crate::linear::{divisor, linear, norm, weighted};
use crate::mixer::LagWeights;
use crate::mixing::Surroundings;
use crate::parameters::Parameters;
use crate::{feed_forward, mixing};

/// The base of the rotary frequencies.
const THETA: f64 = 10_000.0;

/// A stack of models of one configuration, which sees a batch of `stack * rows`.
#[derive(Debug)]
pub(crate) struct Network {
    pub(crate) config: Config,
    pub(crate) dims: Dims,
    pub(crate) parameters: Parameters,
}

/// The parameters of one block, or those outside the blocks.
pub(crate) struct Reader<'a> {
    parameters: &'a Parameters,
    layer: Option<usize>,
}

impl Reader<'_> {
    pub(crate) fn get(&self, role: Role) -> Result<&Tensor> {
        self.parameters.get(role, self.layer)
    }

    pub(crate) fn stack(&self) -> i64 {
        self.parameters.stack()
    }

    /// A parameter without its stack, which has one model; sites that need it are not for more.
    pub(crate) fn single(&self, part: &Tensor) -> Result<Tensor> {
        if self.stack() != 1 {
            let why = "heads are looked at one model at a time".to_owned();
            return Err(Error::Invalid { what: "stack of models".into(), why });
        }
        Ok(part.f_squeeze_dim(0)?)
    }

    /// The lag weights, if the mixer has lags.
    pub(crate) fn lags(&self) -> Result<Option<LagWeights>> {
        let has = |role| self.parameters.layout.place(role, self.layer).is_some();
        if has(Role::Lag) {
            return Ok(Some(LagWeights::Diagonal(self.get(Role::Lag)?.shallow_clone())));
        }
        if has(Role::QueryLag) {
            let (query, key) = (self.get(Role::QueryLag)?.shallow_clone(), self.get(Role::KeyLag)?.shallow_clone());
            return Ok(Some(LagWeights::Terms { query, key }));
        }
        Ok(None)
    }

    /// Weight and bias of a norm.
    fn norm_parts(&self, role: Role) -> Result<(&Tensor, &Tensor)> {
        let bias = match role {
            Role::Norm1 => Role::Norm1Bias,
            Role::Norm2 => Role::Norm2Bias,
            _ => Role::NormFinalBias,
        };
        Ok((self.get(role)?, self.get(bias)?))
    }

    /// The norm of `x`, shown to nobody.
    pub(crate) fn plain_norm(&self, x: &Tensor, role: Role) -> Result<Tensor> {
        let (weight, bias) = self.norm_parts(role)?;
        norm(x, weight, bias)
    }

    /// The norm of `x`, its divisor and its normalised value shown at two sites; and the site that was edited, if any.
    pub(crate) fn norm(
        &self,
        x: &Tensor,
        role: Role,
        (scale, normalized): (Site, Site),
        tap: &mut Tap<'_>,
    ) -> Result<(Tensor, Option<Site>)> {
        if !tap.watches_any(&[scale, normalized]) {
            let whole = self.plain_norm(x, role)?;
            tap.passed(normalized);
            return Ok((whole, None));
        }
        let (weight, bias) = self.norm_parts(role)?;
        let centred = x.f_sub(&x.f_mean_dim(-1, true, None::<Kind>)?)?;
        let (divisor, scale_edited) = tap.at_noting(scale, divisor(&centred)?)?;
        let (value, edited) = tap.at_noting(normalized, centred.f_div(&divisor)?)?;
        let edited = if edited { Some(normalized) } else { scale_edited.then_some(scale) };
        let whole = weighted(&value, weight, bias)?;
        tap.passed(normalized);
        Ok((whole, edited))
    }
}

impl Network {
    pub(crate) fn new(config: Config, parameters: Parameters) -> Self {
        Self { dims: config.dims(), config, parameters }
    }

    fn reader(&self, layer: Option<usize>) -> Reader<'_> {
        Reader { parameters: &self.parameters, layer }
    }

    pub(crate) fn forward(&self, pass: &mut Pass<'_>) -> Result<Output> {
        let (kind, device) = (self.parameters.flat.kind(), self.parameters.flat.device());
        let place = Place::of(pass, &self.dims, kind, false)?;
        let masks = Masks::new(&[Window::Causal], place.past_len, place.len, place.real.as_ref(), device)?;
        let rotation = match self.config.positions {
            Positions::Learned | Positions::None => None,
            Positions::Rotary => Some(self.rope().rotation(&place.positions, place.length, kind, device)?),
        };
        let mut tap = Tap::new(&mut *pass.hooks);
        let mut resid = self.embedding(&pass.input, &place, &mut tap)?;
        let mut seen = Vec::new();
        for layer in place.layers.clone() {
            let around = Surroundings {
                config: &self.config,
                place: &place,
                mask: masks.of(Window::Causal),
                rotation: rotation.as_ref(),
                past: pass.past.and_then(|past| past.layers.get(layer)),
                keep: pass.keep_past,
            };
            let (after, kept) = self.block(resid, layer, &around, &mut tap.block(layer))?;
            resid = after;
            seen.extend(kept);
        }
        let past = if pass.keep_past { Some(place.past(seen)?) } else { None };
        let logits = if pass.stop_at.is_some() { None } else { self.logits(&resid, &pass.logits, &place, &mut tap)? };
        Ok(Output { residual: resid, logits, past })
    }

    fn rope(&self) -> Rope {
        let (dims, context) = (self.config.d_head(), self.config.context);
        Rope { dims, theta: THETA, scaling: Scaling::Default {}, context }
    }

    fn embedding(&self, input: &Input<'_>, place: &Place, tap: &mut Tap<'_>) -> Result<Tensor> {
        let device = self.parameters.flat.device();
        let tokens = match input {
            Input::Residual(residual) => return Ok(residual.shallow_clone()),
            Input::Tokens(tokens) => tap.at(Site::TOKENS, tokens.f_to_device(device)?)?,
        };
        let reader = self.reader(None);
        let embedded = tap.at(Site::EMBED, look_up(reader.get(Role::Embed)?, &tokens)?)?;
        if self.config.positions != Positions::Learned {
            return Ok(embedded);
        }
        let positions = place.positions.f_to_device(device)?.f_expand([place.batch, place.len], false)?;
        let learned = tap.at(Site::POS_EMBED, look_up(reader.get(Role::Position)?, &positions)?)?;
        Ok(embedded.f_add(&learned)?)
    }

    fn block(
        &self,
        resid: Tensor,
        layer: usize,
        around: &Surroundings<'_>,
        tap: &mut Tap<'_>,
    ) -> Result<(Tensor, Option<(Tensor, Tensor)>)> {
        let reader = self.reader(Some(layer));
        let resid_pre = tap.at(Site::RESID_PRE, resid)?;
        let (attn_out, seen) = mixing::apply(&resid_pre, &reader, around, tap)?;
        let attn_out = tap.at(Site::ATTN_OUT, attn_out)?;
        let resid_mid = tap.at(Site::RESID_MID, resid_pre.f_add(&attn_out)?)?;
        let mlp_in = tap.at(Site::MLP_IN, resid_mid.shallow_clone())?;
        let normalized = reader.norm(&mlp_in, Role::Norm2, (Site::LN2_SCALE, Site::LN2_NORMALIZED), tap)?.0;
        let mlp_out = feed_forward::apply(&normalized, self.config.feed_forward, &reader, tap)?;
        let mlp_out = tap.at(Site::MLP_OUT, mlp_out)?;
        Ok((tap.at(Site::RESID_POST, resid_mid.f_add(&mlp_out)?)?, seen))
    }

    fn logits(&self, resid: &Tensor, wanted: &PosSlice, place: &Place, tap: &mut Tap<'_>) -> Result<Option<Tensor>> {
        let sites = (Site::LN_FINAL_SCALE, Site::LN_FINAL_NORMALIZED);
        if *wanted == PosSlice::None && !tap.watches_any(&[sites.0, sites.1]) {
            return Ok(None);
        }
        let reader = self.reader(None);
        let normalized = reader.norm(resid, Role::NormFinal, sites, tap)?.0;
        if *wanted == PosSlice::None {
            return Ok(None);
        }
        let chosen = wanted.of(&normalized, 1, place.real.as_ref())?;
        Ok(Some(linear(&chosen, reader.get(Role::Unembed)?, None)?))
    }

    /// The logits of a residual stream of `[…, d_model]`, for one model.
    pub(crate) fn unembed(&self, residual: &Tensor) -> Result<Tensor> {
        let reader = self.reader(None);
        let unembed = reader.single(reader.get(Role::Unembed)?)?;
        Ok(reader.plain_norm(residual, Role::NormFinal)?.f_matmul(&unembed)?)
    }
}

/// Rows of each model's own table (`[stack, count, d_model]`) for `ids` of `[stack * batch, pos]`.
fn look_up(table: &Tensor, ids: &Tensor) -> Result<Tensor> {
    let [stack, count, width] = table.size()[..] else {
        return Err(Error::Invalid { what: "table".into(), why: format!("shape {:?}", table.size()) });
    };
    if stack == 1 {
        return Ok(Tensor::f_embedding(&table.f_squeeze_dim(0)?, ids, -1, false, false)?);
    }
    let first = Tensor::f_arange(stack, (Kind::Int64, ids.device()))?.f_mul_scalar(count)?;
    let rows = ids.f_reshape([stack, -1])?.f_add(&first.f_unsqueeze(1)?)?.f_view(&ids.size()[..])?;
    Ok(Tensor::f_embedding(&table.f_reshape([stack * count, width])?, &rows, -1, false, false)?)
}

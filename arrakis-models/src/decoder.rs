//! The one decoder: every family is this forward pass with another architecture.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use arrakis_core::{
    Dims, Error, HookPoint, Input, KeyValues, Model, Output, Pass, PosSlice, Result, Site, Tap, WeightPoint,
    unknown_weight,
};
use tch::{Device, Kind, Tensor};

use crate::architecture::{Architecture, EmbedScale, Positions, Window};
use crate::attention::Surroundings;
use crate::block::Block;
use crate::linear::Linear;
use crate::mask::Masks;
use crate::norm::Norm;
use crate::tokenizer::{Later, Tokenizer};
use crate::{digest, weights};

/// A causal transformer with its weights.
pub struct Decoder {
    pub(crate) architecture: Architecture,
    pub(crate) embed: Tensor,
    pub(crate) pos_embed: Option<Tensor>,
    pub(crate) blocks: Vec<Block>,
    pub(crate) ln_final: Norm,
    pub(crate) unembed: Linear,
    pub(crate) points: Vec<HookPoint>,
    pub(crate) tokenizer: Arc<Later>,
    /// What the weights were loaded from, as long as they are as they were.
    pub(crate) files: Vec<PathBuf>,
    pub(crate) digest: OnceLock<String>,
}

/// What the blocks of a pass share.
struct Positioning {
    positions: Tensor,
    all_positions: Tensor,
    real: Option<Tensor>,
    length: usize,
}

impl Decoder {
    /// The mathematics, without the weights.
    #[must_use]
    pub const fn architecture(&self) -> &Architecture {
        &self.architecture
    }

    /// The tokenizer, if the checkpoint has one; read when it is first asked for.
    ///
    /// # Errors
    /// A tokenizer that cannot be used, by its file.
    pub fn tokenizer(&self) -> Result<Option<&Tokenizer>> {
        self.tokenizer.get()
    }

    fn needed_tokenizer(&self) -> Result<&Tokenizer> {
        self.tokenizer()?.ok_or(Error::NoTokenizer)
    }

    fn embedding(&self, input: &Input<'_>, place: &Positioning, tap: &mut Tap<'_>) -> Result<Tensor> {
        let tokens = match input {
            Input::Residual(residual) => return Ok(residual.shallow_clone()),
            Input::Tokens(tokens) => tap.at(Site::TOKENS, tokens.f_to_device(self.device())?)?,
        };
        let mut embedded = Tensor::f_embedding(&self.embed, &tokens, -1, false, false)?;
        if let EmbedScale::RootDModel = self.architecture.embed_scale {
            let scale = Tensor::f_from_slice(&[(self.architecture.dims.d_model as f64).sqrt()])?;
            embedded = embedded.f_mul(&scale.f_to_kind(self.kind())?.f_to_device(self.device())?)?;
        }
        let embedded = tap.at(Site::EMBED, embedded)?;
        let Some(table) = &self.pos_embed else { return Ok(embedded) };
        let learned = Tensor::f_embedding(table, &place.positions.f_to_device(self.device())?, -1, false, false)?;
        let learned = tap.at(Site::POS_EMBED, learned.f_expand_as(&embedded)?)?;
        Ok(embedded.f_add(&learned)?)
    }

    /// Positions, padding and length of the text that a pass completes; all on the CPU.
    fn positioning(&self, pass: &Pass<'_>, batch: i64, len: i64) -> Result<Positioning> {
        let past_len = pass.past.map_or(0, KeyValues::len);
        let real = joined_mask(pass.past.and_then(|past| past.mask.as_ref()), pass.mask, batch, past_len, len)?;
        let positions = match pass.positions {
            Some(given) => given_positions(given, batch, len)?,
            None => counted_positions(real.as_ref(), pass.past, batch, len)?,
        };
        let all_positions = match pass.past {
            Some(past) => Tensor::f_cat(&[&past.positions, &positions.f_expand([batch, len], false)?], 1)?,
            None => positions.shallow_clone(),
        };
        let length = all_positions.f_max()?.f_int64_value(&[])? + 1;
        self.check_length(length)?;
        Ok(Positioning { positions, all_positions, real, length: length as usize })
    }

    fn check_length(&self, length: i64) -> Result<()> {
        let context = self.architecture.dims.context as i64;
        let stretches = matches!(&self.architecture.positions, Positions::Rotary(rope) if rope.depends_on_length());
        if length > context && !stretches { Err(Error::TooLong { len: length, context }) } else { Ok(()) }
    }

    fn check_input(&self, input: &Input<'_>) -> Result<(i64, i64)> {
        let wrong = |what: &str, size: &[i64], wanted: &str| {
            Err(Error::Invalid { what: what.into(), why: format!("shape {size:?} where {wanted} is wanted") })
        };
        match input {
            Input::Tokens(tokens) => {
                let [batch, len] = tokens.size()[..] else {
                    return wrong("token ids", &tokens.size(), "[batch, pos]");
                };
                if batch == 0 || len == 0 {
                    return Err(Error::EmptyPrompt);
                }
                check_vocabulary(tokens, self.architecture.dims.vocab as i64)?;
                Ok((batch, len))
            }
            Input::Residual(residual) => match residual.size()[..] {
                [batch, len, width] if width == self.architecture.dims.d_model as i64 && batch * len > 0 => {
                    if residual.kind() != self.kind() {
                        let why = format!("kind {:?} where the model is {:?}", residual.kind(), self.kind());
                        return Err(Error::Invalid { what: "residual stream".into(), why });
                    }
                    Ok((batch, len))
                }
                _ => wrong("residual stream", &residual.size(), "[batch, pos, d_model]"),
            },
        }
    }

    fn layers(&self, pass: &Pass<'_>, batch: i64) -> Result<std::ops::Range<usize>> {
        let n_layers = self.architecture.dims.n_layers;
        let stop = pass.stop_at.unwrap_or(n_layers);
        for (what, layer) in [("stop_at layer", stop), ("start_at layer", pass.start_at)] {
            if layer > n_layers {
                return Err(Error::OutOfRange { what: what.into(), index: layer as i64, len: n_layers as i64 });
            }
        }
        if pass.start_at > stop || (pass.start_at > 0 && matches!(pass.input, Input::Tokens(_))) {
            let why = "a pass starts at a layer from a residual stream, and stops at a later one".into();
            return Err(Error::Invalid { what: format!("layers {}..{stop}", pass.start_at), why });
        }
        if pass.past.is_some_and(|past| past.layers.len() != n_layers) {
            let why = format!("it has other blocks than this model's {n_layers}");
            return Err(Error::Invalid { what: "key-value state".into(), why });
        }
        if let Some(past) = pass.past
            && past.positions.size().first() != Some(&batch)
        {
            let why = format!("it has {:?} rows and positions where the pass has {batch} rows", past.positions.size());
            return Err(Error::Invalid { what: "key-value state".into(), why });
        }
        if pass.keep_past && (pass.start_at > 0 || stop < n_layers) {
            let why = "a pass through the whole model gives it, and this one leaves blocks out".into();
            return Err(Error::Invalid { what: "key-value state".into(), why });
        }
        Ok(pass.start_at..stop)
    }

    fn run(&self, pass: &mut Pass<'_>) -> Result<Output> {
        let (batch, len) = self.check_input(&pass.input)?;
        let layers = self.layers(pass, batch)?;
        let place = self.positioning(pass, batch, len)?;
        let past_len = pass.past.map_or(0, KeyValues::len);
        let windows = &self.architecture.windows;
        let masks = Masks::new(windows, past_len, len, place.real.as_ref(), self.device())?;
        let (rotation, key_rotation) = match &self.architecture.positions {
            Positions::Learned => (None, None),
            Positions::Rotary(rope) => {
                let rotation = |positions| rope.rotation(positions, place.length, self.kind(), self.device());
                let keys = if rope.depends_on_length() { Some(rotation(&place.all_positions)?) } else { None };
                (Some(rotation(&place.positions)?), keys)
            }
        };
        let mut tap = Tap::new(&mut *pass.hooks);
        let mut resid = self.embedding(&pass.input, &place, &mut tap)?;
        let mut seen = Vec::new();
        for layer in layers {
            let around = Surroundings {
                rotation: rotation.as_ref(),
                key_rotation: key_rotation.as_ref(),
                mask: masks.of(windows.get(layer).copied().unwrap_or(Window::Causal)),
                past: pass.past.and_then(|past| past.layers.get(layer)),
                keep: pass.keep_past,
            };
            let (after, key_value) = self.blocks[layer].apply(resid, &around, &mut tap.block(layer))?;
            resid = after;
            if pass.keep_past {
                seen.extend(key_value);
            }
        }
        let past = if pass.keep_past {
            let positions = place.all_positions.f_expand([batch, past_len + len], false)?.f_contiguous()?;
            Some(KeyValues { layers: seen, positions, mask: place.real.as_ref().map(Tensor::shallow_clone) })
        } else {
            None
        };
        let logits = if pass.stop_at.is_some() {
            None
        } else {
            self.wanted_logits(&resid, &pass.logits, place.real.as_ref(), &mut tap)?
        };
        Ok(Output { residual: resid, logits, past })
    }

    fn wanted_logits(
        &self,
        resid: &Tensor,
        wanted: &PosSlice,
        real: Option<&Tensor>,
        tap: &mut Tap<'_>,
    ) -> Result<Option<Tensor>> {
        let sites = [Site::LN_FINAL_SCALE, Site::LN_FINAL_NORMALIZED];
        if *wanted == PosSlice::None && !tap.watches_any(&sites) {
            return Ok(None);
        }
        let normalized = self.ln_final.tapped(resid, tap, sites[0], sites[1])?.0;
        if *wanted == PosSlice::None {
            return Ok(None);
        }
        let chosen = wanted.of(&normalized, 1, real)?;
        Ok(Some(self.unembed.apply(&chosen)?))
    }

    /// The same model with its matrices laid out for the processor: quicker passes for the price of a copy.
    ///
    /// Pays for models that run more than a few times. For 32-bit floats on the CPU; other models stay as they are.
    /// Results differ by rounding. Models made by `with_weights` and passes that record gradients use the weights as
    /// they were loaded.
    ///
    /// # Errors
    /// What LibTorch says where it cannot lay out a matrix.
    pub fn packed(mut self) -> Result<Self> {
        if self.kind() == Kind::Float && self.device() == Device::Cpu {
            let _off = tch::no_grad_guard();
            for map in self.maps() {
                map.pack()?;
            }
        }
        Ok(self)
    }

    /// Every matrix product of a pass without split inputs.
    fn maps(&mut self) -> impl Iterator<Item = &mut Linear> {
        let blocks = self.blocks.iter_mut().flat_map(|block| {
            let (attention, mlp) = (&mut block.attention, &mut block.mlp);
            let qkv = match &mut attention.stacked {
                Some(stacked) => vec![stacked],
                None => vec![&mut attention.q, &mut attention.k, &mut attention.v],
            };
            qkv.into_iter().chain([&mut attention.o]).chain(mlp.gate.as_mut()).chain([&mut mlp.input, &mut mlp.output])
        });
        blocks.chain([&mut self.unembed])
    }

    /// A model that shares every weight with this one, to be edited.
    pub(crate) fn shallow_clone(&self) -> Self {
        Self {
            architecture: self.architecture.clone(),
            embed: self.embed.shallow_clone(),
            pos_embed: self.pos_embed.as_ref().map(Tensor::shallow_clone),
            blocks: self.blocks.clone(),
            ln_final: self.ln_final.clone(),
            unembed: self.unembed.clone(),
            points: self.points.clone(),
            tokenizer: self.tokenizer.clone(),
            files: Vec::new(),
            digest: OnceLock::new(),
        }
    }
}

impl Model for Decoder {
    fn dims(&self) -> &Dims {
        &self.architecture.dims
    }

    fn kind(&self) -> Kind {
        self.embed.kind()
    }

    fn device(&self) -> Device {
        self.embed.device()
    }

    fn points(&self) -> &[HookPoint] {
        &self.points
    }

    fn forward(&self, mut pass: Pass<'_>) -> Result<Output> {
        let _off = (!pass.record).then(tch::no_grad_guard);
        self.run(&mut pass)
    }

    fn unembed(&self, residual: &Tensor) -> Result<Tensor> {
        self.unembed.apply(&self.ln_final.apply(residual)?)
    }

    fn weights(&self) -> Vec<WeightPoint> {
        weights::list(self)
    }

    fn weight(&self, weight: WeightPoint) -> Result<Tensor> {
        weights::get(self, weight).ok_or_else(|| unknown_weight(&weight.to_string(), &self.weights()))?
    }

    fn with_weights(&self, edits: Vec<(WeightPoint, Tensor)>) -> Result<Box<dyn Model>> {
        let mut edited = self.shallow_clone();
        edited.maps().for_each(Linear::unpack);
        for (weight, value) in edits {
            weights::set(&mut edited, weight, &value)?;
        }
        Ok(Box::new(edited))
    }

    fn encode(&self, text: &str) -> Result<Vec<i64>> {
        Ok(self.needed_tokenizer()?.encode(text)?)
    }

    fn token_id(&self, text: &str) -> Result<i64> {
        Ok(self.needed_tokenizer()?.id_of(text)?)
    }

    fn decode(&self, tokens: &[i64]) -> Result<String> {
        Ok(self.needed_tokenizer()?.decode(tokens))
    }

    fn token(&self, token: i64) -> String {
        self.needed_tokenizer().map_or_else(|_| format!("[{token}]"), |tokenizer| tokenizer.token(token))
    }

    fn digest(&self) -> Result<String> {
        digest::remembered(self, &self.digest)
    }

    fn tokenizer_digest(&self) -> Result<Option<String>> {
        self.tokenizer.digest()
    }

    fn layout(&self) -> Option<&'static str> {
        self.unembed.is_packed().then_some("packed")
    }
}

/// Positions from outside, on the CPU: `[batch or 1, pos]`.
fn given_positions(given: &Tensor, batch: i64, len: i64) -> Result<Tensor> {
    let refuse = |why: String| Err(Error::Invalid { what: "positions".into(), why });
    if given.size() != [batch, len] && given.size() != [1, len] {
        return refuse(format!("shape {:?} for a pass of [{batch}, {len}]", given.size()));
    }
    let positions = given.f_to_device(Device::Cpu)?.f_to_kind(Kind::Int64)?;
    if positions.f_min()?.f_int64_value(&[])? < 0 {
        return refuse("one of them is negative".into());
    }
    Ok(positions)
}

/// Positions counted over the real tokens, going on after the past: `[batch or 1, pos]`.
fn counted_positions(real: Option<&Tensor>, past: Option<&KeyValues>, batch: i64, len: i64) -> Result<Tensor> {
    let Some(real) = real else {
        let start = past.map_or(0, KeyValues::len);
        let counted = Tensor::f_arange_start(start, start + len, (Kind::Int64, Device::Cpu))?;
        // A past whose positions were given need not end where counting would.
        return match past {
            Some(past) => {
                let next = past.positions.f_amax([1], true)?.f_add_scalar(1)?;
                Ok(counted.f_sub_scalar(start)?.f_add(&next)?.f_expand([batch, len], false)?)
            }
            None => Ok(counted.f_unsqueeze(0)?),
        };
    };
    let counted = real.f_narrow(1, real.size()[1] - len, len)?.f_to_kind(Kind::Int64)?.f_cumsum(1, None::<Kind>)?;
    match past {
        Some(past) => Ok(counted.f_add(&past.positions.f_amax([1], true)?)?),
        None => Ok(counted.f_sub_scalar(1)?.f_clamp_min(0)?),
    }
}

/// Which keys are real, past ones included: `[batch, key]`; nothing if all are.
fn joined_mask(
    past: Option<&Tensor>,
    mask: Option<&Tensor>,
    batch: i64,
    past_len: i64,
    len: i64,
) -> Result<Option<Tensor>> {
    if let Some(mask) = mask
        && mask.size() != [batch, len]
    {
        let why = format!("shape {:?} for a pass of [{batch}, {len}]", mask.size());
        return Err(Error::Invalid { what: "mask".into(), why });
    }
    if past.is_none() && mask.is_none() {
        return Ok(None);
    }
    let part = |mask: Option<&Tensor>, len: i64| -> Result<Tensor> {
        match mask {
            Some(mask) => Ok(mask.f_to_kind(Kind::Bool)?.f_to_device(Device::Cpu)?),
            None => Ok(Tensor::f_ones([batch, len], (Kind::Bool, Device::Cpu))?),
        }
    };
    Ok(Some(Tensor::f_cat(&[part(past, past_len)?, part(mask, len)?], 1)?))
}

/// An error that names the first token id outside the vocabulary; LibTorch would poison a CUDA context.
fn check_vocabulary(tokens: &Tensor, vocab: i64) -> Result<()> {
    let tokens = tokens.f_to_device(Device::Cpu)?;
    let (least, greatest) = (tokens.f_min()?.f_int64_value(&[])?, tokens.f_max()?.f_int64_value(&[])?);
    if least >= 0 && greatest < vocab {
        return Ok(());
    }
    let len = tokens.size()[1] as usize;
    let ids: Vec<i64> = Vec::try_from(tokens.f_to_kind(Kind::Int64)?.f_contiguous()?.f_view([-1])?)?;
    let wrong = ids.iter().enumerate().find(|(_, id)| !(0..vocab).contains(*id));
    let (place, token) = wrong.map_or((0, least), |(place, id)| (place, *id));
    Err(Error::Token { token, row: place / len, position: place % len, vocab })
}

//! The one decoder: every family is this forward pass with another architecture.

use std::sync::{Arc, OnceLock};

use arrakis_core::remembered::FileIdentity;
use arrakis_core::{
    Dims, Error, HookPoint, Input, Model, Output, Pass, PosSlice, Result, Site, Tap, WeightPoint, unknown_weight,
};
use tch::{Device, Kind, Tensor};

use crate::architecture::{Architecture, EmbedScale, Positions, Window};
use crate::attention::Surroundings;
use crate::block::Block;
use crate::linear::Linear;
use crate::mask::Masks;
use crate::norm::Norm;
use crate::place::Place;
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
    pub(crate) files: Vec<FileIdentity>,
    pub(crate) digest: OnceLock<String>,
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

    fn embedding(&self, input: &Input<'_>, place: &Place, tap: &mut Tap<'_>) -> Result<Tensor> {
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

    fn run(&self, pass: &mut Pass<'_>) -> Result<Output> {
        let stretches = matches!(&self.architecture.positions, Positions::Rotary(rope) if rope.depends_on_length());
        let place = Place::of(pass, self.dims(), self.kind(), stretches)?;
        let windows = &self.architecture.windows;
        let masks = Masks::new(windows, place.past_len, place.len, place.real.as_ref(), self.device())?;
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
        for layer in place.layers.clone() {
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
        let past = if pass.keep_past { Some(place.past(seen)?) } else { None };
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

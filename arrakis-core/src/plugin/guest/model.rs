//! The host's model, as a tool of this side sees it: a [`Model`] like any other.

#![allow(unsafe_code)]

use std::cell::OnceCell;
use std::ptr;

use tch::{Device, Kind, Tensor};

use super::super::abi::{self, Bytes, KeyValue, NamedSize, Point, Str, WeightEdit, WeightName};
use super::super::axis;
use super::super::crossing::{Grows, items, layer_number, lend_text, mistake, strided, text};
use super::super::failure::{asked, there};
use super::super::handles::{kind_of, lend, lend_if_any, take, take_if_any};
use super::hooks::Ours;
use super::names;
use crate::{
    Dims, Error, HookPoint, Input, KeyValues, Model, NormKind, Output, Pass, PosSlice, Residual, Result, WeightPoint,
};

/// A model of the host's.
pub(in super::super) struct Remote {
    host: abi::Host,
    model: *const abi::Model,
    /// Whether it is this side's to free.
    own: bool,
    dims: Dims,
    kind: Kind,
    device: Device,
    /// The points, and their places among the host's.
    points: OnceCell<(Vec<HookPoint>, Vec<usize>)>,
    weights: OnceCell<Vec<WeightPoint>>,
}

// SAFETY: a model may be sent to another thread, on either side of the boundary, and it is used by one at a time.
unsafe impl Send for Remote {}

impl Remote {
    /// A model that the host lends for a call.
    ///
    /// # Safety
    /// `model` is a model of `host` that outlives what is returned.
    pub(in super::super) unsafe fn lent(host: abi::Host, model: *const abi::Model) -> Result<Self> {
        // SAFETY: the caller vouches for it.
        unsafe { Self::of(host, model, false) }
    }

    /// # Safety
    /// As [`lent`](Self::lent); an own model is freed with what is returned.
    unsafe fn of(host: abi::Host, model: *const abi::Model, own: bool) -> Result<Self> {
        let told = there(host.dims, "Host.dims")?;
        let mut dims = zeroed::<abi::Dims>();
        dims.size = size_of::<abi::Dims>();
        // SAFETY: the model lives, and the struct tells its size.
        asked("dims", |why| unsafe { told(model, &raw mut dims, why) })?;
        // SAFETY: the family is lent as long as the model lives.
        let family = unsafe { text(dims.family, "family")? }.to_owned();
        let unknown = |what: &str, number: u32| {
            Err(mistake(what, format!("number {number} came after this plugin was built; build it anew")))
        };
        let norm = match dims.norm {
            abi::NORM_LAYER => NormKind::Layer,
            abi::NORM_RMS => NormKind::Rms,
            other => return unknown("kind of norm", other),
        };
        let residual = match dims.residual {
            abi::RESIDUAL_SERIAL => Residual::Serial,
            abi::RESIDUAL_PARALLEL => Residual::Parallel,
            other => return unknown("kind of residual", other),
        };
        // SAFETY: the sizes are lent as long as the model lives.
        let others = unsafe { strided(dims.others, dims.other_count, dims.other_stride, "sizes of a model")? };
        let dims_here = Dims {
            family,
            n_layers: dims.n_layers as usize,
            n_heads: dims.n_heads as usize,
            n_kv_heads: dims.n_kv_heads as usize,
            d_model: dims.d_model as usize,
            d_head: dims.d_head as usize,
            d_mlp: dims.d_mlp as usize,
            vocab: dims.vocab as usize,
            context: dims.context as usize,
            norm,
            norm_eps: dims.norm_eps,
            residual,
            others: others.iter().map(named_size).collect::<Result<_>>()?,
        };
        let device = usize::try_from(dims.device).map_or(Device::Cpu, Device::Cuda);
        Ok(Self {
            host,
            model,
            own,
            dims: dims_here,
            kind: kind_of(dims.dtype)?,
            device,
            points: OnceCell::new(),
            weights: OnceCell::new(),
        })
    }

    fn told_points(&self) -> Result<(Vec<HookPoint>, Vec<usize>)> {
        let told = there(self.host.points, "Host.points")?;
        let mut points = zeroed::<abi::Points>();
        points.size = size_of::<abi::Points>();
        // SAFETY: the model lives, and the struct tells its size.
        asked("points", |why| unsafe { told(self.model, &raw mut points, why) })?;
        // SAFETY: the points are lent as long as the model lives.
        let points = unsafe { strided(points.items, points.count, points.stride, "hook points")? };
        let (mut known, mut places) = (Vec::with_capacity(points.len()), Vec::with_capacity(points.len()));
        for (place, point) in points.iter().enumerate() {
            if let Some(point) = hook_point(point)? {
                known.push(point);
                places.push(place);
            }
        }
        Ok((known, places))
    }

    fn points_here(&self) -> &(Vec<HookPoint>, Vec<usize>) {
        self.points.get_or_init(|| self.told_points().unwrap_or_else(|error| fail(&error)))
    }

    fn told_weights(&self) -> Result<Vec<WeightPoint>> {
        let told = there(self.host.weights, "Host.weights")?;
        let mut names = zeroed::<abi::WeightNames>();
        names.size = size_of::<abi::WeightNames>();
        // SAFETY: the model lives, and the struct tells its size.
        asked("weights", |why| unsafe { told(self.model, &raw mut names, why) })?;
        // SAFETY: the names are lent as long as the model lives.
        let names = unsafe { strided(names.items, names.count, names.stride, "weights")? };
        names.iter().map(weight_point).collect()
    }

    /// A tensor that a function of the host gives.
    fn tensor(what: &str, call: impl FnOnce(*mut *mut abi::Tensor, *mut Bytes) -> u32) -> Result<Tensor> {
        let mut tensor = ptr::null_mut();
        let done = asked(what, |why| call(&raw mut tensor, why));
        // SAFETY: what the host wrote there changes hands.
        let tensor = unsafe { take_if_any(tensor) };
        done.and_then(|_| tensor.ok_or_else(|| mistake(what, "there is no tensor")))
    }

    fn text(what: &str, call: impl FnOnce(*mut Bytes) -> u32) -> Result<String> {
        String::from_utf8(asked(what, call)?).map_err(|error| mistake(what, format!("it is not UTF-8: {error}")))
    }
}

impl Drop for Remote {
    fn drop(&mut self) {
        if let Some(free) = self.host.model_free.filter(|_| self.own) {
            // SAFETY: it came from `with_weights`, and nothing of it is lent any more.
            unsafe { free(self.model) };
        }
    }
}

/// What cannot be an error is a panic, which whoever asked this plugin catches.
fn fail(error: &Error) -> ! {
    std::panic::panic_any(error.to_string())
}

/// A struct to be filled by the host.
fn zeroed<T: Grows>() -> T {
    // SAFETY: all zeros are a value of what grows.
    unsafe { std::mem::zeroed() }
}

/// A size that only some models have.
fn named_size(size: &NamedSize) -> Result<(String, usize)> {
    // SAFETY: the name is lent as long as the model lives.
    let name = unsafe { text(size.name, "name of an axis")? };
    Ok((name.to_owned(), size.len as usize))
}

/// A point of the host's; none if it has an axis that this version does not know.
fn hook_point(point: &Point) -> Result<Option<HookPoint>> {
    // SAFETY: name and axes are lent as long as the model lives.
    let (name, axes) = unsafe { (text(point.site, "site")?, items(point.axes, point.axis_count, "axes of a site")?) };
    let named: &[Str] = if point.axis_names.is_null() {
        &[]
    } else {
        // SAFETY: as above.
        unsafe { items(point.axis_names, point.axis_count, "names of axes")? }
    };
    let mut known = Vec::with_capacity(axes.len());
    for (dimension, number) in axes.iter().enumerate() {
        // SAFETY: as above.
        let name = named.get(dimension).map_or(Ok(""), |name| unsafe { text(*name, "name of an axis") })?;
        let Some(axis) = axis::kind(*number, name) else { return Ok(None) };
        known.push(axis);
    }
    Ok(Some(HookPoint { site: names::site(name, &known), layer: usize::try_from(point.layer).ok() }))
}

fn weight_point(weight: &WeightName) -> Result<WeightPoint> {
    // SAFETY: the name is lent as long as the model lives.
    let name = unsafe { text(weight.name, "name of a weight")? };
    Ok(WeightPoint { weight: names::weight(name), layer: usize::try_from(weight.layer).ok() })
}

fn weight_name(weight: &WeightPoint) -> WeightName {
    WeightName { name: lend_text(weight.weight.name()), layer: layer_number(weight.layer) }
}

impl Model for Remote {
    fn dims(&self) -> &Dims {
        &self.dims
    }

    fn kind(&self) -> Kind {
        self.kind
    }

    fn device(&self) -> Device {
        self.device
    }

    fn points(&self) -> &[HookPoint] {
        &self.points_here().0
    }

    fn forward(&self, pass: Pass<'_>) -> Result<Output> {
        let forward = there(self.host.forward, "Host.forward")?;
        let (points, places) = self.points_here();
        let (tokens, residual) = match &pass.input {
            Input::Tokens(tokens) => (lend(tokens), ptr::null()),
            Input::Residual(residual) => (ptr::null(), lend(residual)),
        };
        let layers: Vec<KeyValue> = pass.past.map(lent_layers).unwrap_or_default();
        let past = pass.past.map(|past| abi::KeyValues {
            size: size_of::<abi::KeyValues>(),
            layers: layers.as_ptr(),
            layer_count: layers.len(),
            positions: lend(&past.positions),
            mask: lend_if_any(past.mask.as_ref()),
        });
        let (logits, at): (u32, &[i64]) = match &pass.logits {
            PosSlice::All => (abi::LOGITS_ALL, &[]),
            PosSlice::Last => (abi::LOGITS_LAST, &[]),
            PosSlice::At(positions) => (abi::LOGITS_AT, positions),
            PosSlice::None => (abi::LOGITS_NONE, &[]),
        };
        let flag = |set: bool, flag: u32| if set { flag } else { 0 };
        let mut ours = Ours::new(pass.hooks, points, places);
        let hooks = ours.table();
        let told = abi::Pass {
            size: size_of::<abi::Pass>(),
            tokens,
            residual,
            mask: lend_if_any(pass.mask),
            positions: lend_if_any(pass.positions),
            past: past.as_ref().map_or(ptr::null(), ptr::from_ref),
            hooks: &raw const hooks,
            start_at: pass.start_at as u64,
            stop_at: pass.stop_at.unwrap_or(0) as u64,
            flags: flag(pass.keep_past, abi::KEEP_PAST)
                | flag(pass.record, abi::RECORD)
                | flag(pass.stop_at.is_some(), abi::STOP_AT),
            logits,
            logits_at: at.as_ptr(),
            logits_count: at.len(),
        };
        let mut output = zeroed::<abi::Output>();
        output.size = size_of::<abi::Output>();
        // SAFETY: everything that is lent lives until this returns, and the output tells its size.
        let done = asked("forward", |why| unsafe { forward(self.model, &raw const told, &raw mut output, why) });
        let done = done.and_then(|_| taken(&output));
        ours.ended(done)
    }

    fn unembed(&self, residual: &Tensor) -> Result<Tensor> {
        let unembed = there(self.host.unembed, "Host.unembed")?;
        // SAFETY: the model lives, and the tensor is lent.
        Self::tensor("unembed", |logits, why| unsafe { unembed(self.model, lend(residual), logits, why) })
    }

    fn weights(&self) -> Vec<WeightPoint> {
        self.weights.get_or_init(|| self.told_weights().unwrap_or_else(|error| fail(&error))).clone()
    }

    fn weight(&self, weight: WeightPoint) -> Result<Tensor> {
        let told = there(self.host.weight, "Host.weight")?;
        // SAFETY: the model lives, and the name is lent.
        Self::tensor("weight", |value, why| unsafe { told(self.model, weight_name(&weight), value, why) })
    }

    fn with_weights(&self, edits: Vec<(WeightPoint, Tensor)>) -> Result<Box<dyn Model>> {
        let with_weights = there(self.host.with_weights, "Host.with_weights")?;
        let edit =
            |(weight, value): &(WeightPoint, Tensor)| WeightEdit { weight: weight_name(weight), value: lend(value) };
        let told: Vec<WeightEdit> = edits.iter().map(edit).collect();
        let mut edited = ptr::null();
        // SAFETY: the model lives, and names and tensors are lent.
        asked("with_weights", |why| unsafe {
            with_weights(self.model, told.as_ptr(), told.len(), &raw mut edited, why)
        })?;
        // SAFETY: the host made it for this side to free.
        match unsafe { Self::of(self.host, edited, true) } {
            Ok(edited) => Ok(Box::new(edited)),
            Err(error) => {
                if let Some(free) = self.host.model_free {
                    // SAFETY: as above.
                    unsafe { free(edited) };
                }
                Err(error)
            }
        }
    }

    fn encode(&self, words: &str) -> Result<Vec<i64>> {
        let encode = there(self.host.encode, "Host.encode")?;
        // SAFETY: the model lives, and the text is lent.
        let ids = asked("encode", |ids| unsafe { encode(self.model, lend_text(words), ids) })?;
        let (ids, rest) = ids.as_chunks::<8>();
        if !rest.is_empty() {
            return Err(mistake("encode", "there is a part of a token id"));
        }
        Ok(ids.iter().map(|id| i64::from_ne_bytes(*id)).collect())
    }

    fn token_id(&self, words: &str) -> Result<i64> {
        let token_id = there(self.host.token_id, "Host.token_id")?;
        let mut id = 0;
        // SAFETY: the model lives, and the text is lent.
        asked("token_id", |why| unsafe { token_id(self.model, lend_text(words), &raw mut id, why) })?;
        Ok(id)
    }

    fn decode(&self, tokens: &[i64]) -> Result<String> {
        let decode = there(self.host.decode, "Host.decode")?;
        // SAFETY: the model lives, and the ids are lent.
        Self::text("decode", |text| unsafe { decode(self.model, tokens.as_ptr(), tokens.len(), text) })
    }

    fn token(&self, token: i64) -> String {
        let told = there(self.host.token, "Host.token").and_then(|told| {
            // SAFETY: the model lives.
            Self::text("token", |text| unsafe { told(self.model, token, text) })
        });
        told.unwrap_or_else(|error| fail(&error))
    }

    fn digest(&self) -> Result<String> {
        let digest = there(self.host.digest, "Host.digest")?;
        // SAFETY: the model lives.
        Self::text("digest", |text| unsafe { digest(self.model, text) })
    }

    fn tokenizer_digest(&self) -> Result<Option<String>> {
        // A host of 1.0 does not tell.
        let Some(digest) = self.host.tokenizer_digest else { return Ok(None) };
        // SAFETY: the model lives.
        let digest = Self::text("tokenizer_digest", |text| unsafe { digest(self.model, text) })?;
        Ok(Some(digest).filter(|digest| !digest.is_empty()))
    }

    fn layout(&self) -> Option<&'static str> {
        let layout = self.host.layout?;
        // SAFETY: the model lives.
        let layout = Self::text("layout", |text| unsafe { layout(self.model, text) });
        let layout = layout.unwrap_or_else(|error| fail(&error));
        (!layout.is_empty()).then(|| names::remembered(&layout))
    }

    fn final_norm_with_scale(&self, parts: &Tensor, scale: &Tensor) -> Result<Tensor> {
        let final_norm = there(self.host.final_norm, "Host.final_norm")?;
        // SAFETY: the model lives, and the tensors are lent.
        Self::tensor("final_norm", |normed, why| unsafe {
            final_norm(self.model, lend(parts), lend(scale), normed, why)
        })
    }
}

fn lent_layers(past: &KeyValues) -> Vec<KeyValue> {
    // The struct is one for both ways; what is lent in it is not written to.
    let layer =
        |(keys, values): &(Tensor, Tensor)| KeyValue { keys: lend(keys).cast_mut(), values: lend(values).cast_mut() };
    past.layers.iter().map(layer).collect()
}

/// What a pass gave, its tensors taken.
fn taken(output: &abi::Output) -> Result<Output> {
    // SAFETY: the host gives each of them away, and the array until it is freed.
    unsafe {
        let (logits, positions) = (take_if_any(output.logits), take_if_any(output.positions));
        let mask = take_if_any(output.mask);
        let residual = take(output.residual, "residual stream of a pass");
        let given = items(output.layers.cast_const(), output.layer_count, "key-value state of a pass")?;
        let take_layer = |layer: &KeyValue| (take(layer.keys, "keys"), take(layer.values, "values"));
        let layers: Vec<_> = given.iter().map(take_layer).collect();
        if let Some(free) = output.layers_free {
            free(output.layers, output.layer_count);
        }
        let layers = layers.into_iter().map(|(keys, values)| Ok((keys?, values?))).collect::<Result<_>>()?;
        let past = positions.map(|positions| KeyValues { layers, positions, mask });
        Ok(Output { residual: residual?, logits, past })
    }
}

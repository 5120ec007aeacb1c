//! The functions over a model: the waist, one to one.

#![allow(unsafe_code)]

use std::cell::OnceCell;
use std::ptr;

use tch::Device;

use super::super::abi::{self, Bytes, NamedSize, Point, Str, WeightEdit, WeightName};
use super::super::crossing::{items, layer_number, lend_text, mistake, text, write};
use super::super::failure::{answering, caught, doing};
use super::super::handles::{dtype_of, lent};
use super::points::PointTable;
use super::{put, put_tensor};
use crate::{Model, NormKind, Residual, Result, WeightPoint, unknown_weight};

/// A model that a plugin holds, lent or its own, with what was told of it.
pub(in super::super) struct Held<'a> {
    model: Holding<'a>,
    points: OnceCell<PointTable>,
    weights: OnceCell<(Vec<WeightPoint>, Vec<WeightName>)>,
    others: OnceCell<Vec<NamedSize>>,
}

enum Holding<'a> {
    Lent(&'a dyn Model),
    Own(Box<dyn Model>),
}

impl<'a> Held<'a> {
    pub(in super::super) fn lent(model: &'a dyn Model) -> Self {
        Self::new(Holding::Lent(model))
    }

    fn new(model: Holding<'a>) -> Self {
        Self { model, points: OnceCell::new(), weights: OnceCell::new(), others: OnceCell::new() }
    }

    pub(in super::super) fn handle(&self) -> *const abi::Model {
        ptr::from_ref(self).cast()
    }

    /// # Safety
    /// `model` is null, or comes from [`handle`](Self::handle) and still lives.
    pub(super) unsafe fn of<'b>(model: *const abi::Model) -> Result<&'b Held<'b>> {
        // SAFETY: the caller vouches for it.
        unsafe { model.cast::<Held<'b>>().as_ref() }.ok_or_else(|| mistake("model", "the pointer is null"))
    }

    pub(super) fn model(&self) -> &dyn Model {
        match &self.model {
            Holding::Lent(model) => *model,
            Holding::Own(model) => model.as_ref(),
        }
    }

    pub(super) fn points(&self) -> &PointTable {
        self.points.get_or_init(|| PointTable::new(self.model().points()))
    }

    fn weights(&self) -> &(Vec<WeightPoint>, Vec<WeightName>) {
        self.weights.get_or_init(|| {
            let weights = self.model().weights();
            let name = |weight: &WeightPoint| WeightName {
                name: lend_text(weight.weight.name()),
                layer: layer_number(weight.layer),
            };
            let names = weights.iter().map(name).collect();
            (weights, names)
        })
    }

    fn others(&self) -> &[NamedSize] {
        let named = |(name, len): (&String, &usize)| NamedSize { name: lend_text(name), len: *len as u64 };
        self.others.get_or_init(|| self.model().dims().others.iter().map(named).collect())
    }

    /// The weight of that name.
    ///
    /// # Safety
    /// The name is lent.
    unsafe fn weight(&self, name: WeightName) -> Result<WeightPoint> {
        // SAFETY: the caller vouches for it.
        let text = unsafe { text(name.name, "name of a weight")? };
        let known = &self.weights().0;
        let same = |weight: &&WeightPoint| weight.weight.name() == text && layer_number(weight.layer) == name.layer;
        known.iter().find(same).copied().ok_or_else(|| {
            let printed = if name.layer < 0 { text.to_owned() } else { format!("blocks.{}.{text}", name.layer) };
            unknown_weight(&printed, known)
        })
    }
}

/// The sizes of a model, its kind and its device.
fn dims_of(held: &Held<'_>) -> Result<abi::Dims> {
    let (model, others) = (held.model(), held.others());
    let dims = model.dims();
    Ok(abi::Dims {
        size: size_of::<abi::Dims>(),
        family: lend_text(&dims.family),
        n_layers: dims.n_layers as u64,
        n_heads: dims.n_heads as u64,
        n_kv_heads: dims.n_kv_heads as u64,
        d_model: dims.d_model as u64,
        d_head: dims.d_head as u64,
        d_mlp: dims.d_mlp as u64,
        vocab: dims.vocab as u64,
        context: dims.context as u64,
        norm_eps: dims.norm_eps,
        norm: match dims.norm {
            NormKind::Layer => abi::NORM_LAYER,
            NormKind::Rms => abi::NORM_RMS,
        },
        residual: match dims.residual {
            Residual::Serial => abi::RESIDUAL_SERIAL,
            Residual::Parallel => abi::RESIDUAL_PARALLEL,
        },
        dtype: dtype_of(model.kind()),
        device: match model.device() {
            Device::Cpu => -1,
            Device::Cuda(index) => index as i32,
            other => return Err(mistake("device", format!("plugins know the CPU and CUDA, and this is {other:?}"))),
        },
        others: others.as_ptr(),
        other_count: others.len(),
        other_stride: size_of::<NamedSize>(),
    })
}

pub(super) unsafe extern "C" fn dims(model: *const abi::Model, to: *mut abi::Dims, why: *mut Bytes) -> u32 {
    // SAFETY: the plugin gives a model that it holds, and a struct that tells its size.
    unsafe { doing(why, || write(to, &dims_of(Held::of(model)?)?)) }
}

pub(super) unsafe extern "C" fn points(model: *const abi::Model, to: *mut abi::Points, why: *mut Bytes) -> u32 {
    // SAFETY: the plugin gives a model that it holds, and a struct that tells its size.
    unsafe {
        doing(why, || {
            let told = &Held::of(model)?.points().told;
            let (size, stride) = (size_of::<abi::Points>(), size_of::<Point>());
            write(to, &abi::Points { size, items: told.as_ptr(), count: told.len(), stride })
        })
    }
}

pub(super) unsafe extern "C" fn weights(model: *const abi::Model, to: *mut abi::WeightNames, why: *mut Bytes) -> u32 {
    // SAFETY: the plugin gives a model that it holds, and a struct that tells its size.
    unsafe {
        doing(why, || {
            let names = &Held::of(model)?.weights().1;
            let (size, stride) = (size_of::<abi::WeightNames>(), size_of::<WeightName>());
            write(to, &abi::WeightNames { size, items: names.as_ptr(), count: names.len(), stride })
        })
    }
}

pub(super) unsafe extern "C" fn weight(
    model: *const abi::Model,
    name: WeightName,
    value: *mut *mut abi::Tensor,
    why: *mut Bytes,
) -> u32 {
    // SAFETY: the plugin gives a model that it holds, and lends a name.
    unsafe {
        doing(why, || {
            let held = Held::of(model)?;
            put_tensor(value, held.model().weight(held.weight(name)?)?, "weight")
        })
    }
}

pub(super) unsafe extern "C" fn with_weights(
    model: *const abi::Model,
    edits: *const WeightEdit,
    count: usize,
    edited: *mut *const abi::Model,
    why: *mut Bytes,
) -> u32 {
    // SAFETY: the plugin gives a model that it holds, and lends names and tensors.
    unsafe {
        doing(why, || {
            let held = Held::of(model)?;
            let edit =
                |edit: &WeightEdit| Ok((held.weight(edit.weight)?, lent(edit.value, "edited weight")?.shallow_clone()));
            let edits = items(edits, count, "edited weights")?.iter().map(edit).collect::<Result<_>>()?;
            let model = held.model().with_weights(edits)?;
            put(edited, || Box::into_raw(Box::new(Held::new(Holding::Own(model)))).cast_const().cast(), "edited model")
        })
    }
}

pub(super) unsafe extern "C" fn free(model: *const abi::Model) {
    if model.is_null() {
        return;
    }
    // SAFETY: it comes from `with_weights`, and is given up.
    let held = unsafe { Box::from_raw(model.cast_mut().cast::<Held<'static>>()) };
    if let Err(panic) = caught(|| drop(held)) {
        std::mem::forget(panic);
    }
}

pub(super) unsafe extern "C" fn unembed(
    model: *const abi::Model,
    residual: *const abi::Tensor,
    logits: *mut *mut abi::Tensor,
    why: *mut Bytes,
) -> u32 {
    // SAFETY: the plugin gives a model that it holds, and lends a tensor.
    unsafe {
        doing(why, || {
            let residual = lent(residual, "residual stream")?;
            put_tensor(logits, Held::of(model)?.model().unembed(&residual)?, "logits")
        })
    }
}

pub(super) unsafe extern "C" fn final_norm(
    model: *const abi::Model,
    parts: *const abi::Tensor,
    scale: *const abi::Tensor,
    normed: *mut *mut abi::Tensor,
    why: *mut Bytes,
) -> u32 {
    // SAFETY: the plugin gives a model that it holds, and lends tensors.
    unsafe {
        doing(why, || {
            let (parts, scale) = (lent(parts, "parts of the residual stream")?, lent(scale, "scale of the norm")?);
            put_tensor(normed, Held::of(model)?.model().final_norm_with_scale(&parts, &scale)?, "normed parts")
        })
    }
}

pub(super) unsafe extern "C" fn encode(model: *const abi::Model, words: Str, ids: *mut Bytes) -> u32 {
    // SAFETY: the plugin gives a model that it holds, and lends a text.
    unsafe {
        answering(ids, || {
            let ids = Held::of(model)?.model().encode(text(words, "text to encode")?)?;
            Ok(ids.into_iter().flat_map(i64::to_ne_bytes).collect())
        })
    }
}

pub(super) unsafe extern "C" fn token_id(model: *const abi::Model, words: Str, id: *mut i64, why: *mut Bytes) -> u32 {
    // SAFETY: the plugin gives a model that it holds, and lends a text.
    unsafe {
        doing(why, || {
            let found = Held::of(model)?.model().token_id(text(words, "text of a token")?)?;
            put(id, || found, "token id")
        })
    }
}

pub(super) unsafe extern "C" fn decode(
    model: *const abi::Model,
    ids: *const i64,
    count: usize,
    words: *mut Bytes,
) -> u32 {
    // SAFETY: the plugin gives a model that it holds, and lends token ids.
    unsafe {
        answering(words, || {
            Ok(Held::of(model)?.model().decode(items(ids, count, "token ids to decode")?)?.into_bytes())
        })
    }
}

pub(super) unsafe extern "C" fn token(model: *const abi::Model, id: i64, words: *mut Bytes) -> u32 {
    // SAFETY: the plugin gives a model that it holds.
    unsafe { answering(words, || Ok(Held::of(model)?.model().token(id).into_bytes())) }
}

pub(super) unsafe extern "C" fn digest(model: *const abi::Model, to: *mut Bytes) -> u32 {
    // SAFETY: the plugin gives a model that it holds.
    unsafe { answering(to, || Ok(Held::of(model)?.model().digest()?.into_bytes())) }
}

pub(super) unsafe extern "C" fn tokenizer_digest(model: *const abi::Model, to: *mut Bytes) -> u32 {
    // SAFETY: the plugin gives a model that it holds.
    unsafe { answering(to, || Ok(Held::of(model)?.model().tokenizer_digest()?.unwrap_or_default().into_bytes())) }
}

pub(super) unsafe extern "C" fn layout(model: *const abi::Model, to: *mut Bytes) -> u32 {
    // SAFETY: the plugin gives a model that it holds.
    unsafe { answering(to, || Ok(Held::of(model)?.model().layout().unwrap_or_default().into())) }
}

//! The functions over a model: the waist, one to one.

#![allow(unsafe_code)]

use std::cell::{Cell, OnceCell};
use std::ptr;

use tch::Device;

use super::super::abi::{self, Bytes, KeyValue, Point, Str, WeightEdit, WeightName};
use super::super::crossing::{
    answering, doing, dtype_of, give, give_if_any, items, lend_text, lent, lent_if_any, mistake, read, text, write,
};
use super::hooks::Theirs;
use super::{put, put_tensor};
use crate::{
    AxisKind, HookPoint, Hooks, Input, KeyValues, Model, NormKind, Output, Pass, PosSlice, Residual, Result, Unwatched,
    WeightPoint, unknown_weight,
};

/// A model that a plugin holds, lent or its own, with what was told of it.
pub(in super::super) struct Held<'a> {
    model: Holding<'a>,
    points: OnceCell<PointTable>,
    weights: OnceCell<(Vec<WeightPoint>, Vec<WeightName>)>,
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
        Self { model, points: OnceCell::new(), weights: OnceCell::new() }
    }

    pub(in super::super) fn handle(&self) -> *const abi::Model {
        ptr::from_ref(self).cast()
    }

    /// # Safety
    /// `model` is null, or comes from [`handle`](Self::handle) and still lives.
    unsafe fn of<'b>(model: *const abi::Model) -> Result<&'b Held<'b>> {
        // SAFETY: the caller vouches for it.
        unsafe { model.cast::<Held<'b>>().as_ref() }.ok_or_else(|| mistake("model", "the pointer is null"))
    }

    fn model(&self) -> &dyn Model {
        match &self.model {
            Holding::Lent(model) => *model,
            Holding::Own(model) => model.as_ref(),
        }
    }

    fn points(&self) -> &PointTable {
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

fn layer_number(layer: Option<usize>) -> i64 {
    layer.map_or(-1, |layer| layer as i64)
}

/// The points of a model as they are told, and the place of each.
pub(super) struct PointTable {
    told: Vec<Point>,
    /// The points outside the blocks, then those of each block, with their places.
    by_block: Vec<Vec<(HookPoint, usize)>>,
    /// Where the last one was found: a point is asked for, then visited.
    last: Cell<(usize, usize)>,
}

impl PointTable {
    fn new(points: &[HookPoint]) -> Self {
        let mut by_block: Vec<Vec<(HookPoint, usize)>> = vec![Vec::new()];
        for (place, point) in points.iter().enumerate() {
            let block = point.layer.map_or(0, |layer| layer + 1);
            if by_block.len() <= block {
                by_block.resize_with(block + 1, Vec::new);
            }
            by_block[block].push((*point, place));
        }
        Self { told: points.iter().map(told).collect(), by_block, last: Cell::new((0, 0)) }
    }

    /// The place of a point among those of the model.
    pub(super) fn place(&self, point: HookPoint) -> Option<usize> {
        let block = point.layer.map_or(0, |layer| layer + 1);
        let points = self.by_block.get(block)?;
        let (last_block, last) = self.last.get();
        if last_block == block
            && let Some((known, place)) = points.get(last)
            && *known == point
        {
            return Some(*place);
        }
        // The same constant is nearly always the same text in memory, which is quicker to see than equal texts.
        let found = points.iter().position(|(known, _)| ptr::eq(known.site.name(), point.site.name()));
        let found = found.or_else(|| points.iter().position(|(known, _)| known.site == point.site))?;
        self.last.set((block, found));
        Some(points[found].1)
    }
}

fn told(point: &HookPoint) -> Point {
    let axes = axis_numbers(point.site.axes());
    Point {
        site: lend_text(point.site.name()),
        axes: axes.as_ptr(),
        axis_count: axes.len(),
        layer: layer_number(point.layer),
    }
}

/// The numbers of axes, which last as long as the program: there are as many kinds of them as sites have.
fn axis_numbers(axes: &[AxisKind]) -> &'static [u8] {
    use std::sync::{Mutex, PoisonError};
    static KNOWN: Mutex<Vec<&'static [u8]>> = Mutex::new(Vec::new());
    let numbers: Vec<u8> = axes.iter().map(|axis| super::super::axis::number(*axis)).collect();
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(numbers) = known.iter().find(|known| ***known == numbers[..]) {
        return numbers;
    }
    let numbers: &'static [u8] = numbers.leak();
    known.push(numbers);
    numbers
}

/// The sizes of a model, its kind and its device.
fn dims_of(model: &dyn Model) -> Result<abi::Dims> {
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
    })
}

pub(super) unsafe extern "C" fn dims(model: *const abi::Model, to: *mut abi::Dims, why: *mut Bytes) -> u32 {
    // SAFETY: the plugin gives a model that it holds, and a struct that tells its size.
    unsafe { doing(why, || write(to, &dims_of(Held::of(model)?.model())?)) }
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
    if let Err(panic) = super::super::crossing::caught(|| drop(held)) {
        std::mem::forget(panic);
    }
}

pub(super) unsafe extern "C" fn forward(
    model: *const abi::Model,
    pass: *const abi::Pass,
    output: *mut abi::Output,
    why: *mut Bytes,
) -> u32 {
    // SAFETY: the plugin gives a model that it holds, and structs that tell their sizes, with lent tensors.
    unsafe {
        doing(why, || {
            let held = Held::of(model)?;
            let pass = read(pass)?;
            let (tokens, residual) = (lent_if_any(pass.tokens), lent_if_any(pass.residual));
            let input = match (&tokens, &residual) {
                (Some(tokens), None) => Input::Tokens(tokens),
                (None, Some(residual)) => Input::Residual(residual),
                _ => return Err(mistake("Pass", "it starts from tokens or from a residual stream, one of the two")),
            };
            let (mask, positions) = (lent_if_any(pass.mask), lent_if_any(pass.positions));
            let past = if pass.past.is_null() { None } else { Some(past_of(pass.past)?) };
            let (mut theirs, mut nobody);
            let hooks: &mut dyn Hooks = if pass.hooks.is_null() {
                nobody = Unwatched;
                &mut nobody
            } else {
                theirs = Theirs::new(&read(pass.hooks)?, held.points())?;
                &mut theirs
            };
            let layer = |layer: u64| usize::try_from(layer).map_err(|_| mistake("Pass", format!("layer {layer}")));
            let done = held.model().forward(Pass {
                input,
                mask: mask.as_deref(),
                positions: positions.as_deref(),
                start_at: layer(pass.start_at)?,
                stop_at: (pass.flags & abi::STOP_AT != 0).then(|| layer(pass.stop_at)).transpose()?,
                past: past.as_ref(),
                keep_past: pass.flags & abi::KEEP_PAST != 0,
                logits: wanted(&pass)?,
                hooks,
                record: pass.flags & abi::RECORD != 0,
            })?;
            tell(output, done)
        })
    }
}

/// # Safety
/// The positions are lent.
unsafe fn wanted(pass: &abi::Pass) -> Result<PosSlice> {
    Ok(match pass.logits {
        abi::LOGITS_ALL => PosSlice::All,
        abi::LOGITS_LAST => PosSlice::Last,
        // SAFETY: the caller vouches for it.
        abi::LOGITS_AT => PosSlice::At(unsafe { items(pass.logits_at, pass.logits_count, "wanted logits")? }.to_vec()),
        abi::LOGITS_NONE => PosSlice::None,
        other => return Err(mistake("Pass", format!("logits {other} means nothing"))),
    })
}

/// # Safety
/// The struct tells its size, and its tensors are lent.
unsafe fn past_of(past: *const abi::KeyValues) -> Result<KeyValues> {
    // SAFETY: the caller vouches for it; shallow clones outlive the pass.
    unsafe {
        let past = read(past)?;
        let layer = |layer: &KeyValue| {
            let (keys, values) = (lent(layer.keys, "keys")?, lent(layer.values, "values")?);
            Ok((keys.shallow_clone(), values.shallow_clone()))
        };
        Ok(KeyValues {
            layers: items(past.layers, past.layer_count, "key-value state")?
                .iter()
                .map(layer)
                .collect::<Result<_>>()?,
            positions: lent(past.positions, "positions of the key-value state")?.shallow_clone(),
            mask: lent_if_any(past.mask).map(|mask| mask.shallow_clone()),
        })
    }
}

/// # Safety
/// `to` is null, or a struct that tells its size.
unsafe fn tell(to: *mut abi::Output, done: Output) -> Result<()> {
    let size = size_of::<abi::Output>();
    // SAFETY: the caller vouches for it. Nothing is given away before it is known that there is room for it.
    unsafe { read(to.cast_const())? };
    let (mut layers, mut layer_count, mut positions, mut mask) = (ptr::null_mut(), 0, ptr::null_mut(), ptr::null_mut());
    if let Some(past) = done.past {
        let given: Box<[KeyValue]> =
            past.layers.into_iter().map(|(keys, values)| KeyValue { keys: give(keys), values: give(values) }).collect();
        layer_count = given.len();
        layers = Box::into_raw(given).cast::<KeyValue>();
        (positions, mask) = (give(past.positions), give_if_any(past.mask));
    }
    let (residual, logits) = (give(done.residual), give_if_any(done.logits));
    let layers_free = Some(free_layers as _);
    // SAFETY: as above.
    unsafe { write(to, &abi::Output { size, residual, logits, layers, layer_count, layers_free, positions, mask }) }
}

unsafe extern "C" fn free_layers(layers: *mut KeyValue, count: usize) {
    if !layers.is_null() {
        // SAFETY: they come from `tell`.
        drop(unsafe { Box::from_raw(ptr::slice_from_raw_parts_mut(layers, count)) });
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

//! One pass, asked for by a plugin.

#![allow(unsafe_code)]

use std::ptr;

use super::super::abi::{self, Bytes, KeyValue};
use super::super::crossing::{items, mistake, read, write};
use super::super::failure::doing;
use super::super::handles::{give, give_if_any, lent, lent_if_any};
use super::Held;
use super::hooks::Theirs;
use crate::{Hooks, Input, KeyValues, Output, Pass, PosSlice, Result, Unwatched};

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

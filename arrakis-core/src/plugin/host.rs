//! The host's side: the table of functions that a plugin calls, over a [`Context`] and its model.

#![allow(unsafe_code)]

mod hooks;
mod model;
mod pass;
mod points;
mod tensors;

use std::cell::RefCell;

use tch::Tensor;

use super::abi::{self, Attached, Bytes, Host, Str};
use super::crossing::{items, mistake, read, text};
use super::failure::doing;
use super::handles::{give, kind_of, take};
use crate::{Context, Result, Stream};
pub(super) use model::Held;

/// What the host can do for a plugin.
pub(super) static HOST: Host = Host {
    size: size_of::<Host>(),
    major: abi::MAJOR,
    minor: abi::MINOR,
    progress: Some(progress),
    cancelled: Some(cancelled),
    log: Some(log),
    attach: Some(attach),
    uniforms: Some(uniforms),
    normals: Some(normals),
    dims: Some(model::dims),
    points: Some(model::points),
    weights: Some(model::weights),
    weight: Some(model::weight),
    with_weights: Some(model::with_weights),
    model_free: Some(model::free),
    forward: Some(pass::forward),
    unembed: Some(model::unembed),
    final_norm: Some(model::final_norm),
    encode: Some(model::encode),
    token_id: Some(model::token_id),
    decode: Some(model::decode),
    token: Some(model::token),
    digest: Some(model::digest),
    tensor_new: Some(tensors::new),
    tensor_copy: Some(tensors::copy),
    tensor_shape: Some(tensors::shape),
    tensor_data: Some(tensors::data),
    tensor_free: Some(tensors::free),
    tokenizer_digest: Some(model::tokenizer_digest),
    layout: Some(model::layout),
};

/// What a running tool of a plugin works with, and what it has attached to its answer.
pub(super) struct Running<'a> {
    cx: &'a Context<'a>,
    pub(super) attached: RefCell<Vec<(String, Tensor)>>,
}

impl<'a> Running<'a> {
    pub(super) fn new(cx: &'a Context<'a>) -> Self {
        Self { cx, attached: RefCell::default() }
    }

    pub(super) fn handle(&self) -> *const abi::Context {
        std::ptr::from_ref(self).cast()
    }

    /// # Safety
    /// `context` is null, or comes from [`handle`](Self::handle) and still lives.
    unsafe fn of<'b>(context: *const abi::Context) -> Result<&'b Running<'b>> {
        // SAFETY: the caller vouches for it.
        unsafe { context.cast::<Running<'b>>().as_ref() }.ok_or_else(|| mistake("context", "the pointer is null"))
    }
}

unsafe extern "C" fn progress(context: *const abi::Context, done: u64, total: u64, why: *mut Bytes) -> u32 {
    // SAFETY: the plugin gives what it was given.
    unsafe { doing(why, || Running::of(context)?.cx.progress(done, total)) }
}

unsafe extern "C" fn cancelled(context: *const abi::Context, why: *mut Bytes) -> u32 {
    // SAFETY: the plugin gives what it was given.
    unsafe { doing(why, || Running::of(context)?.cx.cancelled()) }
}

unsafe extern "C" fn log(context: *const abi::Context, line: Str, why: *mut Bytes) -> u32 {
    // SAFETY: the plugin gives what it was given, and lends a text.
    unsafe {
        doing(why, || {
            Running::of(context)?.cx.log(text(line, "line of the log")?);
            Ok(())
        })
    }
}

unsafe extern "C" fn attach(context: *const abi::Context, tensor: *const Attached, why: *mut Bytes) -> u32 {
    // SAFETY: the plugin gives what it was given, and a struct that tells its size.
    unsafe {
        doing(why, || {
            let given = read(tensor)?;
            let tensor = take(given.tensor, "attached tensor")?;
            let name = text(given.name, "name of an attached tensor")?.to_owned();
            let what = format!("tensor `{name}` of the answer");
            if !tensor.defined() {
                return Err(mistake(&what, "it is undefined"));
            }
            let sizes = items(given.sizes, given.dimensions, &what)?;
            let said = (kind_of(given.dtype)?, sizes.to_vec());
            let is = (tensor.f_kind()?, tensor.size());
            if said != is {
                let why = format!("it is said to be {:?} {:?}, and is {:?} {:?}", said.0, said.1, is.0, is.1);
                return Err(mistake(&what, why));
            }
            Running::of(context)?.attached.borrow_mut().push((name, tensor));
            Ok(())
        })
    }
}

unsafe extern "C" fn uniforms(
    context: *const abi::Context,
    name: Str,
    numbers: *mut f64,
    count: usize,
    why: *mut Bytes,
) -> u32 {
    // SAFETY: as `fill` wants it.
    unsafe { doing(why, || fill(context, name, numbers, count, Stream::uniform)) }
}

unsafe extern "C" fn normals(
    context: *const abi::Context,
    name: Str,
    numbers: *mut f64,
    count: usize,
    why: *mut Bytes,
) -> u32 {
    // SAFETY: as `fill` wants it.
    unsafe { doing(why, || fill(context, name, numbers, count, Stream::normal)) }
}

/// # Safety
/// The context still lives, and `numbers` points at room for `count` of them.
unsafe fn fill(
    context: *const abi::Context,
    name: Str,
    numbers: *mut f64,
    count: usize,
    draw: fn(&mut Stream) -> f64,
) -> Result<()> {
    // SAFETY: the caller vouches for the context and the text.
    let (running, name) = unsafe { (Running::of(context)?, text(name, "name of a random stream")?) };
    if numbers.is_null() && count > 0 {
        return Err(mistake("random numbers", "the pointer is null"));
    }
    let mut stream = running.cx.stream(name);
    for place in 0..count {
        // SAFETY: there is room for `count` numbers.
        unsafe { numbers.add(place).write(draw(&mut stream)) };
    }
    Ok(())
}

/// Writes a result to where the other side wants it.
///
/// # Safety
/// `to` is null or writable.
unsafe fn put<T>(to: *mut T, value: impl FnOnce() -> T, what: &str) -> Result<()> {
    if to.is_null() {
        return Err(mistake(what, "there is no place for it"));
    }
    // SAFETY: the caller vouches for it.
    unsafe { to.write(value()) };
    Ok(())
}

/// Gives a tensor to where the other side wants it.
///
/// # Safety
/// `to` is null or writable.
unsafe fn put_tensor(to: *mut *mut abi::Tensor, tensor: Tensor, what: &str) -> Result<()> {
    // SAFETY: the caller vouches for it.
    unsafe { put(to, || give(tensor), what) }
}

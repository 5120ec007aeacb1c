//! One file mapped into memory, and tensors that lie in it without a copy.

#![allow(unsafe_code)]

use std::ffi::c_void;
use std::fs::File;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrakis_core::remembered::FileIdentity;
use memmap2::{MmapOptions, MmapRaw};
use tch::{Kind, Tensor};

use crate::error::{Error, Result};

/// Bytes from which a new tensor asks for huge pages: below it finding them takes longer than they save.
#[cfg(target_os = "linux")]
const HUGE: usize = 32 << 20;

/// A file mapped copy-on-write; it stays mapped until the last tensor in it is dropped.
///
/// Pages come from the page cache when they are first touched. They are not populated ahead: on a writable private
/// map that copies each of them, and on a read-only one it is no quicker than the faults.
/// The file must not be cut short meanwhile: touching a lost page kills the process.
#[derive(Debug)]
pub(crate) struct Mapped {
    path: PathBuf,
    /// As it was opened, where its place can be told.
    identity: Option<FileIdentity>,
    map: MmapRaw,
}

impl Mapped {
    pub(crate) fn open(path: &Path) -> Result<Arc<Self>> {
        let io = |cause| Error::Io { path: path.to_owned(), cause };
        let file = File::open(path).map_err(io)?;
        let meta = file.metadata().map_err(io)?;
        if !meta.is_file() {
            return Err(Error::Damaged { path: path.to_owned(), what: "not a regular file".to_owned() });
        }
        if meta.len() == 0 {
            return Err(Error::Damaged { path: path.to_owned(), what: "the file is empty".to_owned() });
        }
        // SAFETY: the map is private, so nothing written through it reaches the file or another process; that nobody
        // cuts the file short while it is mapped is what this type's documentation asks.
        let map = unsafe { MmapOptions::new().map_copy(&file) }.map_err(io)?;
        let identity = FileIdentity::of(path, &meta).ok();
        Ok(Arc::new(Self { path: path.to_owned(), identity, map: map.into() }))
    }

    pub(crate) const fn identity(&self) -> Option<&FileIdentity> {
        self.identity.as_ref()
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The whole file.
    pub(crate) fn bytes(&self) -> &[u8] {
        // SAFETY: the map is `len` readable bytes and lives as long as `self`. Weights are frozen, so nothing writes
        // to them through a tensor while they are read here.
        unsafe { std::slice::from_raw_parts(self.map.as_ptr(), self.map.len()) }
    }

    /// The elements at `range`, on the CPU; without a copy unless they are not aligned.
    ///
    /// `range` must lie in the file and hold exactly the elements of `shape`; anything else is refused.
    pub(crate) fn tensor(
        self: &Arc<Self>,
        name: &str,
        range: Range<usize>,
        shape: &[i64],
        kind: Kind,
    ) -> Result<Tensor> {
        let refused = |cause: &str| Error::Torch { tensor: name.to_owned(), cause: cause.to_owned() };
        let bytes = self.bytes().get(range.clone()).ok_or_else(|| refused("it ends after its file"))?;
        let size = kind.elt_size_in_bytes();
        let count = shape.iter().try_fold(1_usize, |n, &d| n.checked_mul(usize::try_from(d).ok()?));
        if count.and_then(|n| n.checked_mul(size)) != Some(bytes.len()) {
            return Err(refused("its bytes do not fit its shape"));
        }
        if bytes.is_empty() {
            return Tensor::f_empty(shape, (kind, tch::Device::Cpu)).map_err(|e| refused(&e.to_string()));
        }
        if !bytes.as_ptr().addr().is_multiple_of(size) {
            return Tensor::f_from_data_size(bytes, shape, kind).map_err(|e| refused(&e.to_string()));
        }
        // SAFETY: `range` was found to lie in the map.
        let data = unsafe { self.map.as_mut_ptr().add(range.start) };
        // SAFETY: from `data` on there are the elements of `shape`, aligned for `kind`, writable, and there as long as
        // the map is.
        unsafe { blob(name, data.cast(), shape, kind, Arc::clone(self)) }
    }
}

/// A tensor of `f32` whose values `fill` writes, zeros until then.
pub(crate) fn filled(name: &str, shape: &[i64], fill: impl FnOnce(&mut [f32])) -> Result<Tensor> {
    let refused = |cause: String| Error::Torch { tensor: name.to_owned(), cause };
    let count = shape.iter().try_fold(1_usize, |n, &d| n.checked_mul(usize::try_from(d).ok()?));
    let Some((count, size)) = count.and_then(|n| Some((n, n.checked_mul(size_of::<f32>())?))) else {
        return Err(refused(format!("shape {shape:?} is too large")));
    };
    let mut map = MmapOptions::new().len(size.max(1)).map_anon().map_err(|e| refused(e.to_string()))?;
    // Much fresh memory costs more to fault in by small pages than to fill; where there are no huge ones it is only
    // slower.
    #[cfg(target_os = "linux")]
    if size >= HUGE {
        let _ = map.advise(memmap2::Advice::HugePage);
    }
    let data = map.as_mut_ptr();
    // SAFETY: the map has `count` floats, begins at a page, and nothing else refers to it yet.
    fill(unsafe { std::slice::from_raw_parts_mut(data.cast(), count) });
    // SAFETY: the elements of `shape` lie at `data`, and moving the map does not move them.
    unsafe { blob(name, data.cast(), shape, Kind::Float, map) }
}

/// A contiguous tensor over memory that `owner` keeps alive.
///
/// # Safety
/// From `data` on there must be the elements of `shape`, aligned for `kind` and writable, until `owner` is dropped,
/// which may happen on another thread.
unsafe fn blob<O: Send + 'static>(
    name: &str,
    data: *mut c_void,
    shape: &[i64],
    kind: Kind,
    owner: O,
) -> Result<Tensor> {
    let refused = |cause: &str| Error::Torch { tensor: name.to_owned(), cause: cause.to_owned() };
    let dtype = dtype(kind).ok_or_else(|| refused("LibTorch cannot map its dtype"))?;
    let mut strides = vec![1_i64; shape.len()];
    for axis in (1..shape.len()).rev() {
        strides[axis - 1] = strides[axis] * shape[axis].max(1);
    }
    let mut handle = std::ptr::null_mut();
    let owner = Box::into_raw(Box::new(owner));
    // SAFETY: the caller answers for `data`, which `owner` keeps until LibTorch calls `release`, once. Sizes and
    // strides have `ndim` entries and are copied before the call returns.
    let code = unsafe {
        torch_from_blob(
            data,
            shape.len() as i64,
            shape.as_ptr(),
            strides.as_ptr(),
            0,
            dtype,
            aoti_torch_device_type_cpu(),
            -1,
            &raw mut handle,
            aoti_torch_layout_strided(),
            std::ptr::null(),
            0,
            Some(release::<O>),
            owner.cast(),
        )
    };
    if code != 0 || handle.is_null() {
        // Whether `release` ran is not known here, so the owner is left to the end of the process.
        return Err(refused("`torch_from_blob` failed"));
    }
    // SAFETY: on success `handle` is a new reference to an `at::Tensor`, which is what tch owns.
    Ok(unsafe { Tensor::from_ptr(handle.cast()) })
}

/// Drops what kept a tensor's memory alive.
unsafe extern "C" fn release<O>(_data: *mut c_void, owner: *mut c_void) {
    // SAFETY: `owner` came from `Box::into_raw` of a `Box<O>`, and LibTorch calls this once per tensor storage.
    drop(unsafe { Box::from_raw(owner.cast::<O>()) });
}

/// LibTorch's number for a dtype, as its C functions want it.
fn dtype(kind: Kind) -> Option<i32> {
    // SAFETY: these functions take nothing and return a constant.
    unsafe {
        Some(match kind {
            Kind::Bool => aoti_torch_dtype_bool(),
            Kind::Uint8 => aoti_torch_dtype_uint8(),
            Kind::Int8 => aoti_torch_dtype_int8(),
            Kind::Int16 => aoti_torch_dtype_int16(),
            Kind::Int => aoti_torch_dtype_int32(),
            Kind::Int64 => aoti_torch_dtype_int64(),
            Kind::Half => aoti_torch_dtype_float16(),
            Kind::BFloat16 => aoti_torch_dtype_bfloat16(),
            Kind::Float => aoti_torch_dtype_float32(),
            Kind::Double => aoti_torch_dtype_float64(),
            _ => return None,
        })
    }
}

// LibTorch 2.11, `torch/csrc/stable/c/shim.h` and `torch/csrc/inductor/aoti_torch/c/shim.h`.
unsafe extern "C" {
    fn torch_from_blob(
        data: *mut c_void,
        ndim: i64,
        sizes: *const i64,
        strides: *const i64,
        storage_offset: i64,
        dtype: i32,
        device_type: i32,
        device_index: i32,
        handle: *mut *mut c_void,
        layout: i32,
        opaque_metadata: *const u8,
        opaque_metadata_size: i64,
        deleter: Option<unsafe extern "C" fn(*mut c_void, *mut c_void)>,
        deleter_ctx: *mut c_void,
    ) -> i32;
    fn aoti_torch_device_type_cpu() -> i32;
    fn aoti_torch_layout_strided() -> i32;
    fn aoti_torch_dtype_bool() -> i32;
    fn aoti_torch_dtype_uint8() -> i32;
    fn aoti_torch_dtype_int8() -> i32;
    fn aoti_torch_dtype_int16() -> i32;
    fn aoti_torch_dtype_int32() -> i32;
    fn aoti_torch_dtype_int64() -> i32;
    fn aoti_torch_dtype_float16() -> i32;
    fn aoti_torch_dtype_bfloat16() -> i32;
    fn aoti_torch_dtype_float32() -> i32;
    fn aoti_torch_dtype_float64() -> i32;
}

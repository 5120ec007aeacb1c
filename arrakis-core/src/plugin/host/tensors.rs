//! Tensors for plugins that have no LibTorch of their own to speak to, those in C.

#![allow(unsafe_code)]

use std::ffi::c_void;

use tch::{Device, Tensor};

use super::super::abi::{self, Bytes};
use super::super::crossing::{items, mistake};
use super::super::failure::doing;
use super::super::handles::{dtype_of, kind_of, lent, take_if_any};
use super::{put, put_tensor};
use crate::Result;

pub(super) unsafe extern "C" fn new(
    data: *const c_void,
    dtype: i32,
    sizes: *const i64,
    dimensions: usize,
    tensor: *mut *mut abi::Tensor,
    why: *mut Bytes,
) -> u32 {
    // SAFETY: the plugin lends as many sizes and numbers as it says.
    unsafe {
        doing(why, || {
            let kind = kind_of(dtype)?;
            let sizes = items(sizes, dimensions, "sizes of a new tensor")?;
            let bytes = byte_len(sizes, kind.elt_size_in_bytes())?;
            let data = items(data.cast::<u8>(), bytes, "numbers of a new tensor")?;
            put_tensor(tensor, Tensor::f_from_data_size(data, sizes, kind)?, "new tensor")
        })
    }
}

fn byte_len(sizes: &[i64], each: usize) -> Result<usize> {
    let len = sizes.iter().try_fold(each, |len, size| len.checked_mul(usize::try_from(*size).ok()?));
    len.ok_or_else(|| mistake("sizes of a new tensor", format!("{sizes:?} are no sizes")))
}

pub(super) unsafe extern "C" fn copy(tensor: *const abi::Tensor, copy: *mut *mut abi::Tensor, why: *mut Bytes) -> u32 {
    // SAFETY: the plugin lends a tensor.
    unsafe {
        doing(why, || {
            let tensor = lent(tensor, "tensor to copy")?.f_detach()?.f_to_device(Device::Cpu)?.f_contiguous()?;
            let mut copied = tensor.f_empty_like()?;
            copied.f_copy_(&tensor)?;
            put_tensor(copy, copied, "copy of a tensor")
        })
    }
}

pub(super) unsafe extern "C" fn shape(
    tensor: *const abi::Tensor,
    dtype: *mut i32,
    sizes: *mut i64,
    room: usize,
    dimensions: *mut usize,
    why: *mut Bytes,
) -> u32 {
    // SAFETY: the plugin lends a tensor, and room for as many sizes as it says.
    unsafe {
        doing(why, || {
            let tensor = lent(tensor, "tensor")?;
            let kind = tensor.f_kind()?;
            let size = tensor.size();
            if sizes.is_null() && room > 0 {
                return Err(mistake("sizes", "the pointer is null"));
            }
            for (place, size) in size.iter().take(room).enumerate() {
                sizes.add(place).write(*size);
            }
            put(dtype, || dtype_of(kind), "dtype")?;
            put(dimensions, || size.len(), "dimensions")
        })
    }
}

pub(super) unsafe extern "C" fn data(tensor: *const abi::Tensor, data: *mut *const c_void, why: *mut Bytes) -> u32 {
    // SAFETY: the plugin lends a tensor.
    unsafe {
        doing(why, || {
            let tensor = lent(tensor, "tensor")?;
            if tensor.device() != Device::Cpu || !tensor.is_contiguous() {
                return Err(mistake("tensor", "it does not lie row by row on the CPU; take a `tensor_copy`"));
            }
            put(data, || tensor.data_ptr().cast_const(), "data of a tensor")
        })
    }
}

pub(super) unsafe extern "C" fn free(tensor: *mut abi::Tensor) {
    // SAFETY: the plugin gives up a tensor; dropping one does not panic.
    drop(unsafe { take_if_any(tensor) });
}

//! Products by oneDNN, which is part of LibTorch: with a weight as it was loaded, or laid out for the processor.
//!
//! LibTorch itself multiplies 32-bit floats by MKL, which was half as fast on the AMD processor of `BENCHMARKS.md`. A layout of
//! oneDNN's own costs a copy and gains most where a product has one row, as in generation.

#![allow(unsafe_code)]

use std::ffi::{CStr, c_char, c_void};
use std::ptr;

use arrakis_core::{Error, Result};
use tch::{Device, Kind, Tensor};

/// `at::Tensor*`, as in LibTorch's stable C functions and in tch.
type Handle = *mut c_void;

unsafe extern "C" {
    fn aoti_torch_call_dispatcher(name: *const c_char, overload: *const c_char, stack: *mut u64) -> i32;
    fn aoti_torch_cpu__linear_pointwise(
        x: Handle,
        weight: Handle,
        bias: *const Handle,
        attribute: *const c_char,
        scalars: *const *const f64,
        scalars_len: i64,
        algorithm: *const *const c_char,
        result: *mut Handle,
    ) -> i32;
}

/// Below so many numbers a product is over before oneDNN has chosen its kernel.
const SMALL: i64 = 1 << 16;

/// Whether oneDNN multiplies by a weight (`[out, in]`) as it lies: 32-bit floats on the CPU, dense in either order.
pub(crate) fn serves(x: &Tensor, weight: &Tensor) -> bool {
    let (size, stride) = (weight.size(), weight.stride());
    let dense = stride == [size[1], 1] || stride == [1, size[0]];
    let single = x.kind() == Kind::Float && weight.kind() == Kind::Float;
    dense && size[0] * size[1] >= SMALL && single && weight.device() == Device::Cpu
}

/// `x Wᵀ + b` for `x` of shape `[…, in]` and `weight` of shape `[out, in]`, which [`serves`]; without a gradient.
pub(crate) fn linear(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    let x = x.f_contiguous()?;
    let handle = |tensor: &Tensor| tensor.as_ptr().cast_mut().cast::<c_void>();
    let bias = bias.map(handle);
    let bias = bias.as_ref().map_or(ptr::null(), ptr::from_ref);
    let mut result: Handle = ptr::null_mut();
    // SAFETY: all handles are live tensors that the call only borrows; no scalars and no algorithm are given.
    let status = unsafe {
        aoti_torch_cpu__linear_pointwise(
            handle(&x),
            handle(weight),
            bias,
            c"none".as_ptr(),
            ptr::null(),
            0,
            ptr::null(),
            &raw mut result,
        )
    };
    taken(status, result, "a product by oneDNN")
}

/// A matrix laid out for products with few rows.
#[derive(Debug)]
pub(crate) struct Packed(Tensor);

impl Packed {
    /// Lays out a matrix of 32-bit floats on the CPU: `[out, in]`.
    pub(crate) fn new(weight: &Tensor) -> Result<Self> {
        const REORDER: &CStr = c"mkldnn::_reorder_linear_weight";
        let mut stack = [owned(weight.f_contiguous()?), 0];
        // SAFETY: the operator takes a tensor, which the stack owns and the call takes over, and an optional number,
        // which 0 leaves out; it leaves one tensor, ours, in their place.
        let status = unsafe { aoti_torch_call_dispatcher(REORDER.as_ptr(), c"".as_ptr(), stack.as_mut_ptr()) };
        Ok(Self(taken(status, stack[0] as Handle, "laying out a weight")?))
    }

    /// `x Wᵀ + b` for `x` of shape `[…, in]`; without a gradient.
    pub(crate) fn apply(&self, x: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
        linear(x, &self.0, bias)
    }

    pub(crate) fn shallow_clone(&self) -> Self {
        Self(self.0.shallow_clone())
    }
}

/// A handle that whoever takes it must free.
fn owned(tensor: Tensor) -> u64 {
    let tensor = std::mem::ManuallyDrop::new(tensor);
    tensor.as_ptr() as u64
}

fn taken(status: i32, handle: Handle, what: &str) -> Result<Tensor> {
    if status != 0 || handle.is_null() {
        return Err(Error::Torch(format!("{what} failed with status {status}")));
    }
    // SAFETY: the call succeeded, so the handle is a tensor that belongs to nobody else.
    Ok(unsafe { Tensor::from_ptr(handle.cast()) })
}

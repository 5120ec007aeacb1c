//! Tensors at the boundary: given, taken and lent, and counted.

#![allow(unsafe_code)]

use std::cell::Cell;
use std::mem::ManuallyDrop;
use std::ops::Deref;
use std::ptr;

use tch::{Kind, Tensor};

use super::abi;
use super::crossing::mistake;
use crate::Result;

thread_local! {
    /// Tensors given to the other side on this thread.
    static GIVEN: Cell<u64> = const { Cell::new(0) };
    /// Tensors taken from the other side on this thread.
    static TAKEN: Cell<u64> = const { Cell::new(0) };
}

/// Tensors that changed hands on this thread: given and taken by this side.
pub(super) fn counted() -> (u64, u64) {
    (GIVEN.get(), TAKEN.get())
}

/// Gives a tensor away.
pub(super) fn give(tensor: Tensor) -> *mut abi::Tensor {
    GIVEN.set(GIVEN.get() + 1);
    ManuallyDrop::new(tensor).as_mut_ptr().cast()
}

/// Gives a tensor away, or null.
pub(super) fn give_if_any(tensor: Option<Tensor>) -> *mut abi::Tensor {
    tensor.map_or(ptr::null_mut(), give)
}

/// Lends a tensor.
pub(super) fn lend(tensor: &Tensor) -> *const abi::Tensor {
    tensor.as_ptr().cast()
}

/// Lends a tensor, or null.
pub(super) fn lend_if_any(tensor: Option<&Tensor>) -> *const abi::Tensor {
    tensor.map_or(ptr::null(), lend)
}

/// Takes a tensor, unless the pointer is null.
///
/// # Safety
/// `handle` is null, or a tensor that changes hands.
pub(super) unsafe fn take_if_any(handle: *mut abi::Tensor) -> Option<Tensor> {
    if handle.is_null() {
        return None;
    }
    TAKEN.set(TAKEN.get() + 1);
    // SAFETY: the caller vouches for it.
    Some(unsafe { Tensor::from_ptr(handle.cast()) })
}

/// Takes a tensor.
///
/// # Safety
/// As [`take_if_any`].
pub(super) unsafe fn take(handle: *mut abi::Tensor, what: &str) -> Result<Tensor> {
    // SAFETY: the caller vouches for it.
    unsafe { take_if_any(handle) }.ok_or_else(|| mistake(what, "there is no tensor"))
}

/// A tensor that the other side lends.
pub(super) struct Lent(ManuallyDrop<Tensor>);

impl Deref for Lent {
    type Target = Tensor;

    fn deref(&self) -> &Tensor {
        &self.0
    }
}

/// A tensor that the other side lends, unless the pointer is null.
///
/// # Safety
/// `handle` is null, or a tensor that outlives what is returned.
pub(super) unsafe fn lent_if_any(handle: *const abi::Tensor) -> Option<Lent> {
    // SAFETY: the caller vouches for it, and it is never dropped.
    (!handle.is_null()).then(|| Lent(ManuallyDrop::new(unsafe { Tensor::from_ptr(handle.cast_mut().cast()) })))
}

/// A tensor that the other side lends.
///
/// # Safety
/// As [`lent_if_any`].
pub(super) unsafe fn lent(handle: *const abi::Tensor, what: &str) -> Result<Lent> {
    // SAFETY: the caller vouches for it.
    unsafe { lent_if_any(handle) }.ok_or_else(|| mistake(what, "there is no tensor"))
}

/// The number of a kind, as LibTorch has it.
pub(super) fn dtype_of(kind: Kind) -> i32 {
    DTYPES.iter().find(|(known, _)| *known == kind).map_or(-1, |(_, number)| *number)
}

/// The kind of that number.
pub(super) fn kind_of(dtype: i32) -> Result<Kind> {
    let kind = DTYPES.iter().find(|(_, number)| *number == dtype).map(|(kind, _)| *kind);
    kind.ok_or_else(|| mistake("dtype", format!("there is no dtype {dtype}")))
}

const DTYPES: [(Kind, i32); 20] = [
    (Kind::Uint8, 0),
    (Kind::Int8, 1),
    (Kind::Int16, 2),
    (Kind::Int, 3),
    (Kind::Int64, 4),
    (Kind::Half, 5),
    (Kind::Float, 6),
    (Kind::Double, 7),
    (Kind::ComplexHalf, 8),
    (Kind::ComplexFloat, 9),
    (Kind::ComplexDouble, 10),
    (Kind::Bool, 11),
    (Kind::QInt8, 12),
    (Kind::QUInt8, 13),
    (Kind::QInt32, 14),
    (Kind::BFloat16, 15),
    (Kind::Float8e5m2, 23),
    (Kind::Float8e4m3fn, 24),
    (Kind::Float8e5m2fnuz, 25),
    (Kind::Float8e4m3fnuz, 26),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_kinds_are_those_of_libtorch() {
        for (kind, number) in DTYPES {
            assert_eq!((dtype_of(kind), kind_of(number).unwrap()), (number, kind));
        }
        // SAFETY: the handle is a tensor's, and the function only reads it.
        let told = |tensor: &Tensor| unsafe {
            unsafe extern "C" {
                fn aoti_torch_get_dtype(tensor: *const abi::Tensor, dtype: *mut i32) -> i32;
            }
            let mut dtype = -1;
            assert_eq!(aoti_torch_get_dtype(lend(tensor), &raw mut dtype), 0);
            dtype
        };
        for kind in [Kind::Float, Kind::Double, Kind::BFloat16, Kind::Half, Kind::Int64, Kind::Bool] {
            assert_eq!(told(&Tensor::zeros([1], (kind, tch::Device::Cpu))), dtype_of(kind));
        }
    }
}

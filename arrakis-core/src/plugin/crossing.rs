//! Memory at the boundary: growing structs, arrays, texts and bytes.

#![allow(unsafe_code)]

use std::mem::{ManuallyDrop, MaybeUninit};
use std::ptr;

use super::abi::{self, Bytes, Str};
use crate::{Error, Result};

/// A struct that begins with its size and only grows.
///
/// # Safety
/// `repr(C)`, its first field is `size: usize`, and all zeros are a value of it.
pub(super) unsafe trait Grows: Copy {
    /// Its bytes in the first minor version: what every reader may rely on.
    const FIRST: usize;
    /// What it is called where it is wrong.
    const NAME: &'static str;
}

macro_rules! grows {
    ($($name:ident $first:literal),* $(,)?) => {$(
        // SAFETY: `abi` declares it so: numbers, pointers and optional functions after `size`.
        unsafe impl Grows for abi::$name {
            const FIRST: usize = $first;
            const NAME: &'static str = stringify!($name);
        }

        const _: () = assert!(size_of::<abi::$name>() >= $first, "a struct of the ABI never shrinks");
    )*};
}

#[cfg(target_pointer_width = "64")]
grows! {
    Dims 112, Points 32, WeightNames 32, Hooks 40, KeyValues 40, Pass 96, Output 64, Attached 56, Host 216, Call 72,
    Plugin 48,
}

/// An item of an array that comes with its stride: the bytes from one item to the next, as its writer has them.
///
/// # Safety
/// `repr(C)`, and all zeros are a value of it.
pub(super) unsafe trait Item: Copy {
    /// Its bytes in the first minor version that has it: what every reader may rely on.
    const FIRST: usize;
}

macro_rules! items {
    ($($name:ident $first:literal),* $(,)?) => {$(
        // SAFETY: `abi` declares it so: numbers, pointers, texts and optional functions.
        unsafe impl Item for abi::$name {
            const FIRST: usize = $first;
        }

        const _: () = assert!(size_of::<abi::$name>() >= $first, "an item of the ABI never shrinks");
    )*};
}

#[cfg(target_pointer_width = "64")]
items! { Point 40, WeightName 24, NamedSize 24, Tool 64 }

// What crosses without a size and without a stride stays what it is as long as `MAJOR` does.
#[cfg(target_pointer_width = "64")]
const _: () = {
    assert!(size_of::<abi::Str>() == 16 && size_of::<abi::Bytes>() == 32, "it has no size, so it never grows");
    assert!(size_of::<abi::WeightName>() == 24 && size_of::<abi::WeightEdit>() == 32, "it has no size");
    assert!(size_of::<abi::KeyValue>() == 16, "it has no size, so it never grows");
};

/// No struct of the ABI is larger; a size beyond it is not a size.
const LARGEST: usize = 1 << 16;

/// A mistake of the other side.
pub(super) fn mistake(what: &str, why: impl Into<String>) -> Error {
    Error::Invalid { what: format!("plugin boundary: `{what}`"), why: why.into() }
}

/// Reads a struct of the other side, as far as both know it.
///
/// # Safety
/// `from` is null, or points at as many readable bytes as its first word says.
pub(super) unsafe fn read<T: Grows>(from: *const T) -> Result<T> {
    let size = size_at(from)?;
    let mut value = MaybeUninit::<T>::zeroed();
    // SAFETY: both hold as many bytes, and all zeros are a value of `T` whatever part of it is written over.
    unsafe {
        ptr::copy_nonoverlapping(from.cast::<u8>(), value.as_mut_ptr().cast::<u8>(), size.min(size_of::<T>()));
        Ok(value.assume_init())
    }
}

/// Writes a struct for the other side, as far as it knows it; its size stays what it was.
///
/// # Safety
/// `to` is null, or points at as many writable bytes as its first word says.
pub(super) unsafe fn write<T: Grows>(to: *mut T, value: &T) -> Result<()> {
    let size = size_at(to.cast_const())?;
    let word = size_of::<usize>();
    // SAFETY: both hold as many bytes, and the first word is the size.
    unsafe {
        let from = ptr::from_ref(value).cast::<u8>();
        ptr::copy_nonoverlapping(from.add(word), to.cast::<u8>().add(word), size.min(size_of::<T>()) - word);
    }
    Ok(())
}

fn size_at<T: Grows>(at: *const T) -> Result<usize> {
    check_pointer(at, T::NAME)?;
    // SAFETY: the caller vouches for the first word, and it is aligned.
    let size = unsafe { *at.cast::<usize>() };
    // A size in between would cut a pointer in two.
    if !(T::FIRST..=LARGEST).contains(&size) || !size.is_multiple_of(align_of::<T>()) {
        let (first, align) = (T::FIRST, align_of::<T>());
        let why = format!("it says it has {size} bytes; {first} is the least, in steps of {align}");
        return Err(mistake(T::NAME, why));
    }
    Ok(size)
}

fn check_pointer<T>(at: *const T, what: &str) -> Result<()> {
    if at.is_null() {
        return Err(mistake(what, "the pointer is null"));
    }
    if !at.is_aligned() {
        return Err(mistake(what, "the pointer is not aligned"));
    }
    Ok(())
}

/// The items of an array; an error for a null pointer with a count.
///
/// # Safety
/// `items` is null, or points at `count` readable items that live for `'a`.
pub(super) unsafe fn items<'a, T>(items: *const T, count: usize, what: &str) -> Result<&'a [T]> {
    if count == 0 {
        return Ok(&[]);
    }
    check_pointer(items, what)?;
    check_count(count, size_of::<T>(), what)?;
    // SAFETY: the caller vouches for it, and the count is one that memory can hold.
    Ok(unsafe { std::slice::from_raw_parts(items, count) })
}

/// The items of an array whose items may have grown: what both sides know of each; what the writer lacks is zero.
///
/// # Safety
/// `items` is null, or points at `count` readable items, `stride` bytes apart.
pub(super) unsafe fn strided<T: Item>(items: *const T, count: usize, stride: usize, what: &str) -> Result<Vec<T>> {
    if count == 0 {
        return Ok(Vec::new());
    }
    check_pointer(items, what)?;
    if !(T::FIRST..=LARGEST).contains(&stride) || !stride.is_multiple_of(align_of::<T>()) {
        let (first, align) = (T::FIRST, align_of::<T>());
        let why = format!("the items are {stride} bytes apart; {first} is the least, in steps of {align}");
        return Err(mistake(what, why));
    }
    check_count(count, stride, what)?;
    let known = stride.min(size_of::<T>());
    let item = |place: usize| {
        let mut item = MaybeUninit::<T>::zeroed();
        // SAFETY: the caller vouches for the items; both hold as many bytes, and all zeros are a value of `T` whatever
        // part of it is written over.
        unsafe {
            let from = items.cast::<u8>().add(place * stride);
            ptr::copy_nonoverlapping(from, item.as_mut_ptr().cast::<u8>(), known);
            item.assume_init()
        }
    };
    Ok((0..count).map(item).collect())
}

fn check_count(count: usize, bytes: usize, what: &str) -> Result<()> {
    match count.checked_mul(bytes) {
        Some(total) if isize::try_from(total).is_ok() => Ok(()),
        _ => Err(mistake(what, format!("it says it has {count} items"))),
    }
}

/// The number of a block; -1 outside the blocks.
pub(super) fn layer_number(layer: Option<usize>) -> i64 {
    layer.map_or(-1, |layer| layer as i64)
}

/// A text, to be lent.
pub(super) fn lend_text(text: &str) -> Str {
    Str { ptr: text.as_ptr(), len: text.len() }
}

/// A text that the other side lends.
///
/// # Safety
/// The text's pointer is null, or points at as many readable bytes as it says, which live for `'a`.
pub(super) unsafe fn text<'a>(text: Str, what: &str) -> Result<&'a str> {
    // SAFETY: the caller vouches for it.
    let bytes = unsafe { items(text.ptr, text.len, what)? };
    std::str::from_utf8(bytes).map_err(|error| mistake(what, format!("it is not UTF-8: {error}")))
}

impl Bytes {
    /// No bytes.
    pub(super) const EMPTY: Self = Self { ptr: ptr::null_mut(), len: 0, cap: 0, free: None };

    /// Bytes that this side frees.
    pub(super) fn of(bytes: Vec<u8>) -> Self {
        let mut bytes = ManuallyDrop::new(bytes);
        Self { ptr: bytes.as_mut_ptr(), len: bytes.len(), cap: bytes.capacity(), free: Some(free_bytes) }
    }

    /// The bytes, copied, and the other side's freed.
    ///
    /// # Safety
    /// The pointer is null, or points at as many readable bytes as it says; they were given away once.
    pub(super) unsafe fn take(self, what: &str) -> Result<Vec<u8>> {
        // SAFETY: the caller vouches for it.
        let copied = unsafe { items(self.ptr.cast_const(), self.len, what) }.map(<[u8]>::to_vec);
        if let Some(free) = self.free
            && !self.ptr.is_null()
        {
            // SAFETY: these are the numbers that came with the bytes.
            unsafe { free(self.ptr, self.len, self.cap) };
        }
        copied
    }
}

unsafe extern "C" fn free_bytes(ptr: *mut u8, len: usize, cap: usize) {
    // SAFETY: they come from `Bytes::of`.
    drop(unsafe { Vec::from_raw_parts(ptr, len, cap) });
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A struct as three minor versions know it.
    macro_rules! version {
        ($name:ident { $($field:ident),* }) => {
            #[repr(C)]
            #[derive(Debug, Clone, Copy, PartialEq)]
            struct $name {
                size: usize,
                $($field: u64,)*
            }

            // SAFETY: numbers after `size`.
            unsafe impl Grows for $name {
                const FIRST: usize = 16;
                const NAME: &'static str = stringify!($name);
            }

            // SAFETY: numbers.
            unsafe impl Item for $name {
                const FIRST: usize = 16;
            }
        };
    }
    version!(Old { a });
    version!(Now { a, b });
    version!(Later { a, b, c });

    #[test]
    fn a_struct_that_grew_is_read_and_written_as_far_as_both_know_it() {
        let later = Later { size: size_of::<Later>(), a: 1, b: 2, c: 3 };
        let old = Old { size: size_of::<Old>(), a: 1 };
        // SAFETY: each says its own size.
        unsafe {
            let now = read(ptr::from_ref(&later).cast::<Now>()).unwrap();
            assert_eq!((now.a, now.b), (1, 2));
            let now = read(ptr::from_ref(&old).cast::<Now>()).unwrap();
            assert_eq!((now.a, now.b), (1, 0));

            let now = Now { size: size_of::<Now>(), a: 7, b: 8 };
            let mut to = later;
            write(ptr::from_mut(&mut to).cast::<Now>(), &now).unwrap();
            assert_eq!(to, Later { size: size_of::<Later>(), a: 7, b: 8, c: 3 });
            let mut to = [old, old];
            write(to.as_mut_ptr().cast::<Now>(), &now).unwrap();
            assert_eq!(to, [Old { size: size_of::<Old>(), a: 7 }, old]);

            for size in [0, 8, 20, LARGEST + 8, usize::MAX] {
                let wrong = Now { size, a: 1, b: 2 };
                let why = read(&raw const wrong).unwrap_err().to_string();
                assert!(why.contains("16 is the least, in steps of 8"), "{why}");
            }
        }
    }

    #[test]
    fn items_are_read_by_the_stride_of_who_wrote_them() {
        let old = [1, 2, 3].map(|a| Old { size: 16, a });
        let now = [1, 2, 3].map(|a| Now { size: 24, a, b: a * 10 });
        let later = [1, 2, 3].map(|a| Later { size: 32, a, b: a * 10, c: 7 });
        let read = |items: *const Now, stride| {
            // SAFETY: each array has three items, as far apart as is said.
            unsafe { strided(items, 3, stride, "numbers") }
        };
        assert_eq!(read(old.as_ptr().cast(), 16).unwrap(), [1, 2, 3].map(|a| Now { size: 16, a, b: 0 }));
        assert_eq!(read(now.as_ptr(), 24).unwrap(), now);
        assert_eq!(read(later.as_ptr().cast(), 32).unwrap(), [1, 2, 3].map(|a| Now { size: 32, a, b: a * 10 }));
        for stride in [0, 8, 12, 20, LARGEST + 8, usize::MAX] {
            let why = read(now.as_ptr(), stride).unwrap_err().to_string();
            assert!(why.contains("16 is the least, in steps of 8"), "{why}");
        }
    }
}

//! What both sides do at the boundary: texts, bytes, tensors, growing structs, failures, and panics caught.

#![allow(unsafe_code)]

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::mem::{ManuallyDrop, MaybeUninit, size_of};
use std::ops::Deref;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;

use tch::{Kind, Tensor};

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
    if !(T::FIRST..=LARGEST).contains(&size) {
        return Err(mistake(T::NAME, format!("it says it has {size} bytes, and the least is {}", T::FIRST)));
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

/// The items of an array whose elements may have grown: what both know of each.
///
/// # Safety
/// `items` is null, or points at `count` readable items, `stride` bytes apart.
pub(super) unsafe fn strided<T: Copy>(items: *const T, count: usize, stride: usize, what: &str) -> Result<Vec<T>> {
    if count == 0 {
        return Ok(Vec::new());
    }
    check_pointer(items, what)?;
    if !(size_of::<T>()..=LARGEST).contains(&stride) || !stride.is_multiple_of(align_of::<T>()) {
        return Err(mistake(what, format!("the items are {stride} bytes apart, and the least is {}", size_of::<T>())));
    }
    check_count(count, stride, what)?;
    // SAFETY: the caller vouches for the items; the stride keeps them aligned.
    Ok((0..count).map(|place| unsafe { *items.byte_add(place * stride) }).collect())
}

fn check_count(count: usize, bytes: usize, what: &str) -> Result<()> {
    match count.checked_mul(bytes) {
        Some(total) if isize::try_from(total).is_ok() => Ok(()),
        _ => Err(mistake(what, format!("it says it has {count} items"))),
    }
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
    fn of(bytes: Vec<u8>) -> Self {
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

    /// As [`take`](Self::take), for a text.
    ///
    /// # Safety
    /// As [`take`](Self::take).
    pub(super) unsafe fn take_text(self, what: &str) -> Result<String> {
        // SAFETY: the caller vouches for it.
        String::from_utf8(unsafe { self.take(what)? }).map_err(|error| mistake(what, format!("not UTF-8: {error}")))
    }
}

unsafe extern "C" fn free_bytes(ptr: *mut u8, len: usize, cap: usize) {
    // SAFETY: they come from `Bytes::of`.
    drop(unsafe { Vec::from_raw_parts(ptr, len, cap) });
}

thread_local! {
    /// Tensors given to the other side on this thread.
    static GIVEN: Cell<u64> = const { Cell::new(0) };
    /// Tensors taken from the other side on this thread.
    static TAKEN: Cell<u64> = const { Cell::new(0) };
    /// Where the last panic was.
    static PANIC_PLACE: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Tensors that changed hands on this thread: given and taken by this side.
pub(super) fn handles() -> (u64, u64) {
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

/// The status of an error, and its words.
pub(super) fn status_of(error: Error) -> (u32, String) {
    match error {
        Error::Cancelled => (abi::CANCELLED, String::new()),
        Error::Parameters { why, .. } => (abi::PARAMETERS, why),
        Error::Planned(plan) => match serde_json::to_string(&plan) {
            Ok(plan) => (abi::PLANNED, plan),
            Err(error) => (abi::FAILED, error.to_string()),
        },
        Error::Panicked { message, .. } => (abi::PANICKED, message),
        other => (abi::FAILED, other.to_string()),
    }
}

/// The error of a status and its words; `what` is the tool or the function that failed.
pub(super) fn error_of(status: u32, words: String, what: &str) -> Error {
    match status {
        abi::CANCELLED => Error::Cancelled,
        abi::PARAMETERS => Error::Parameters { tool: what.to_owned(), why: words },
        abi::PLANNED => match serde_json::from_str(&words) {
            Ok(plan) => Error::Planned(plan),
            Err(error) => mistake("plan", error.to_string()),
        },
        abi::PANICKED => Error::Panicked { what: what.to_owned(), message: words },
        abi::FAILED if words.is_empty() => mistake(what, "it failed without saying why"),
        abi::FAILED => Error::Other(words.into()),
        other => mistake(what, format!("it gave the status {other}, which means nothing")),
    }
}

/// Does what the other side asked for, and gives the status; the result, or why there is none, is written to `bytes`.
///
/// # Safety
/// `bytes` is null, or points at writable `Bytes`.
pub(super) unsafe fn answering(bytes: *mut Bytes, work: impl FnOnce() -> Result<Vec<u8>>) -> u32 {
    let (status, words) = match caught(work) {
        Ok(Ok(result)) => (abi::OK, result),
        Ok(Err(error)) => {
            let (status, words) = status_of(error);
            (status, words.into_bytes())
        }
        Err(panic) => (abi::PANICKED, message(panic).into_bytes()),
    };
    if !bytes.is_null() && !words.is_empty() {
        // SAFETY: the caller vouches for it.
        unsafe { bytes.write(Bytes::of(words)) };
    }
    status
}

/// As [`answering`], for what gives no bytes.
///
/// # Safety
/// As [`answering`].
pub(super) unsafe fn doing(why: *mut Bytes, work: impl FnOnce() -> Result<()>) -> u32 {
    // SAFETY: the caller vouches for it.
    unsafe { answering(why, || work().map(|()| Vec::new())) }
}

/// Calls the other side, which writes its result, or why there is none, to the bytes that it is given.
pub(super) fn asked(what: &str, call: impl FnOnce(*mut Bytes) -> u32) -> Result<Vec<u8>> {
    let mut bytes = Bytes::EMPTY;
    let status = call(&raw mut bytes);
    // SAFETY: the other side wrote them, or nothing.
    let bytes = unsafe { bytes.take(what)? };
    if status == abi::OK {
        return Ok(bytes);
    }
    Err(error_of(status, String::from_utf8_lossy(&bytes).into_owned(), what))
}

/// A function of a table of the other side; an error if it is not there.
pub(super) fn there<F: Copy>(function: Option<F>, what: &str) -> Result<F> {
    function.ok_or_else(|| mistake(what, "there is no such function on the other side"))
}

/// What `work` gives, or what it panicked with.
pub(super) fn caught<T>(work: impl FnOnce() -> T) -> std::result::Result<T, Box<dyn Any + Send>> {
    catch_unwind(AssertUnwindSafe(work))
}

/// The words of a panic, with the place if it is known.
pub(super) fn message(panic: Box<dyn Any + Send>) -> String {
    let place = PANIC_PLACE.take();
    let words = match (panic.downcast_ref::<&str>(), panic.downcast_ref::<String>()) {
        (Some(text), _) => (*text).to_owned(),
        // LibTorch's words go on with a C++ backtrace, which the plain forms of tch write escaped.
        (_, Some(text)) => {
            let end = ["\nException raised", "\\nException raised"].iter().filter_map(|mark| text.find(mark)).min();
            text[..end.unwrap_or(text.len())].to_owned()
        }
        _ => "it did not say why".to_owned(),
    };
    // What was thrown may panic while it is dropped, and what that throws is left alone.
    if let Err(again) = caught(|| drop(panic)) {
        std::mem::forget(again);
    }
    match place {
        Some(place) => format!("{words} ({place})"),
        None => words,
    }
}

/// Lets panics of this library be told by whoever catches them, and not on standard error.
pub(super) fn keep_panics_quiet() {
    std::panic::set_hook(Box::new(|info| {
        let place = info.location().map(ToString::to_string);
        let _ = PANIC_PLACE.try_with(|known| known.replace(place));
    }));
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
        }
    }

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

    #[test]
    fn a_panic_loses_the_backtrace_of_libtorch_and_nothing_else() {
        let say = |text: &str| message(Box::new(text.to_owned()));
        assert_eq!(say("a plain one"), "a plain one");
        assert_eq!(say("dimension\nException raised from here"), "dimension");
        assert_eq!(say(r"Torch(dimension\nException raised from here)"), "Torch(dimension");
    }
}

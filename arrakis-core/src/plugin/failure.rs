//! Failures at the boundary: errors as a status with words, and panics caught.

#![allow(unsafe_code)]

use std::any::Any;
use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::abi::{self, Bytes};
use super::crossing::mistake;
use crate::{Error, Result, without_backtrace};

thread_local! {
    /// Where the last panic was.
    static PANIC_PLACE: RefCell<Option<String>> = const { RefCell::new(None) };
}

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
        (_, Some(text)) => without_backtrace(text).to_owned(),
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

    #[test]
    fn a_panic_loses_the_backtrace_of_libtorch_and_nothing_else() {
        let say = |text: &str| message(Box::new(text.to_owned()));
        assert_eq!(say("a plain one"), "a plain one");
        assert_eq!(say("dimension\nException raised from here"), "dimension");
        assert_eq!(say(r"Torch(dimension\nException raised from here)"), "Torch(dimension");
    }
}

//! Hooks of this side, as the host's model calls them.

#![allow(unsafe_code)]

use std::any::Any;
use std::ffi::c_void;

use super::super::abi::{self, Bytes};
use super::super::crossing::mistake;
use super::super::failure::{answering, caught};
use super::super::handles::{give, give_if_any, take};
use crate::{Error, HookPoint, Hooks, Result};

/// Hooks that a pass of the host's calls; what goes wrong in them is kept until the pass has returned.
pub(super) struct Ours<'a> {
    hooks: &'a mut dyn Hooks,
    points: &'a [HookPoint],
    /// The places of `points` among the host's; the same unless the host has points that this version does not know.
    places: &'a [usize],
    panic: Option<Box<dyn Any + Send>>,
    error: Option<Error>,
}

impl<'a> Ours<'a> {
    pub(super) fn new(hooks: &'a mut dyn Hooks, points: &'a [HookPoint], places: &'a [usize]) -> Self {
        Self { hooks, points, places, panic: None, error: None }
    }

    /// The table that the host calls; good as long as this is.
    pub(super) fn table(&mut self) -> abi::Hooks {
        abi::Hooks {
            size: size_of::<abi::Hooks>(),
            state: std::ptr::from_mut(self).cast(),
            watches: Some(watches),
            visit: Some(visit),
            given: Some(given),
            passed: Some(passed),
        }
    }

    /// What the pass gave, as if it had called the hooks without a boundary between.
    pub(super) fn ended<T>(self, done: Result<T>) -> Result<T> {
        if let Some(panic) = self.panic {
            std::panic::resume_unwind(panic);
        }
        match (done, self.error) {
            (Err(_), Some(error)) => Err(error),
            (done, _) => done,
        }
    }

    fn point(&self, place: usize) -> Option<HookPoint> {
        if self.places.get(place) == Some(&place) {
            return self.points.get(place).copied();
        }
        self.points.get(self.places.binary_search(&place).ok()?).copied()
    }

    /// Does what a hook does, keeping what goes wrong, of which the host only learns that it did.
    fn kept<T>(&mut self, work: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        let stopped = || mistake("hook", "it went wrong before");
        if self.panic.is_some() {
            return Err(stopped());
        }
        match caught(|| work(self)) {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(error)) => {
                let told = match &error {
                    Error::Cancelled => Error::Cancelled,
                    other => Error::Other(other.to_string().into()),
                };
                self.error = Some(error);
                Err(told)
            }
            Err(panic) => {
                self.panic = Some(panic);
                Err(stopped())
            }
        }
    }
}

/// # Safety
/// `state` comes from [`Ours::table`], and the host calls one function at a time.
unsafe fn ours<'a>(state: *mut c_void) -> Result<&'a mut Ours<'a>> {
    // SAFETY: the caller vouches for it.
    unsafe { state.cast::<Ours<'a>>().as_mut() }.ok_or_else(|| mistake("Hooks.state", "the pointer is null"))
}

unsafe extern "C" fn watches(state: *mut c_void, place: usize) -> u8 {
    // SAFETY: the host gives what it was given.
    let Ok(ours) = (unsafe { ours(state) }) else { return 0 };
    let Some(point) = ours.point(place) else { return 0 };
    // Where it panics the point is visited, and the visit tells.
    ours.kept(|ours| Ok(ours.hooks.watches(point))).unwrap_or(true).into()
}

unsafe extern "C" fn visit(
    state: *mut c_void,
    place: usize,
    value: *mut abi::Tensor,
    flows_on: *mut *mut abi::Tensor,
    why: *mut Bytes,
) -> u32 {
    // SAFETY: the host gives what it was given, a value that changes hands, and a place for another.
    unsafe {
        answering(why, || {
            let value = take(value, "value of a hook")?;
            let ours = ours(state)?;
            let point = ours.point(place).ok_or_else(|| mistake("hook", format!("there is no point {place}")))?;
            let value = ours.kept(|ours| ours.hooks.visit(point, value))?;
            flows_on.write(give(value));
            Ok(Vec::new())
        })
    }
}

unsafe extern "C" fn given(state: *mut c_void, place: usize, value: *mut *mut abi::Tensor, why: *mut Bytes) -> u32 {
    // SAFETY: as in `visit`.
    unsafe {
        answering(why, || {
            let ours = ours(state)?;
            let point = ours.point(place).ok_or_else(|| mistake("hook", format!("there is no point {place}")))?;
            let known = ours.kept(|ours| ours.hooks.given(point))?;
            value.write(give_if_any(known));
            Ok(Vec::new())
        })
    }
}

unsafe extern "C" fn passed(state: *mut c_void, place: usize) {
    // SAFETY: the host gives what it was given.
    let Ok(ours) = (unsafe { ours(state) }) else { return };
    let Some(point) = ours.point(place) else { return };
    // A panic is kept like any other, and the pass ends at the next visit or with its end.
    let _ = ours.kept(|ours| {
        ours.hooks.passed(point);
        Ok(())
    });
}

//! The hooks of a plugin, as the host's model sees them.

#![allow(unsafe_code)]

use std::ffi::c_void;
use std::ptr;

use tch::Tensor;

use super::super::abi::{self, Bytes};
use super::super::crossing::mistake;
use super::super::failure::{asked, there};
use super::super::handles::{give, take_if_any};
use super::points::PointTable;
use crate::{Error, HookPoint, Hooks, Result};

/// The hooks of a plugin.
pub(super) struct Theirs<'a> {
    points: &'a PointTable,
    state: *mut c_void,
    watches: unsafe extern "C" fn(*mut c_void, usize) -> u8,
    visit: unsafe extern "C" fn(*mut c_void, usize, *mut abi::Tensor, *mut *mut abi::Tensor, *mut Bytes) -> u32,
    given: Option<unsafe extern "C" fn(*mut c_void, usize, *mut *mut abi::Tensor, *mut Bytes) -> u32>,
    passed: Option<unsafe extern "C" fn(*mut c_void, usize)>,
}

impl<'a> Theirs<'a> {
    pub(super) fn new(hooks: &abi::Hooks, points: &'a PointTable) -> Result<Self> {
        let abi::Hooks { state, watches, visit, given, passed, .. } = *hooks;
        let (watches, visit) = (there(watches, "Hooks.watches")?, there(visit, "Hooks.visit")?);
        Ok(Self { points, state, watches, visit, given, passed })
    }

    fn place(&self, point: HookPoint) -> Result<usize> {
        self.points.place(point).ok_or_else(|| Error::Invalid {
            what: format!("`{point}`"),
            why: "the model visits this point and does not list it".into(),
        })
    }
}

impl Hooks for Theirs<'_> {
    fn watches(&self, point: HookPoint) -> bool {
        // A point that is not listed is no plugin's to watch.
        // SAFETY: the functions live as long as the pass, and take the state that came with them.
        self.points.place(point).is_some_and(|place| unsafe { (self.watches)(self.state, place) } != 0)
    }

    fn visit(&mut self, point: HookPoint, value: Tensor) -> Result<Tensor> {
        let place = self.place(point)?;
        let mut flows_on = ptr::null_mut();
        // SAFETY: as in `watches`; the value changes hands.
        let done = asked("hook", |why| unsafe { (self.visit)(self.state, place, give(value), &raw mut flows_on, why) });
        // SAFETY: what the plugin wrote there changes hands.
        let flows_on = unsafe { take_if_any(flows_on) };
        done?;
        match flows_on {
            Some(value) if value.defined() => Ok(value),
            _ => Err(mistake("hook", format!("it gives no value that flows on at `{point}`"))),
        }
    }

    fn given(&mut self, point: HookPoint) -> Result<Option<Tensor>> {
        let Some(given) = self.given else { return Ok(None) };
        let place = self.place(point)?;
        let mut value = ptr::null_mut();
        // SAFETY: as in `watches`.
        let done = asked("hook", |why| unsafe { given(self.state, place, &raw mut value, why) });
        // SAFETY: what the plugin wrote there changes hands.
        let value = unsafe { take_if_any(value) };
        done?;
        if value.as_ref().is_some_and(|value| !value.defined()) {
            return Err(mistake("Hooks.given", "it gives an undefined tensor"));
        }
        Ok(value)
    }

    fn passed(&mut self, point: HookPoint) {
        if let (Some(passed), Some(place)) = (self.passed, self.points.place(point)) {
            // SAFETY: as in `watches`.
            unsafe { passed(self.state, place) };
        }
    }
}

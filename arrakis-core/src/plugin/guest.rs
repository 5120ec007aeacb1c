//! The plugin's side: its tools as a table of functions, each asked with a [`Context`] over the host's model.

#![allow(unsafe_code)]

mod hooks;
mod model;
pub(super) mod names;

use std::ffi::c_void;
use std::sync::OnceLock;

use serde_json::Value;

pub(super) use self::model::Remote;
use super::abi::{self, Attached, Bytes, Call, Plugin, Str};
use super::crossing::{lend_text, mistake, read, text};
use super::failure::{answering, asked, caught, keep_panics_quiet, there};
use super::handles::{counted, dtype_of, give};
use super::stamp::Whose;
use crate::{Answer, Context, Error, Result, ToolEntry};

/// What a plugin's exported function does; null where the host is not one that it can work with.
///
/// # Safety
/// `host` is null or a host's table, and this is called by the host that has loaded this library.
#[doc(hidden)]
#[must_use]
pub unsafe fn enter(host: *const abi::Host, plugin: &str, whose: Whose) -> *const Plugin {
    static PLUGIN: OnceLock<usize> = OnceLock::new();
    // SAFETY: the caller vouches for it.
    let fits = unsafe { read(host) }.is_ok_and(|host| host.major == abi::MAJOR);
    if !fits {
        return std::ptr::null();
    }
    // The library is never unloaded, and neither is what it hands over.
    let made = caught(|| {
        *PLUGIN.get_or_init(|| {
            keep_panics_quiet();
            std::ptr::from_ref::<Plugin>(Box::leak(Box::new(table(plugin, whose)))).expose_provenance()
        })
    });
    made.map_or(std::ptr::null(), std::ptr::with_exposed_provenance)
}

fn table(plugin: &str, whose: Whose) -> Plugin {
    let is_ours = |entry: &&ToolEntry| match whose {
        Whose::Own => entry.owner() == plugin,
        Whose::All => true,
    };
    let mut entries: Vec<&'static ToolEntry> = inventory::iter::<ToolEntry>.into_iter().filter(is_ours).collect();
    entries.sort_by_key(|entry| entry.name());
    let tools: &'static [abi::Tool] = entries.into_iter().map(tool).collect::<Vec<_>>().leak();
    Plugin {
        size: size_of::<Plugin>(),
        major: abi::MAJOR,
        minor: abi::MINOR,
        tools: tools.as_ptr(),
        tool_count: tools.len(),
        tool_stride: size_of::<abi::Tool>(),
        handles: Some(tell_handles),
    }
}

fn tool(entry: &'static ToolEntry) -> abi::Tool {
    abi::Tool {
        name: lend_text(entry.name()),
        owner: lend_text(entry.owner()),
        state: std::ptr::from_ref(entry).cast(),
        schema: Some(schema),
        complete: Some(complete),
        ask: Some(ask),
    }
}

/// # Safety
/// `state` comes from [`tool`].
unsafe fn entry(state: *const c_void) -> Result<&'static ToolEntry> {
    // SAFETY: the caller vouches for it.
    unsafe { state.cast::<ToolEntry>().as_ref() }.ok_or_else(|| mistake("Tool.state", "the pointer is null"))
}

unsafe extern "C" fn schema(state: *const c_void, to: *mut Bytes) -> u32 {
    // SAFETY: the host gives what it was given.
    unsafe { answering(to, || Ok(serde_json::to_vec(&entry(state)?.schema())?)) }
}

unsafe extern "C" fn complete(state: *const c_void, parameters: Str, to: *mut Bytes) -> u32 {
    // SAFETY: the host gives what it was given, and lends a text.
    unsafe {
        answering(to, || Ok(serde_json::to_vec(&entry(state)?.complete(parsed(text(parameters, "parameters")?)?)?)?))
    }
}

unsafe extern "C" fn ask(state: *const c_void, call: *const Call, to: *mut Bytes) -> u32 {
    // SAFETY: the host gives what it was given, and a call that tells its size and lives until this returns.
    unsafe { answering(to, || asked_by(entry(state)?, &read(call)?)) }
}

/// # Safety
/// What the call points at lives until this returns.
unsafe fn asked_by(tool: &ToolEntry, call: &Call) -> Result<Vec<u8>> {
    // SAFETY: the caller vouches for it.
    let (parameters, host) = unsafe { (parsed(text(call.parameters, "parameters")?)?, read(call.host)?) };
    // SAFETY: as above.
    let model = unsafe { Remote::lent(host, call.model)? };
    let listener = Listener { host, context: call.context };
    let mut cx = Context::new(&model).with_host(&listener).with_seed(call.seed);
    if call.flags & abi::MEMORY_LIMITED != 0 {
        cx = cx.with_memory_limit(call.memory_limit);
    }
    if call.flags & abi::DRY_RUN != 0 {
        cx = cx.with_dry_run();
    }
    let answer = tool.ask(parameters, &cx)?;
    listener.attach(&answer)
}

fn parsed(parameters: &str) -> Result<Value> {
    Ok(serde_json::from_str(parameters)?)
}

unsafe extern "C" fn tell_handles(given: *mut u64, taken: *mut u64) {
    let (ours_given, ours_taken) = counted();
    // SAFETY: the host gives places for both.
    unsafe {
        given.write(ours_given);
        taken.write(ours_taken);
    }
}

/// The host, as it listens to a running tool.
struct Listener {
    host: abi::Host,
    context: *const abi::Context,
}

impl Listener {
    /// Attaches the tensors of an answer, and gives its JSON.
    fn attach(&self, answer: &Answer) -> Result<Vec<u8>> {
        let (json, tensors) = answer.split()?;
        let attach = there(self.host.attach, "Host.attach")?;
        for (name, tensor) in tensors {
            let (sizes, dtype) = (tensor.size(), dtype_of(tensor.f_kind()?));
            let attached = Attached {
                size: size_of::<Attached>(),
                name: lend_text(&name),
                tensor: give(tensor),
                dtype,
                sizes: sizes.as_ptr(),
                dimensions: sizes.len(),
            };
            // SAFETY: the context lives until the question is answered, and what is lent until this returns.
            asked("attach", |why| unsafe { attach(self.context, &raw const attached, why) })?;
        }
        Ok(serde_json::to_vec(&json)?)
    }

    /// A call that cannot fail on the other side; a panic there is one here.
    fn told(what: &str, call: impl FnOnce(*mut Bytes) -> u32) -> bool {
        match asked(what, call) {
            Ok(_) => true,
            Err(Error::Cancelled) => false,
            Err(error) => std::panic::panic_any(error.to_string()),
        }
    }
}

impl crate::Host for Listener {
    fn progress(&self, done: u64, total: u64) {
        if let Some(progress) = self.host.progress {
            // SAFETY: the context lives until the question is answered.
            Self::told("progress", |why| unsafe { progress(self.context, done, total, why) });
        }
    }

    /// The numbers are drawn on this side; the host is asked for none of them, so that it hears of the stream.
    fn stream(&self, name: &str) {
        if let Some(uniforms) = self.host.uniforms {
            // SAFETY: the context lives until the question is answered.
            Self::told("stream", |why| unsafe {
                uniforms(self.context, lend_text(name), std::ptr::null_mut(), 0, why)
            });
        }
    }

    fn log(&self, line: &str) {
        if let Some(log) = self.host.log {
            // SAFETY: the context lives until the question is answered.
            Self::told("log", |why| unsafe { log(self.context, lend_text(line), why) });
        }
    }

    fn cancelled(&self) -> bool {
        // SAFETY: the context lives until the question is answered.
        self.host
            .cancelled
            .is_some_and(|cancelled| !Self::told("cancelled", |why| unsafe { cancelled(self.context, why) }))
    }
}

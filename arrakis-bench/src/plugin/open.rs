//! Loading a library that was looked at, and taking over its tools.

#![allow(unsafe_code)]

use std::path::Path;

use arrakis_core::plugin::{Adopted, Stamp, StampedTool};

/// Loads a library whose stamp fits, for good; why not, in words.
///
/// `loaded` is called once its code is in the process, where it stays whatever comes of it.
#[cfg(target_os = "linux")]
pub(super) fn open(
    path: &Path,
    stamp: &Stamp,
    tools: &[StampedTool],
    loaded: impl FnOnce(),
) -> Result<Adopted, String> {
    use arrakis_core::plugin::{abi, adopt};
    use libloading::os::unix::{Library, RTLD_LOCAL, RTLD_NOW};

    // At once, because a symbol that is missing later would end the process; local, because plugins are not each other's.
    let flags = RTLD_NOW | RTLD_LOCAL | libc::RTLD_NODELETE;
    // SAFETY: the file is a whole library for this machine with a stamp that fits; what its initialisers do is up to it.
    let library = unsafe { Library::open(Some(path), flags) }.map_err(|error| words(&error))?;
    loaded();
    // SAFETY: the stamp of this ABI says that the function has this type.
    let entry = unsafe { library.get::<abi::Entry>(stamp.entry.as_bytes()) }.map_err(|error| words(&error))?;
    let entry = *entry;
    std::mem::forget(library);
    // SAFETY: as above, and the library is never unloaded.
    unsafe { adopt(entry, tools) }.map_err(|error| error.to_string())
}

#[cfg(target_os = "linux")]
fn words(error: &libloading::Error) -> String {
    use std::error::Error;
    error.source().map_or_else(|| error.to_string(), ToString::to_string)
}

#[cfg(not(target_os = "linux"))]
pub(super) fn open(_: &Path, _: &Stamp, _: &[StampedTool], _: impl FnOnce()) -> Result<Adopted, String> {
    Err("plugins are loaded on Linux only".into())
}

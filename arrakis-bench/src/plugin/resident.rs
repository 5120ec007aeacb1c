//! What the process has already: libraries that are loaded, and the symbols that a new one may use.

#![allow(unsafe_code)]

use std::ffi::{CStr, CString, c_void};

/// Libraries that were found to be loaded, which stay as they were.
#[derive(Default)]
pub(super) struct Resident(Vec<*mut c_void>);

impl Resident {
    /// Whether a library of that name is loaded; none is loaded for it.
    pub(super) fn holds(&mut self, library: &str) -> bool {
        let Ok(name) = CString::new(library) else { return false };
        // SAFETY: the name ends in zero; with `RTLD_NOLOAD` nothing is loaded and none of its code runs.
        let handle = unsafe { libc::dlopen(name.as_ptr(), libc::RTLD_LAZY | libc::RTLD_NOLOAD) };
        if handle.is_null() {
            return false;
        }
        self.0.push(handle);
        true
    }

    /// Whether the program, a library that it was started with, or one of these has a symbol, of that version if one is
    /// given.
    pub(super) fn has(&self, symbol: &str, version: Option<&str>) -> bool {
        let (Ok(name), Ok(version)) = (CString::new(symbol), version.map(CString::new).transpose()) else {
            return false;
        };
        std::iter::once(&libc::RTLD_DEFAULT).chain(&self.0).any(|handle| {
            // SAFETY: the handle is the loader's own, or one that `drop` gives back.
            unsafe { finds(*handle, &name, version.as_deref()) }
        })
    }
}

impl Drop for Resident {
    fn drop(&mut self) {
        for handle in &self.0 {
            // SAFETY: each came from one `dlopen`, before which the library was held by others.
            unsafe { libc::dlclose(*handle) };
        }
    }
}

/// # Safety
/// The handle is one of `dlopen`'s, or `RTLD_DEFAULT`.
unsafe fn finds(handle: *mut c_void, name: &CStr, version: Option<&CStr>) -> bool {
    // SAFETY: the caller vouches for the handle, the texts end in zero, and the address is only compared.
    unsafe {
        #[cfg(target_env = "gnu")]
        if let Some(version) = version {
            return !libc::dlvsym(handle, name.as_ptr(), version.as_ptr()).is_null();
        }
        #[cfg(not(target_env = "gnu"))]
        let _ = version;
        !libc::dlsym(handle, name.as_ptr()).is_null()
    }
}

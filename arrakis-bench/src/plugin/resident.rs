//! What the process has already: libraries that are loaded, and the symbols that every new one may use.

#![allow(unsafe_code)]

use std::ffi::CString;

/// Whether a library of that name is loaded; none is loaded for it.
pub(super) fn is_loaded(library: &str) -> bool {
    let Ok(name) = CString::new(library) else { return false };
    // SAFETY: the name ends in zero; with `RTLD_NOLOAD` nothing is loaded and none of its code runs. The handle is given
    // back, and the library stays as it was.
    unsafe {
        let handle = libc::dlopen(name.as_ptr(), libc::RTLD_LAZY | libc::RTLD_NOLOAD);
        !handle.is_null() && libc::dlclose(handle) == 0
    }
}

/// Whether the program, or a library that it was started with, has a symbol, of that version if one is given.
pub(super) fn has(symbol: &str, version: Option<&str>) -> bool {
    let (Ok(name), Ok(version)) = (CString::new(symbol), version.map(CString::new).transpose()) else { return false };
    #[cfg(target_env = "gnu")]
    if let Some(version) = version {
        // SAFETY: both texts end in zero, and the address is only compared.
        return unsafe { !libc::dlvsym(libc::RTLD_DEFAULT, name.as_ptr(), version.as_ptr()).is_null() };
    }
    #[cfg(not(target_env = "gnu"))]
    let _ = version;
    // SAFETY: as above.
    unsafe { !libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr()).is_null() }
}

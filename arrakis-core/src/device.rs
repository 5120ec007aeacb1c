//! Choosing a device; the CUDA side of LibTorch is loaded by name, and only when it is asked for.

use std::ffi::{CStr, c_void};
use std::path::PathBuf;
use std::sync::OnceLock;

use tch::Device;

use crate::{Error, Result};

/// The device of that name: `cpu`, `cuda`, `cuda:1`, or `auto` (CUDA where there is one).
///
/// Every choice of a device goes through here: LibTorch remembers its first answer about CUDA, so the CUDA library is
/// loaded before anything asks.
pub fn device(name: &str) -> Result<Device> {
    if name == "cpu" {
        return Ok(Device::Cpu);
    }
    let unavailable = |why: String| Error::Device { device: name.to_owned(), why };
    let index = match name {
        "auto" | "cuda" => 0,
        _ => match name.strip_prefix("cuda:").map(str::parse::<usize>) {
            Some(Ok(index)) => index,
            _ => return Err(unavailable("it is none of `cpu`, `cuda`, `cuda:N`, `auto`".into())),
        },
    };
    let loaded = cuda_library();
    let count = if loaded.is_ok() && tch::Cuda::is_available() { tch::Cuda::device_count() as usize } else { 0 };
    if index < count {
        return Ok(Device::Cuda(index));
    }
    match (name, loaded) {
        ("auto", _) => Ok(Device::Cpu),
        (_, Err(why)) => Err(unavailable(why.clone())),
        (_, Ok(())) => Err(unavailable(format!("{count} CUDA devices are seen; look at the driver with `nvidia-smi`"))),
    }
}

/// Loads `libtorch_cuda.so` from beside LibTorch's CPU library, once.
fn cuda_library() -> &'static Result<(), String> {
    static LOADED: OnceLock<Result<(), String>> = OnceLock::new();
    LOADED.get_or_init(|| {
        let folder = libtorch_folder().ok_or("the folder of LibTorch is not known")?;
        let path = folder.join("libtorch_cuda.so");
        if !path.exists() {
            return Err(format!(
                "this LibTorch has no CUDA (no `libtorch_cuda.so` in `{}`); set LIBTORCH to one that has",
                folder.display()
            ));
        }
        load_global(&path)
    })
}

#[cfg(unix)]
#[allow(unsafe_code)]
fn load_global(path: &std::path::Path) -> Result<(), String> {
    use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_NOW};
    // SAFETY: the library is the other half of the LibTorch that is already running; its initialisers only register
    // kernels. It is never unloaded.
    let library = unsafe { Library::open(Some(path), RTLD_NOW | RTLD_GLOBAL) };
    library.map(std::mem::forget).map_err(|error| format!("`{}` does not load: {error}", path.display()))
}

#[cfg(not(unix))]
fn load_global(_: &std::path::Path) -> Result<(), String> {
    Err("CUDA is found at run time on Linux only".into())
}

/// The folder that the running LibTorch was loaded from.
#[must_use]
#[allow(unsafe_code)]
pub fn libtorch_folder() -> Option<PathBuf> {
    unsafe extern "C" {
        fn aoti_torch_delete_tensor_object(tensor: *mut c_void) -> i32;
    }
    let symbol = aoti_torch_delete_tensor_object as *const c_void;
    let mut info = libc::Dl_info {
        dli_fname: std::ptr::null(),
        dli_fbase: std::ptr::null_mut(),
        dli_sname: std::ptr::null(),
        dli_saddr: std::ptr::null_mut(),
    };
    // SAFETY: `info` is a valid out-parameter, and the symbol belongs to a loaded library.
    let found = unsafe { libc::dladdr(symbol, &raw mut info) };
    if found == 0 || info.dli_fname.is_null() {
        return None;
    }
    // SAFETY: `dladdr` succeeded, so the name is a NUL-terminated text of the loader's.
    let file = unsafe { CStr::from_ptr(info.dli_fname) }.to_str().ok()?;
    std::fs::canonicalize(file).ok()?.parent().map(PathBuf::from)
}

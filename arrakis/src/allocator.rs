//! How the C library's allocator treats LibTorch's big blocks.
//!
//! LibTorch takes a fresh block for every result. By default glibc gives big blocks back to the kernel and faults them
//! in again for every operation, which costs up to a third of a long pass; kept blocks cost memory between passes.
//! `ARRAKIS_MALLOC=default` leaves the allocator as it is.

#![allow(unsafe_code)]

/// Tells glibc to keep big blocks; to be called before the first of them, as the command does.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
pub fn keep_big_blocks() {
    if std::env::var_os("ARRAKIS_MALLOC").is_some_and(|choice| choice == "default") {
        return;
    }
    let settings = [(libc::M_MMAP_THRESHOLD, 1 << 30), (libc::M_TRIM_THRESHOLD, i32::MAX), (libc::M_TOP_PAD, 64 << 20)];
    for (setting, value) in settings {
        // SAFETY: `mallopt` takes two numbers and refuses those it does not know; no other thread runs yet.
        unsafe { libc::mallopt(setting, value) };
    }
}

/// Other allocators are left as they are.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub fn keep_big_blocks() {}

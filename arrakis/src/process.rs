//! The process itself: how its allocator treats LibTorch's big blocks, what Ctrl-C does, and how it ends.
//!
//! LibTorch takes a fresh block for every result. By default glibc gives big blocks back to the kernel and faults them
//! in again for every operation, which costs up to a third of a long pass; kept blocks cost memory between passes.
//! `ARRAKIS_MALLOC=default` leaves the allocator as it is.

#![allow(unsafe_code)]

use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};

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

/// Whether the keyboard has asked for an end since [`catch_interrupt`].
static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// Lets the first Ctrl-C be asked about by [`interrupted`]; the second ends the process as ever.
pub fn catch_interrupt() {
    extern "C" fn note(signal: libc::c_int) {
        INTERRUPTED.store(true, Ordering::Relaxed);
        // SAFETY: gives the signal its usual meaning back; allowed within a handler.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
    // SAFETY: the handler stores a flag and calls `signal`, both of which a handler may do.
    unsafe { libc::signal(libc::SIGINT, note as *const () as libc::sighandler_t) };
}

/// Whether Ctrl-C was pressed since [`catch_interrupt`].
pub fn interrupted() -> bool {
    INTERRUPTED.load(Ordering::Relaxed)
}

/// Ends the process at once, with everything written out.
///
/// LibTorch takes its registries apart at a usual exit, which costs more than many a command's own work (0.1 s and more)
/// and serves nobody: the kernel takes the memory back.
pub fn leave(status: u8) -> ! {
    let _ = std::io::stdout().flush();
    let _ = std::io::stderr().flush();
    // SAFETY: ends the process without running destructors; what the command writes is written and closed by now.
    unsafe { libc::_exit(i32::from(status)) }
}

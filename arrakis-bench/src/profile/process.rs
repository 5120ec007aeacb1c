//! What the process has taken so far: time on the clock and on processors, and memory.

use std::fs::File;
use std::time::{Duration, Instant};

use super::Spent;

/// A moment.
#[derive(Debug, Clone, Copy)]
pub(super) struct Clock {
    wall: Instant,
    cpu: Duration,
}

impl Clock {
    pub(super) fn now() -> Self {
        Self { wall: Instant::now(), cpu: processor_time() }
    }

    /// What was spent from this moment to `later`.
    pub(super) fn until(self, later: Self) -> Spent {
        let (wall, cpu) = (later.wall.saturating_duration_since(self.wall), later.cpu.saturating_sub(self.cpu));
        Spent { wall, cpu, ..Spent::default() }
    }

    /// What was spent since this moment.
    pub(super) fn spent(self) -> Spent {
        self.until(Self::now())
    }
}

#[cfg(unix)]
fn processor_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec.unsigned_abs() as u32)
}

/// Not known elsewhere.
#[cfg(not(unix))]
fn processor_time() -> Duration {
    Duration::ZERO
}

/// Resident memory, read again and again from one open file.
#[derive(Debug)]
pub(super) struct Memory {
    file: Option<File>,
}

impl Memory {
    pub(super) fn open() -> Self {
        Self { file: File::open("/proc/self/statm").ok() }
    }

    /// Resident bytes, where the system tells.
    #[cfg(unix)]
    pub(super) fn resident(&self) -> Option<u64> {
        use std::os::unix::fs::FileExt;
        let mut text = [0; 128];
        let count = self.file.as_ref()?.read_at(&mut text, 0).ok()?;
        let pages: u64 = std::str::from_utf8(&text[..count]).ok()?.split(' ').nth(1)?.parse().ok()?;
        Some(pages * rustix::param::page_size() as u64)
    }

    #[cfg(not(unix))]
    pub(super) fn resident(&self) -> Option<u64> {
        None
    }
}

/// Resident bytes now.
pub(super) fn resident() -> Option<u64> {
    Memory::open().resident()
}

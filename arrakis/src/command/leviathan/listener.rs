//! The console as the host of a training, which Ctrl-C stops after its step.

use arrakis_core::Host;

use crate::process;

/// Shows what a host shows, and asks whether Ctrl-C was pressed.
pub(super) struct Listener<'a>(pub(super) &'a dyn Host);

impl Host for Listener<'_> {
    fn progress(&self, done: u64, total: u64) {
        self.0.progress(done, total);
    }

    fn log(&self, line: &str) {
        self.0.log(line);
    }

    fn cancelled(&self) -> bool {
        process::interrupted()
    }
}

//! Who draws: plugged in by whoever knows a plotting crate, so that tools and the bench know none.

use std::path::{Path, PathBuf};

use crate::{Answer, Result};

/// Draws the parts of an answer.
pub trait Draw {
    /// Draws every part that has a picture into `folder`, one file each, and gives the files.
    fn draw(&self, answer: &Answer, folder: &Path) -> Result<Vec<PathBuf>>;
}

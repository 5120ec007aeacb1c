//! What can be wrong in a log.

use std::fmt;
use std::path::PathBuf;

/// What `fsck` found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Fsck {
    /// Runs that were looked at.
    pub runs: usize,
    /// Files of runs that were looked at.
    pub files: usize,
    /// Everything that is wrong.
    pub damage: Vec<Damage>,
}

/// Something wrong in a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// The file or folder.
    pub path: PathBuf,
    /// What kind of damage.
    pub kind: DamageKind,
    /// What is wrong, in words.
    pub why: String,
}

/// What kind of damage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum DamageKind {
    /// A file that is not as it was written.
    Changed,
    /// A file that is named and not there.
    Missing,
    /// A file that nobody names, or that was left behind half-written.
    Stray,
    /// A content of the store that no run has.
    Unneeded,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path.display(), self.why)
    }
}

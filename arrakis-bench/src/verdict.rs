//! Whether a run that was done again gave what it gave before.

use std::fmt;

use serde::Serialize;

use crate::study::CELLS;
use crate::writing::{METRICS, RESULT};
use crate::{Diff, Difference, Log, Record, Result, Work};

/// How a run that was done again compares with what it was.
#[derive(Debug, Clone, Serialize)]
pub struct Verdict {
    /// How far numbers may be apart; with 0 they are equal to the bit.
    pub tolerance: f64,
    /// What the two runs differ in.
    pub diff: Diff,
    /// The files and tensors whose bits differ, where they have to be equal: also in the sign of a zero.
    pub bits: Vec<String>,
}

impl Log {
    /// Compares the results, tensors and metrics of two runs, the second being the first done again.
    ///
    /// With a tolerance of 0 they are to be equal to the bit.
    pub fn verify(&self, before: &str, again: &str, tolerance: f64) -> Result<Verdict> {
        let diff = self.diff(before, again, tolerance)?;
        let mut bits = Vec::new();
        if tolerance == 0.0 {
            let (before, again) = (self.get(before)?, self.get(again)?);
            bits = other_bits(&before, &again);
            let picture = |name: &&String| before.pictures.contains(name) || again.pictures.contains(name);
            // A study's own file names the runs of its cells, which are new.
            let own = |name: &&String| before.what == Work::Study && *name == CELLS;
            bits.extend(diff.files.iter().filter(|name| !picture(name) && !own(name)).cloned());
            bits.extend(diff.calls.iter().cloned());
        }
        Ok(Verdict { tolerance, diff, bits })
    }
}

/// The results of two runs that do not have the same bits.
fn other_bits(before: &Record, again: &Record) -> Vec<String> {
    let of_file = |name: &&str| {
        let digest = |record: &Record| record.files.get(*name).map(|file| file.digest.clone());
        digest(before) != digest(again)
    };
    let of_tensor = |name: &&String| {
        let digest = |record: &Record| record.tensors.get(*name).map(|tensor| tensor.digest.clone());
        digest(before) != digest(again)
    };
    let files = [RESULT, METRICS].into_iter().filter(of_file).map(str::to_owned);
    let added = again.tensors.keys().filter(|name| !before.tensors.contains_key(*name));
    let tensors = before.tensors.keys().chain(added).filter(of_tensor).map(|name| format!("tensor `{name}`"));
    files.chain(tensors).collect()
}

impl Verdict {
    /// Whether the run gave what it gave before.
    #[must_use]
    pub fn agrees(&self) -> bool {
        self.diff.same_numbers() && self.bits.is_empty()
    }

    fn differences(&self) -> impl Iterator<Item = &Difference> {
        self.diff.results.iter().chain(&self.diff.metrics)
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Diff { a, b, notes, .. } = &self.diff;
        if self.agrees() {
            let numbers: usize = self.differences().map(|difference| difference.numbers).sum();
            write!(f, "runs {a} and {b} are equal")?;
            return match self.tolerance {
                tolerance if tolerance > 0.0 => write!(f, " within {tolerance:e}: {numbers} numbers"),
                _ => write!(f, " to the bit: {numbers} numbers"),
            };
        }
        write!(f, "runs {a} and {b} differ")?;
        for difference in self.differences().filter(|difference| !difference.is_none()) {
            write!(f, "\n  {difference}")?;
        }
        notes.iter().try_for_each(|note| write!(f, "\n  {note}"))?;
        self.bits.iter().try_for_each(|name| write!(f, "\n  the bits of {name}"))
    }
}

//! An estimate with an interval around it.

use arrakis_core::{Answer, Ranking};
use serde::{Deserialize, Serialize};

use super::comparison::short;
use super::invalid;
use crate::Result;

/// How an interval was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IntervalKind {
    /// Student's t around a mean or a difference of means.
    T,
    /// Quantiles of the bootstrap's replicates.
    Percentile,
    /// Quantiles of the replicates, corrected for bias and acceleration (Efron, 1987).
    Bca,
    /// Every share that an exact binomial test does not reject (Clopper and Pearson, 1934).
    ClopperPearson,
}

/// A two-sided confidence interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// How it was made.
    pub kind: IntervalKind,
    /// The estimate.
    pub estimate: f64,
    /// The lower end.
    pub lower: f64,
    /// The upper end.
    pub upper: f64,
    /// The share of such intervals that hold the truth.
    pub confidence: f64,
}

impl IntervalKind {
    const fn name(self) -> &'static str {
        match self {
            Self::T => "t",
            Self::Percentile => "percentile bootstrap",
            Self::Bca => "BCa bootstrap",
            Self::ClopperPearson => "Clopper-Pearson",
        }
    }
}

impl Interval {
    /// The interval in words: `0.31, 95 % BCa bootstrap interval 0.11 to 0.51`.
    #[must_use]
    pub fn verdict(&self) -> String {
        format!("{}, {}", short(self.estimate), self.words())
    }

    pub(super) fn words(&self) -> String {
        let percent = short(100.0 * self.confidence);
        format!("{percent} % {} interval {} to {}", self.kind.name(), short(self.lower), short(self.upper))
    }
}

impl From<Interval> for Answer {
    fn from(interval: Interval) -> Self {
        let ends = [("lower", interval.lower), ("estimate", interval.estimate), ("upper", interval.upper)];
        Self::new().with("verdict", interval.verdict()).with("interval", Ranking::new("Interval", "estimate", ends))
    }
}

/// An error unless `share` lies between 0 and 1.
pub(super) fn check_share(what: &str, share: f64) -> Result<()> {
    if share > 0.0 && share < 1.0 {
        return Ok(());
    }
    Err(invalid(what, format!("{share} does not lie between 0 and 1; 0.05 and 0.95 are usual levels and confidences")))
}

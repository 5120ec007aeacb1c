//! Hypothesis tests: is what was measured under a treatment other than what was measured without it?
//!
//! Every test takes the control first and the treatment second; a positive difference, statistic or effect says that the
//! treatment is the greater. Random choices come from named streams of the seed, so a test can be repeated to the bit.

mod bootstrap;
mod clopper_pearson;
mod comparison;
mod correction;
mod distribution;
mod effect;
mod interval;
mod mann_whitney;
mod permutation;
mod samples;
mod t_test;

use serde::{Deserialize, Serialize};

use crate::Result;

pub use bootstrap::Bootstrap;
pub use clopper_pearson::clopper_pearson;
pub use comparison::{Comparison, Test};
pub use correction::{Corrected, Correction};
pub use effect::{Effect, EffectKind, cohens_d, cohens_d_paired, hedges_g, rank_biserial};
pub use interval::{Interval, IntervalKind};
pub use permutation::Arrangements;
pub use samples::{Samples, Summary};

/// What a test takes for an alternative to "there is no difference".
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Alternative {
    /// The treatment is greater or less.
    #[default]
    TwoSided,
    /// The treatment is greater.
    Greater,
    /// The treatment is less.
    Less,
}

/// How hypotheses are tested: the alternative, the level, and where random choices come from.
///
/// ```
/// use arrakis_bench::hypothesis::{Hypothesis, Samples};
/// # fn main() -> arrakis_bench::Result<()> {
/// let control = Samples::from_fn(8, |run| Ok(run as f64 * 0.1))?;
/// let treatment = Samples::from_fn(8, |run| Ok(1.0 + run as f64 * 0.1))?;
/// let found = Hypothesis::default().welch(&control, &treatment)?;
/// assert!(found.p < 1e-5);
/// println!("{}", found.verdict());
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Hypothesis {
    /// What is tested against "there is no difference".
    pub alternative: Alternative,
    /// The share of true null hypotheses that may be rejected; intervals are two-sided and cover `1 - level`.
    pub level: f64,
    /// Resamples of a bootstrap, and the greatest number of arrangements that a permutation test counts out.
    pub resamples: usize,
    /// The root of the random streams; [`Bench::hypothesis`](crate::Bench::hypothesis) has one that follows from a run's.
    pub seed: u64,
}

impl Default for Hypothesis {
    /// Two-sided, at level 0.05, with 9,999 resamples and seed 0.
    fn default() -> Self {
        Self { alternative: Alternative::TwoSided, level: 0.05, resamples: 9_999, seed: 0 }
    }
}

impl Hypothesis {
    /// The confidence of the intervals.
    #[must_use]
    pub fn confidence(&self) -> f64 {
        1.0 - self.level
    }

    fn check(&self) -> Result<()> {
        interval::check_share("level", self.level)?;
        if self.resamples == 0 {
            return Err(invalid("resamples", "0 resamples tell nothing; give 1,000 or more"));
        }
        Ok(())
    }

    /// The p-value of the chosen alternative from the tails below and above what was observed.
    fn p(&self, below: f64, above: f64) -> f64 {
        match self.alternative {
            Alternative::TwoSided => (2.0 * below.min(above)).min(1.0),
            Alternative::Greater => above,
            Alternative::Less => below,
        }
    }

    /// The least p-value where the rarest of all outcomes has that probability.
    fn least_p(&self, rarest: f64) -> f64 {
        if self.alternative == Alternative::TwoSided { (2.0 * rarest).min(1.0) } else { rarest }
    }
}

fn invalid(what: impl Into<String>, why: impl Into<String>) -> crate::Error {
    arrakis_core::Error::Invalid { what: what.into(), why: why.into() }.into()
}

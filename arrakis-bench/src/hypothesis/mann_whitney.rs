//! The rank-sum test of Mann and Whitney (1947): exact for few samples without ties, by the normal distribution otherwise.

use super::comparison::{Comparison, Found, Test};
use super::distribution::normal_upper;
use super::samples::Samples;
use super::{Hypothesis, rank_biserial};
use crate::{Error, Result};

/// Up to this many samples on one side the distribution is counted out, as `scipy.stats.mannwhitneyu` does.
const FEW: usize = 8;
/// Pairs of samples up to which the counts fit into 128 bits and are quickly made.
const PAIRS: usize = 1_000_000;

impl Hypothesis {
    /// Mann-Whitney U: is a sample of the treatment as often greater than one of the control as it is less?
    ///
    /// Reads ranks alone, so that outliers and the shape of the distribution do not matter. The p-value is exact where
    /// one side has at most eight samples and no two samples are equal; otherwise it is that of the normal distribution
    /// with corrections for ties and continuity. The statistic is the treatment's U: pairs in which it is greater, half
    /// those that tie.
    pub fn mann_whitney(&self, control: &Samples, treatment: &Samples) -> Result<Comparison> {
        self.check()?;
        let ranks = Ranks::of(control, treatment);
        let (a, b) = (control.len(), treatment.len());
        let exact = a.min(b) <= FEW && ranks.ties == 0.0 && a * b <= PAIRS;
        let (u, pairs) = (ranks.u, (a * b) as f64);
        let (below, above) = if exact {
            (counted_tail(a, b, pairs - u), counted_tail(a, b, u))
        } else {
            let count = (a + b) as f64;
            let variance = pairs / 12.0 * (count + 1.0 - ranks.ties / (count * (count - 1.0)));
            if variance <= 0.0 {
                return Err(Error::NoVariance { what: "the set of all samples".into() });
            }
            let tail = |u: f64| normal_upper((u - pairs / 2.0 - 0.5) / variance.sqrt());
            (tail(pairs - u), tail(u))
        };
        let found = Found {
            test: Test::MannWhitney { exact },
            statistic: u,
            p: self.p(below, above),
            least_p: exact.then(|| self.least_p(1.0 / arrangements(a, b))),
            interval: None,
            effect: rank_biserial(control, treatment)?,
        };
        Ok(self.compared(found, control, treatment))
    }
}

/// How two sets of samples lie among each other.
pub(super) struct Ranks {
    /// Pairs in which the treatment is the greater, half those that tie.
    pub(super) u: f64,
    /// The sum of `t³ - t` over all groups of `t` equal samples.
    pub(super) ties: f64,
}

impl Ranks {
    pub(super) fn of(control: &Samples, treatment: &Samples) -> Self {
        let of = |samples: &Samples, treated: bool| -> Vec<(f64, bool)> {
            samples.values().iter().map(|value| (*value, treated)).collect()
        };
        let mut all = [of(control, false), of(treatment, true)].concat();
        all.sort_by(|a, b| a.0.total_cmp(&b.0));
        let (mut rank_sum, mut ties, mut before) = (0.0, 0.0, 0.0);
        // -0 and 0 are one number, which `total_cmp` puts side by side.
        for equal in all.chunk_by(|a, b| a.0 - b.0 == 0.0) {
            let count = equal.len() as f64;
            let treated = equal.iter().filter(|(_, treated)| *treated).count() as f64;
            rank_sum += treated * (before + f64::midpoint(count, 1.0));
            ties += count.powi(3) - count;
            before += count;
        }
        let count = treatment.len() as f64;
        Self { u: rank_sum - count * (count + 1.0) / 2.0, ties }
    }
}

/// The probability that U is at least `u` where all orders of `a + b` samples are alike.
fn counted_tail(a: usize, b: usize, u: f64) -> f64 {
    let counts = counts(a, b);
    let all: f64 = counts.iter().map(|count| *count as f64).sum();
    // Added from the rarest on.
    counts.iter().skip(u as usize).rev().map(|count| *count as f64).sum::<f64>() / all
}

/// In how many orders of `a + b` samples U is 0, 1, .. `a * b`: the coefficients of the Gaussian binomial.
fn counts(a: usize, b: usize) -> Vec<u128> {
    let (few, many) = (a.min(b), a.max(b));
    let mut counts = vec![0_u128; a * b + 1];
    counts[0] = 1;
    for factor in 1..=few {
        // Times `1 - x^(many + factor)`, divided by `1 - x^factor`. What wraps around on the way wraps back.
        for place in (many + factor..counts.len()).rev() {
            counts[place] = counts[place].wrapping_sub(counts[place - many - factor]);
        }
        for place in factor..counts.len() {
            counts[place] = counts[place].wrapping_add(counts[place - factor]);
        }
    }
    counts
}

/// In how many ways `a` of `a + b` samples can be chosen.
pub(super) fn arrangements(a: usize, b: usize) -> f64 {
    (1..=a.min(b)).fold(1.0, |ways, place| ways * (a.max(b) + place) as f64 / place as f64)
}

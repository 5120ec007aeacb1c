//! The interval of a share: so many of so many.

use super::distribution::beta_quantile;
use super::interval::{Interval, IntervalKind, check_share};
use super::invalid;
use crate::Result;

/// The interval of a share of `trials` that are `successes` (Clopper and Pearson, 1934): it covers `confidence` at least.
pub fn clopper_pearson(successes: u64, trials: u64, confidence: f64) -> Result<Interval> {
    check_share("confidence", confidence)?;
    if trials == 0 || successes > trials {
        let why = format!("{successes} of {trials}; give a positive number of trials and no more successes than that");
        return Err(invalid("share", why));
    }
    let (hits, misses) = (successes as f64, (trials - successes) as f64);
    let tail = (1.0 - confidence) / 2.0;
    let lower = if successes == 0 { 0.0 } else { beta_quantile(tail, hits, misses + 1.0) };
    // The upper end is one less the lower end of the misses.
    let upper = if successes == trials { 1.0 } else { 1.0 - beta_quantile(tail, misses, hits + 1.0) };
    Ok(Interval { kind: IntervalKind::ClopperPearson, estimate: hits / trials as f64, lower, upper, confidence })
}

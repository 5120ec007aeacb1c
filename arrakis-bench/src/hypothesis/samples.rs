//! Samples: the numbers that a test compares, checked once where they enter.

use serde::{Deserialize, Serialize};

use super::distribution::t_quantile;
use crate::{Error, Result};

/// Variances are made of squares, which have to be numbers.
const GREATEST: f64 = 1e150;

/// Finite numbers, at least one of them.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Samples {
    values: Vec<f64>,
}

/// What samples are in a few numbers.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// How many there are.
    pub count: usize,
    /// Their mean.
    pub mean: f64,
    /// Their standard deviation, with `count - 1` in the denominator; absent for a single sample.
    pub deviation: Option<f64>,
}

impl Samples {
    /// The given numbers; an error names the first that is not finite, or whose square is not.
    pub fn new(values: impl Into<Vec<f64>>) -> Result<Self> {
        let values = values.into();
        if values.is_empty() {
            return Err(Error::TooFewSamples { what: "what is to be tested".into(), found: 0, needed: 1 });
        }
        match values.iter().position(|value| value.abs() >= GREATEST || value.is_nan()) {
            Some(place) => Err(Error::SampleNotFinite { place, value: values[place] }),
            None => Ok(Self { values }),
        }
    }

    /// What `count` runs give; `run` is told its number, to be used as a seed, say.
    pub fn from_fn(count: usize, run: impl FnMut(usize) -> Result<f64>) -> Result<Self> {
        Self::new((0..count).map(run).collect::<Result<Vec<f64>>>()?)
    }

    /// The numbers, in the order in which they came.
    #[must_use]
    pub fn values(&self) -> &[f64] {
        &self.values
    }

    /// How many there are; never 0.
    #[must_use]
    #[allow(clippy::len_without_is_empty)]
    pub fn len(&self) -> usize {
        self.values.len()
    }

    /// Count, mean and standard deviation.
    #[must_use]
    pub fn summary(&self) -> Summary {
        let deviation = (self.len() > 1).then(|| self.variance().sqrt());
        Summary { count: self.len(), mean: self.mean(), deviation }
    }

    pub(super) fn mean(&self) -> f64 {
        mean(&self.values)
    }

    /// The variance with `len - 1` in the denominator; exactly 0 where all numbers are one and the same.
    pub(super) fn variance(&self) -> f64 {
        if constant(&self.values) {
            return 0.0;
        }
        let mean = self.mean();
        self.values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / (self.len() as f64 - 1.0)
    }

    /// An error if the numbers differ by no more than the rounding of numbers as great as `scale`.
    pub(super) fn vary(&self, scale: f64, what: &str) -> Result<()> {
        let widen = |(least, most): (f64, f64), value: &f64| (least.min(*value), most.max(*value));
        let (least, most) = self.values.iter().fold((f64::INFINITY, f64::NEG_INFINITY), widen);
        let rounding = (10.0 * f64::EPSILON * scale).max(GREATEST.recip());
        if most - least <= rounding { Err(Error::NoVariance { what: what.into() }) } else { Ok(()) }
    }

    /// The greatest absolute number.
    pub(super) fn scale(&self) -> f64 {
        greatest(&self.values)
    }

    pub(super) fn at_least(&self, needed: usize, what: &str) -> Result<()> {
        if self.len() < needed {
            return Err(Error::TooFewSamples { what: what.into(), found: self.len(), needed });
        }
        Ok(())
    }
}

impl Summary {
    /// Half the width of the t interval of the mean; absent for a single sample.
    pub(super) fn half_width(&self, level: f64) -> Option<f64> {
        // Without a deviation there are no degrees of freedom either.
        let (deviation, count) = (self.deviation?, self.count as f64);
        Some(t_quantile(level / 2.0, count - 1.0) * deviation / count.sqrt())
    }
}

/// The mean; 0 of nothing.
pub(super) fn mean(values: &[f64]) -> f64 {
    // From the first on, so that great numbers that differ little keep their digits.
    let Some(first) = values.first() else { return 0.0 };
    first + values.iter().map(|value| value - first).sum::<f64>() / values.len() as f64
}

pub(super) fn constant(values: &[f64]) -> bool {
    values.windows(2).all(|pair| pair[0] - pair[1] == 0.0)
}

/// The greatest absolute number; 0 of nothing.
pub(super) fn greatest(values: &[f64]) -> f64 {
    values.iter().fold(0.0, |most, value| most.max(value.abs()))
}

/// The differences `treatment - control` of samples that belong together, at least two that are not all the same.
pub(super) fn differences(control: &Samples, treatment: &Samples) -> Result<Samples> {
    if control.len() != treatment.len() {
        let why = format!(
            "{} of the control and {} of the treatment; each needs its partner, or take a test for independent samples",
            control.len(),
            treatment.len()
        );
        return Err(super::invalid("paired samples", why));
    }
    control.at_least(2, "a set of pairs")?;
    let pairs = control.values().iter().zip(treatment.values());
    let apart = Samples::new(pairs.map(|(control, treatment)| treatment - control).collect::<Vec<f64>>())?;
    apart.vary(control.scale().max(treatment.scale()), "the set of differences")?;
    Ok(apart)
}

/// Two samples at least of each kind, and a difference among those of one kind.
pub(super) fn independent(control: &Samples, treatment: &Samples) -> Result<()> {
    control.at_least(2, "the control")?;
    treatment.at_least(2, "the treatment")?;
    let scale = control.scale().max(treatment.scale());
    control.vary(scale, "").or_else(|_| treatment.vary(scale, "each of the two sets of samples"))
}

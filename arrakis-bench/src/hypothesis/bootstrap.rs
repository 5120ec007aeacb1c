//! The bootstrap: how a statistic of the samples varies, seen by drawing the samples again from themselves.

use arrakis_core::Stream;
use serde::{Deserialize, Serialize};

use super::distribution::{normal_quantile, normal_upper};
use super::interval::{Interval, IntervalKind, check_share};
use super::samples::{Samples, constant, mean};
use super::{Hypothesis, invalid};
use crate::{Error, Result};

/// A statistic of samples that were drawn again and again with replacement.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Bootstrap {
    /// The statistic of the samples as they are.
    pub estimate: f64,
    /// The statistic of each resample, from the least to the greatest.
    pub replicates: Vec<f64>,
    /// The statistic without each sample in turn, one list for each set of samples.
    pub jackknife: Vec<Vec<f64>>,
}

impl Hypothesis {
    /// The bootstrap of a statistic of one set of samples.
    pub fn bootstrap(&self, samples: &Samples, statistic: impl Fn(&[f64]) -> f64) -> Result<Bootstrap> {
        self.check()?;
        let drawn = self.drawn([samples]).map(|[places]| places);
        Bootstrap::on(samples, drawn, statistic)
    }

    /// The bootstrap of a statistic of two independent sets of samples: of `|control, treatment| ..`.
    pub fn bootstrap_of_two(
        &self,
        control: &Samples,
        treatment: &Samples,
        statistic: impl Fn(&[f64], &[f64]) -> f64,
    ) -> Result<Bootstrap> {
        self.check()?;
        Bootstrap::on_two(control, treatment, self.drawn([control, treatment]), statistic)
    }

    /// Places drawn with replacement, one list for each set of samples.
    fn drawn<const N: usize>(&self, samples: [&Samples; N]) -> impl Iterator<Item = [Vec<usize>; N]> {
        let mut stream = Stream::new(self.seed, "bootstrap");
        let counts = samples.map(Samples::len);
        let mut places = move |count: usize| (0..count).map(|_| stream.below(count as u64) as usize).collect();
        (0..self.resamples).map(move |_| counts.map(&mut places))
    }
}

impl Bootstrap {
    /// The bootstrap on given resamples: lists of places in the samples.
    pub fn on(
        samples: &Samples,
        resamples: impl IntoIterator<Item = Vec<usize>>,
        statistic: impl Fn(&[f64]) -> f64,
    ) -> Result<Self> {
        made([samples], resamples.into_iter().map(|places| [places]), &|[samples]| statistic(samples))
    }

    /// The bootstrap of two independent sets of samples on given resamples: pairs of lists of places.
    pub fn on_two(
        control: &Samples,
        treatment: &Samples,
        resamples: impl IntoIterator<Item = [Vec<usize>; 2]>,
        statistic: impl Fn(&[f64], &[f64]) -> f64,
    ) -> Result<Self> {
        let statistic = |[control, treatment]: [&[f64]; 2]| statistic(control, treatment);
        made([control, treatment], resamples.into_iter(), &statistic)
    }

    /// The interval between quantiles of the replicates: simple, and too narrow for few samples or skewed statistics.
    pub fn percentile(&self, confidence: f64) -> Result<Interval> {
        check_share("confidence", confidence)?;
        let tail = (1.0 - confidence) / 2.0;
        Ok(self.between(IntervalKind::Percentile, confidence, tail, 1.0 - tail))
    }

    /// The same corrected for bias and acceleration (Efron, 1987; Efron and Tibshirani, 1993, chapter 14).
    pub fn bca(&self, confidence: f64) -> Result<Interval> {
        check_share("confidence", confidence)?;
        let cure = "take the percentile interval, or a statistic that follows every sample";
        let count = |holds: &dyn Fn(f64) -> bool| self.replicates.iter().filter(|value| holds(**value)).count() as f64;
        let (below, until) = (count(&|value| value < self.estimate), count(&|value| value <= self.estimate));
        let share = (below + until) / (2.0 * self.replicates.len() as f64);
        if share <= 0.0 || share >= 1.0 {
            let why = format!("all replicates lie on one side of the estimate {}; {cure}", self.estimate);
            return Err(invalid("BCa interval", why));
        }
        let acceleration = self.acceleration();
        if !acceleration.is_finite() {
            return Err(invalid("BCa interval", format!("leaving out any one sample changes nothing; {cure}")));
        }
        let bias = -normal_quantile(share);
        let tail = normal_quantile((1.0 - confidence) / 2.0);
        let moved = |z: f64| {
            let shifted = bias + z;
            // Past the pole of a strong acceleration the correction would turn around.
            let scale = 1.0 - acceleration * shifted;
            (scale > 0.0).then(|| normal_upper(-(bias + shifted / scale)))
        };
        match (moved(-tail), moved(tail)) {
            (Some(lower), Some(upper)) => Ok(self.between(IntervalKind::Bca, confidence, lower, upper)),
            _ => Err(invalid("BCa interval", format!("an acceleration of {acceleration} is too strong; {cure}"))),
        }
    }

    fn between(&self, kind: IntervalKind, confidence: f64, lower: f64, upper: f64) -> Interval {
        let (lower, upper) = (quantile(&self.replicates, lower), quantile(&self.replicates, upper));
        Interval { kind, estimate: self.estimate, lower, upper, confidence }
    }

    /// A sixth of the skewness of the jackknife; not a number where that never varies.
    fn acceleration(&self) -> f64 {
        let power = |power: i32| {
            let of = |without: &Vec<f64>| {
                let (count, middle) = (without.len() as f64, mean(without));
                without.iter().map(|value| ((count - 1.0) * (middle - value) / count).powi(power)).sum::<f64>()
            };
            self.jackknife.iter().map(of).sum::<f64>()
        };
        power(3) / power(2).powf(1.5) / 6.0
    }
}

fn made<const N: usize>(
    samples: [&Samples; N],
    resamples: impl Iterator<Item = [Vec<usize>; N]>,
    statistic: &dyn Fn([&[f64]; N]) -> f64,
) -> Result<Bootstrap> {
    for samples in samples {
        samples.at_least(2, "a bootstrap")?;
    }
    let checked = |value: f64| {
        if value.is_finite() {
            return Ok(value);
        }
        Err(invalid(
            "statistic of the bootstrap",
            format!("a resample gives {value}; choose one that is always a number"),
        ))
    };
    let whole = samples.map(Samples::values);
    let estimate = checked(statistic(whole))?;
    let mut replicates = Vec::new();
    let mut drawn: [Vec<f64>; N] = samples.map(|samples| Vec::with_capacity(samples.len()));
    for places in resamples {
        for ((drawn, places), samples) in drawn.iter_mut().zip(&places).zip(whole) {
            drawn.clear();
            for place in places {
                let value = samples.get(*place).ok_or_else(|| arrakis_core::Error::OutOfRange {
                    what: "place of a resample".into(),
                    index: *place as i64,
                    len: samples.len() as i64,
                })?;
                drawn.push(*value);
            }
        }
        replicates.push(checked(statistic(drawn.each_ref().map(Vec::as_slice)))?);
    }
    if replicates.is_empty() {
        return Err(invalid("bootstrap", "there is no resample; give 1,000 or more"));
    }
    if constant(&replicates) {
        return Err(Error::NoVariance { what: "the statistic of all resamples".into() });
    }
    replicates.sort_by(f64::total_cmp);
    let mut jackknife = Vec::with_capacity(N);
    for (set, samples) in whole.iter().enumerate() {
        let without = |place: usize| {
            let rest = [&samples[..place], &samples[place + 1..]].concat();
            let mut all = whole;
            all[set] = &rest;
            checked(statistic(all))
        };
        jackknife.push((0..samples.len()).map(without).collect::<Result<Vec<f64>>>()?);
    }
    Ok(Bootstrap { estimate, replicates, jackknife })
}

/// The quantile of sorted numbers, linear between neighbours (Hyndman and Fan's seventh).
fn quantile(sorted: &[f64], share: f64) -> f64 {
    let place = share * (sorted.len() - 1) as f64;
    let (low, high) = (sorted[place.floor() as usize], sorted[place.ceil() as usize]);
    low + (high - low) * place.fract()
}

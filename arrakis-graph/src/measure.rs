//! Where numbers lie along an axis: evenly, by their logarithm, or by it on both sides of 0.

use arrakis_core::Scale;

use crate::colour::Ramp;
use crate::ticks::{Ticks, short, ticks};

/// How numbers are spaced.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Spacing {
    /// Evenly.
    Linear,
    /// By their logarithm; numbers that have none lie at the lower end.
    Log,
    /// By `asinh(x / unit)`: evenly up to `unit`, by their logarithm beyond, on both sides of 0.
    Symmetric(f64),
}

/// A range of numbers along an axis.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Measure {
    low: f64,
    high: f64,
    spacing: Spacing,
}

impl Measure {
    /// The range of the finite numbers with a little room around it, and 0 if it is near.
    pub(crate) fn padded(values: impl IntoIterator<Item = f64>) -> Self {
        let Ramp { low, high, .. } = Ramp::over(values, Scale::Sequential);
        let room = (high / 2.0 - low / 2.0) * 0.08;
        let pad_low = if low >= 0.0 && low < high * 0.3 { 0.0 } else { low - room };
        let pad_high = if high <= 0.0 && high > low * 0.3 { 0.0 } else { high + room };
        Self { low: pad_low.max(f64::MIN), high: pad_high.min(f64::MAX), spacing: Spacing::Linear }
    }

    /// The range of the positive numbers, by their logarithm; evenly spaced if there are none.
    pub(crate) fn log(values: impl IntoIterator<Item = f64> + Clone) -> Self {
        let positive = values.clone().into_iter().filter(|value| *value > 0.0);
        let Ramp { low, high, .. } = Ramp::over(positive, Scale::Sequential);
        if low <= 0.0 {
            return Self::padded(values);
        }
        let room = (high / low).powf(0.06).clamp(1.05, 1e6);
        Self { low: low / room, high: (high * room).min(f64::MAX), spacing: Spacing::Log }
    }

    /// The range of the numbers, the far ones drawn in where a few lie far beyond the rest.
    pub(crate) fn of_tails(values: &[f64]) -> Self {
        let even = Self::padded(values.iter().copied());
        let mut sizes: Vec<f64> = values.iter().map(|value| value.abs()).filter(|size| size.is_finite()).collect();
        sizes.sort_by(f64::total_cmp);
        let quantile = |share: f64| sizes.get((sizes.len() as f64 * share) as usize).copied().unwrap_or(0.0);
        let (usual, most) = (quantile(0.9), sizes.last().copied().unwrap_or(0.0));
        if usual <= 0.0 || most < 12.0 * usual {
            return even;
        }
        Self { spacing: Spacing::Symmetric(usual / 2.0), ..even }
    }

    /// The range of the finite numbers, evenly spaced.
    pub(crate) fn over(values: impl IntoIterator<Item = f64>) -> Self {
        let Ramp { low, high, .. } = Ramp::over(values, Scale::Sequential);
        Self { low, high, spacing: Spacing::Linear }
    }

    /// The lower end.
    pub(crate) const fn low(&self) -> f64 {
        self.low
    }

    /// The upper end.
    pub(crate) const fn high(&self) -> f64 {
        self.high
    }

    pub(crate) const fn spacing(&self) -> Spacing {
        self.spacing
    }

    /// How far a number lies along the axis, from 0 to 1.
    pub(crate) fn share(&self, value: f64) -> f64 {
        let value = value.clamp(self.low, self.high);
        let between = |low: f64, high: f64, value: f64| if high > low { (value - low) / (high - low) } else { 0.5 };
        match self.spacing {
            // Halves, so that the ends of a range as wide as doubles go do not run over.
            Spacing::Linear => between(self.low / 2.0, self.high / 2.0, value / 2.0),
            Spacing::Log => between(self.low.ln(), self.high.ln(), value.ln()),
            Spacing::Symmetric(unit) => {
                let place = |value: f64| (value / unit).asinh();
                between(place(self.low), place(self.high), place(value))
            }
        }
    }

    /// About `count` round numbers of the range.
    pub(crate) fn ticks(&self, count: f64) -> Ticks {
        let values = match self.spacing {
            Spacing::Linear => return ticks(self.low, self.high, count),
            Spacing::Log => self.decades(self.low),
            Spacing::Symmetric(unit) => {
                let mut sizes = self.decades(unit * 2.0);
                let negative: Vec<f64> = sizes.iter().rev().map(|size| -size).collect();
                sizes.insert(0, 0.0);
                negative.into_iter().chain(sizes).collect()
            }
        };
        let values: Vec<f64> = values.into_iter().filter(|value| (self.low..=self.high).contains(value)).collect();
        if values.len() < 2 {
            return ticks(self.low, self.high, count);
        }
        let step = (values.len() as f64 / count.max(1.0)).ceil() as usize;
        // 0 stays, if it is there.
        let first = values.iter().position(|value| *value == 0.0).unwrap_or(0) % step;
        let values: Vec<f64> = values.into_iter().skip(first).step_by(step).collect();
        let texts = values.iter().map(|&value| decimal(value)).collect();
        Ticks { values, texts }
    }

    /// 1, 2 and 5 times the powers of ten from `least` to the greater end, or the powers alone where they are many.
    fn decades(&self, least: f64) -> Vec<f64> {
        let most = self.high.abs().max(self.low.abs());
        let (first, last) = (least.log10().floor() as i32, most.log10().ceil() as i32);
        let factors: &[f64] = if last - first <= 3 { &[1.0, 2.0, 5.0] } else { &[1.0] };
        let all = (first..=last).flat_map(|power| factors.iter().map(move |factor| factor * 10f64.powi(power)));
        all.filter(|value| *value >= least * 0.999 && *value <= most).collect()
    }
}

/// A power of ten, or 2 or 5 times one, as it is written.
fn decimal(value: f64) -> String {
    if value.abs() >= 1e6 || (value != 0.0 && value.abs() < 1e-3) {
        return short(value, value.abs());
    }
    let text = format!("{value:.4}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    text.replace('-', "−")
}

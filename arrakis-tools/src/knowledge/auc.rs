//! The area under the ROC curve of two samples, with its intervals.

use arrakis_core::Stream;

/// Numbers of the texts that should be high, and of those that should be low.
pub(crate) struct TwoSamples {
    pub(crate) high: Vec<f64>,
    pub(crate) low: Vec<f64>,
}

impl TwoSamples {
    /// The share of pairs in which the high one is greater, ties counted by half, through midranks.
    pub(crate) fn auc(&self) -> f64 {
        let mut all: Vec<(f64, bool)> = self.high.iter().map(|value| (*value, true)).collect();
        all.extend(self.low.iter().map(|value| (*value, false)));
        all.sort_by(|a, b| a.0.total_cmp(&b.0));
        let (mut rank_sum, mut start) = (0.0, 0);
        while start < all.len() {
            let end = start + all[start..].iter().take_while(|(value, _)| same(*value, all[start].0)).count();
            // Equal values share the mean of their ranks `start + 1 ..= end`.
            let rank = (start + 1 + end) as f64 / 2.0;
            rank_sum += rank * all[start..end].iter().filter(|(_, high)| *high).count() as f64;
            start = end;
        }
        let (high, low) = (self.high.len() as f64, self.low.len() as f64);
        (rank_sum - high * (high + 1.0) / 2.0) / (high * low)
    }

    /// For each high value the share of low ones below it, and for each low value the share of high ones above it.
    fn placements(&self) -> [Vec<f64>; 2] {
        let beats = |high: f64, low: f64| if same(high, low) { 0.5 } else { f64::from(u8::from(high > low)) };
        let of_high = |high: &f64| self.low.iter().map(|low| beats(*high, *low)).sum::<f64>() / self.low.len() as f64;
        let of_low = |low: &f64| self.high.iter().map(|high| beats(*high, *low)).sum::<f64>() / self.high.len() as f64;
        [self.high.iter().map(of_high).collect(), self.low.iter().map(of_low).collect()]
    }

    /// The area as the mean placement, pair by pair, and its standard error from the spread of placements.
    pub(crate) fn by_placements(&self) -> (f64, f64) {
        let [high, low] = self.placements();
        let auc = mean(&high);
        (auc, (variance(&high) / high.len() as f64 + variance(&low) / low.len() as f64).sqrt())
    }

    /// The area with values drawn anew; pairs stay together if `paired`.
    fn resampled(&self, stream: &mut Stream, paired: bool) -> f64 {
        let draw = |stream: &mut Stream, len: usize| -> Vec<usize> {
            (0..len).map(|_| stream.below(len as u64) as usize).collect()
        };
        let high = draw(stream, self.high.len());
        let low = if paired { high.clone() } else { draw(stream, self.low.len()) };
        Self {
            high: high.into_iter().map(|place| self.high[place]).collect(),
            low: low.into_iter().map(|place| self.low[place]).collect(),
        }
        .auc()
    }

    /// The percentile interval of the bootstrap.
    pub(crate) fn interval(&self, stream: &mut Stream, resamples: usize, confidence: f64, paired: bool) -> (f64, f64) {
        let mut areas: Vec<f64> = (0..resamples).map(|_| self.resampled(stream, paired)).collect();
        areas.sort_by(f64::total_cmp);
        (quantile(&areas, (1.0 - confidence) / 2.0), quantile(&areas, f64::midpoint(1.0, confidence)))
    }
}

#[expect(clippy::float_cmp, reason = "ties are equal values")]
fn same(a: f64, b: f64) -> bool {
    a == b
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

fn variance(values: &[f64]) -> f64 {
    let mean = mean(values);
    values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / (values.len() - 1) as f64
}

/// A quantile of sorted values, between neighbours by proportion.
fn quantile(sorted: &[f64], share: f64) -> f64 {
    let place = share * (sorted.len() - 1) as f64;
    let (below, above) = (place.floor() as usize, place.ceil() as usize);
    sorted[below] + (sorted[above] - sorted[below]) * (place - place.floor())
}

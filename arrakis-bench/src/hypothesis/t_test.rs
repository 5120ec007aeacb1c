//! Student's t: of independent samples without equal variances (Welch, 1947), and of differences.

use super::comparison::{Comparison, Found, Test};
use super::distribution::{t_quantile, t_upper};
use super::interval::{Interval, IntervalKind};
use super::samples::{Samples, differences, independent};
use super::{Hypothesis, cohens_d, cohens_d_paired};
use crate::Result;

impl Hypothesis {
    /// Welch's t: are the means of two independent sets of samples the same, whatever their variances?
    ///
    /// Takes the means to be about normally distributed, which those of many samples are.
    pub fn welch(&self, control: &Samples, treatment: &Samples) -> Result<Comparison> {
        self.check()?;
        independent(control, treatment)?;
        let count = |samples: &Samples| samples.len() as f64;
        let share = |samples: &Samples| samples.variance() / count(samples);
        let (a, b) = (share(control), share(treatment));
        let error = (a + b).sqrt();
        // As parts of their sum, whose squares neither overflow nor vanish.
        let (a, b) = (a / (a + b), b / (a + b));
        let freedom = 1.0 / (a * a / (count(control) - 1.0) + b * b / (count(treatment) - 1.0));
        let (t, p, interval) = self.student(treatment.mean() - control.mean(), error, freedom);
        let found = Found {
            test: Test::Welch { degrees_of_freedom: freedom },
            statistic: t,
            p,
            least_p: None,
            interval: Some(interval),
            effect: cohens_d(control, treatment)?,
        };
        Ok(self.compared(found, control, treatment))
    }

    /// The paired t: is the mean of the differences `treatment - control` 0? Sample by sample they belong together.
    pub fn paired(&self, control: &Samples, treatment: &Samples) -> Result<Comparison> {
        self.check()?;
        let apart = differences(control, treatment)?;
        let freedom = apart.len() as f64 - 1.0;
        let (t, p, interval) = self.student(apart.mean(), (apart.variance() / apart.len() as f64).sqrt(), freedom);
        let found = Found {
            test: Test::Paired { degrees_of_freedom: freedom },
            statistic: t,
            p,
            least_p: None,
            interval: Some(interval),
            effect: cohens_d_paired(control, treatment)?,
        };
        Ok(self.compared(found, control, treatment))
    }

    /// Student's t of an estimate with that standard error, its p-value, and the estimate's interval.
    fn student(&self, estimate: f64, error: f64, freedom: f64) -> (f64, f64, Interval) {
        let t = estimate / error;
        let half = t_quantile(self.level / 2.0, freedom) * error;
        let (kind, confidence) = (IntervalKind::T, self.confidence());
        let interval = Interval { kind, estimate, lower: estimate - half, upper: estimate + half, confidence };
        (t, self.p(t_upper(-t, freedom), t_upper(t, freedom)), interval)
    }
}

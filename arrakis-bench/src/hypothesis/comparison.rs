//! What a test of a treatment against a control found, in numbers and in words.

use std::fmt;

use arrakis_core::{Answer, Axis, Line, Series};
use serde::{Deserialize, Serialize};

use super::samples::Samples;
use super::{Alternative, Arrangements, Effect, Hypothesis, Interval, Summary};

/// A test, with what only it has.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Test {
    /// Welch's t of independent samples.
    Welch {
        /// Of Student's t, by Welch and Satterthwaite.
        degrees_of_freedom: f64,
    },
    /// The t of paired samples.
    Paired {
        /// The number of pairs less one.
        degrees_of_freedom: f64,
    },
    /// Mann and Whitney's U.
    MannWhitney {
        /// Whether all orders were counted; else the distribution is taken to be normal.
        exact: bool,
    },
    /// The permutation test of independent samples.
    Permutation(Arrangements),
    /// The same of another statistic than the difference of means.
    PermutationOf(Arrangements),
    /// The sign-flip test of paired samples.
    SignFlip(Arrangements),
    /// The same of another statistic than the mean of the differences.
    SignFlipOf(Arrangements),
}

/// What a test found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    /// The test.
    pub test: Test,
    /// Its statistic: t, U, or what was permuted.
    pub statistic: f64,
    /// The probability of a statistic so far out, or farther, where there is no difference.
    pub p: f64,
    /// The least p-value that a test with so few samples or arrangements can give, where there is one.
    pub least_p: Option<f64>,
    /// What was tested against "there is no difference".
    pub alternative: Alternative,
    /// The level that p is compared with.
    pub level: f64,
    /// The control.
    pub control: Summary,
    /// The treatment.
    pub treatment: Summary,
    /// The mean of the treatment less that of the control.
    pub difference: f64,
    /// The interval of the difference, in t tests; two-sided whatever the alternative.
    pub interval: Option<Interval>,
    /// How great the difference is.
    pub effect: Effect,
}

/// What only the test itself knows of a [`Comparison`].
#[derive(Clone, Copy)]
pub(super) struct Found {
    pub(super) test: Test,
    pub(super) statistic: f64,
    pub(super) p: f64,
    pub(super) least_p: Option<f64>,
    pub(super) interval: Option<Interval>,
    pub(super) effect: Effect,
}

impl Hypothesis {
    pub(super) fn compared(&self, found: Found, control: &Samples, treatment: &Samples) -> Comparison {
        Comparison {
            test: found.test,
            statistic: found.statistic,
            p: found.p,
            least_p: found.least_p,
            alternative: self.alternative,
            level: self.level,
            control: control.summary(),
            treatment: treatment.summary(),
            difference: treatment.mean() - control.mean(),
            interval: found.interval,
            effect: found.effect,
        }
    }
}

impl Comparison {
    /// Whether "there is no difference" is rejected at the level.
    #[must_use]
    pub fn rejected(&self) -> bool {
        self.p <= self.level
    }

    /// What was found, in words, with the numbers.
    #[must_use]
    pub fn verdict(&self) -> String {
        // Another statistic than the means need not be greater where the treatment is, nor 0 where nothing differs.
        let (what, than, other) = match self.test {
            Test::PermutationOf(_) | Test::SignFlipOf(_) => {
                ("the statistic", "it would be without a difference", "other")
            }
            // Ranks may say otherwise than means do.
            Test::MannWhitney { .. } => ("the treatment", "the control", side(self.effect.size)),
            _ => ("the treatment", "the control", side(self.statistic)),
        };
        let which = match self.alternative {
            Alternative::TwoSided => other,
            Alternative::Greater => "greater",
            Alternative::Less => "less",
        };
        let level = short(self.level);
        let found = match (self.rejected(), self.alternative) {
            (true, _) => format!("{what} is {which} than {than} at level {level}"),
            (false, Alternative::TwoSided) => {
                format!("no difference is shown at level {level}, which does not show that there is none")
            }
            (false, _) => format!("it is not shown at level {level} that {what} is {which} than {than}"),
        };
        let too_few = match self.least_p {
            Some(least) if least > self.level => {
                format!(" (so few samples or arrangements cannot give a p below {}; draw more)", short(least))
            }
            _ => String::new(),
        };
        let interval = self.interval.map(|interval| format!(", {}", interval.words())).unwrap_or_default();
        format!(
            "{found}: {}, {}{too_few}; mean {} of {} against {} of {}, difference {}{interval}; {} {}",
            self.statistic_in_words(),
            p_in_words(self.p),
            short(self.treatment.mean),
            self.treatment.count,
            short(self.control.mean),
            self.control.count,
            short(self.difference),
            self.effect.kind.name(),
            short(self.effect.size),
        )
    }

    fn statistic_in_words(&self) -> String {
        let statistic = short(self.statistic);
        match self.test {
            Test::Welch { degrees_of_freedom } => {
                format!("Welch's t = {statistic} with {} degrees of freedom", short(degrees_of_freedom))
            }
            Test::Paired { degrees_of_freedom } => {
                format!("paired t = {statistic} with {} degrees of freedom", short(degrees_of_freedom))
            }
            Test::MannWhitney { exact: true } => format!("Mann-Whitney U = {statistic}, exact"),
            Test::MannWhitney { exact: false } => format!("Mann-Whitney U = {statistic}, by the normal distribution"),
            Test::Permutation(arranged) | Test::PermutationOf(arranged) => {
                format!("permuted statistic = {statistic} among {arranged}")
            }
            Test::SignFlip(arranged) | Test::SignFlipOf(arranged) => {
                format!("statistic under sign flips = {statistic} among {arranged}")
            }
        }
    }

    /// Lower end, middle and upper end of each mean, and of the difference where it has an interval.
    fn intervals(&self) -> Series {
        let mean = |name: &str, summary: &Summary| {
            let half = summary.half_width(self.level).unwrap_or(f64::NAN);
            (name.to_owned(), [summary.mean - half, summary.mean, summary.mean + half])
        };
        let mut rows = vec![mean("control", &self.control), mean("treatment", &self.treatment)];
        if let Some(interval) = self.interval {
            rows.push(("difference".into(), [interval.lower, interval.estimate, interval.upper]));
        }
        let line = |(place, name): (usize, &str)| Line {
            name: name.into(),
            values: rows.iter().map(|(_, ends)| ends[place]).collect(),
        };
        let lines = ["lower", "estimate", "upper"].into_iter().enumerate().map(line).collect();
        let axis = Axis::new("mean", rows.iter().map(|(name, _)| name.as_str()));
        let title = format!("Means with {} % t intervals", short(100.0 * (1.0 - self.level)));
        Series { title, axis, value: "sample".into(), lines }
    }
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.verdict())
    }
}

impl From<&Comparison> for Answer {
    fn from(found: &Comparison) -> Self {
        Self::new()
            .with("verdict", found.verdict())
            .with("p", found.p)
            .with("statistic", found.statistic)
            .with("difference", found.difference)
            .with("effect", found.effect.size)
            .with("intervals", found.intervals())
    }
}

impl From<Comparison> for Answer {
    fn from(found: Comparison) -> Self {
        Self::from(&found)
    }
}

fn side(difference: f64) -> &'static str {
    if difference > 0.0 { "greater" } else { "less" }
}

fn p_in_words(p: f64) -> String {
    if p == 0.0 { "p below 1e-307".into() } else { format!("p = {}", short(p)) }
}

/// A number with four digits that count.
pub(super) fn short(number: f64) -> String {
    let size = number.abs();
    if number == 0.0 || !number.is_finite() {
        return format!("{number}");
    }
    if !(1e-3..1e6).contains(&size) {
        return format!("{number:.2e}");
    }
    let decimals = (3 - size.log10().floor() as i32).max(0) as usize;
    let text = format!("{number:.decimals$}");
    if decimals > 0 { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

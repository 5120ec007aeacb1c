//! Permutation tests: what the statistic is where labels mean nothing, every arrangement counted or many drawn.

use std::fmt;

use arrakis_core::Stream;
use serde::{Deserialize, Serialize};

use super::comparison::{Comparison, Found, Test};
use super::mann_whitney::arrangements;
use super::samples::{Samples, constant, differences, greatest, mean};
use super::{Effect, Hypothesis, cohens_d, cohens_d_paired, invalid, rank_biserial};
use crate::{Error, Result};

/// Arrangements that a test was made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Arrangements {
    /// All of them: the p-value is exact.
    All(usize),
    /// So many, drawn at random; what was observed is counted as one more (Phipson and Smyth, 2010).
    Drawn(usize),
}

impl fmt::Display for Arrangements {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All(count) => write!(f, "all {count} arrangements"),
            Self::Drawn(count) => write!(f, "{count} arrangements drawn"),
        }
    }
}

impl Hypothesis {
    /// The permutation test of the difference of means: are two independent sets of samples of one distribution?
    ///
    /// All arrangements are counted if there are no more than [`resamples`](Hypothesis::resamples), else so many are
    /// drawn. The two-sided p-value is twice that of the rarer side.
    pub fn permutation(&self, control: &Samples, treatment: &Samples) -> Result<Comparison> {
        // A shift changes no difference of means, and near 0 the sums keep their digits.
        let middle = mean(&[control.values(), treatment.values()].concat());
        let centred = |samples: &Samples| samples.values().iter().map(|value| value - middle).collect::<Vec<f64>>();
        let pooled = [centred(control), centred(treatment)].concat();
        self.arranged(control, treatment, &pooled, Test::Permutation, &|a, b| mean(b) - mean(a))
    }

    /// As [`permutation`](Hypothesis::permutation), of another statistic of control and treatment.
    ///
    /// Statistics count as equal where they differ by no more than the rounding of numbers as great as the samples.
    pub fn permutation_of(
        &self,
        control: &Samples,
        treatment: &Samples,
        statistic: impl Fn(&[f64], &[f64]) -> f64,
    ) -> Result<Comparison> {
        let pooled = [control.values(), treatment.values()].concat();
        self.arranged(control, treatment, &pooled, Test::PermutationOf, &statistic)
    }

    /// The sign-flip test of paired samples: is the distribution of the differences symmetric about 0?
    ///
    /// Counts or draws the signs of the differences as [`permutation`](Hypothesis::permutation) does its arrangements.
    pub fn sign_flip(&self, control: &Samples, treatment: &Samples) -> Result<Comparison> {
        self.flipped(control, treatment, Test::SignFlip, &mean)
    }

    /// As [`sign_flip`](Hypothesis::sign_flip), of another statistic of the differences than their mean.
    ///
    /// Statistics count as equal where they differ by no more than the rounding of numbers as great as the differences.
    pub fn sign_flip_of(
        &self,
        control: &Samples,
        treatment: &Samples,
        statistic: impl Fn(&[f64]) -> f64,
    ) -> Result<Comparison> {
        self.flipped(control, treatment, Test::SignFlipOf, &statistic)
    }

    fn arranged(
        &self,
        control: &Samples,
        treatment: &Samples,
        pooled: &[f64],
        test: fn(Arrangements) -> Test,
        statistic: &dyn Fn(&[f64], &[f64]) -> f64,
    ) -> Result<Comparison> {
        self.check()?;
        if constant(pooled) {
            return Err(Error::NoVariance { what: "the set of all samples".into() });
        }
        let of = |values: &[f64]| statistic(&values[..control.len()], &values[control.len()..]);
        let mut tails = Tails::new(of(pooled), greatest(pooled))?;
        let ways = arrangements(control.len(), treatment.len());
        let arranged = if ways <= self.resamples as f64 {
            let mut chosen: Vec<usize> = (0..control.len()).collect();
            loop {
                let (mut inside, mut outside) = (Vec::with_capacity(pooled.len()), Vec::with_capacity(treatment.len()));
                for (place, value) in pooled.iter().enumerate() {
                    if chosen.binary_search(&place).is_ok() { inside.push(*value) } else { outside.push(*value) }
                }
                inside.append(&mut outside);
                tails.count(of(&inside))?;
                if !next_choice(&mut chosen, pooled.len()) {
                    break;
                }
            }
            Arrangements::All(tails.counted)
        } else {
            let mut stream = Stream::new(self.seed, "permutation test");
            let mut order = pooled.to_vec();
            // Choosing the smaller side chooses the other one too.
            let (few, last) = (control.len().min(treatment.len()), pooled.len() - 1);
            for _ in 0..self.resamples {
                for taken in 0..few {
                    let place = if control.len() == few { taken } else { last - taken };
                    let free = (pooled.len() - taken) as u64;
                    let other = stream.below(free) as usize;
                    order.swap(place, if control.len() == few { taken + other } else { other });
                }
                tails.count(of(&order))?;
            }
            Arrangements::Drawn(self.resamples)
        };
        let effect = cohens_d(control, treatment).or_else(|_| rank_biserial(control, treatment))?;
        Ok(self.compared(self.found(test(arranged), &tails, arranged, effect), control, treatment))
    }

    fn flipped(
        &self,
        control: &Samples,
        treatment: &Samples,
        test: fn(Arrangements) -> Test,
        statistic: &dyn Fn(&[f64]) -> f64,
    ) -> Result<Comparison> {
        self.check()?;
        let apart = differences(control, treatment)?;
        let mut tails = Tails::new(statistic(apart.values()), apart.scale())?;
        let mut flipped = apart.values().to_vec();
        let ways = 2.0_f64.powi(apart.len() as i32);
        let arranged = if ways <= self.resamples as f64 {
            for signs in 0..ways as u64 {
                for (place, value) in apart.values().iter().enumerate() {
                    flipped[place] = if signs >> place & 1 == 1 { -value } else { *value };
                }
                tails.count(statistic(&flipped))?;
            }
            Arrangements::All(tails.counted)
        } else {
            let mut stream = Stream::new(self.seed, "sign-flip test");
            for _ in 0..self.resamples {
                for value in &mut flipped {
                    *value = if stream.below(2) == 1 { -*value } else { *value };
                }
                tails.count(statistic(&flipped))?;
            }
            Arrangements::Drawn(self.resamples)
        };
        let effect = cohens_d_paired(control, treatment)?;
        Ok(self.compared(self.found(test(arranged), &tails, arranged, effect), control, treatment))
    }

    fn found(&self, test: Test, tails: &Tails, arranged: Arrangements, effect: Effect) -> Found {
        // What was drawn may by chance miss what was observed, which is an arrangement too.
        let (more, all) = match arranged {
            Arrangements::All(count) => (0, count),
            Arrangements::Drawn(count) => (1, count + 1),
        };
        let share = |count: usize| (count + more) as f64 / all as f64;
        Found {
            test,
            statistic: tails.observed,
            p: self.p(share(tails.below), share(tails.above)),
            least_p: Some(self.least_p(1.0 / all as f64)),
            interval: None,
            effect,
        }
    }
}

/// How many arrangements give a statistic at most, and at least, the observed one.
struct Tails {
    observed: f64,
    /// Statistics nearer than this differ by rounding only.
    rounding: f64,
    below: usize,
    above: usize,
    counted: usize,
}

impl Tails {
    fn new(observed: f64, scale: f64) -> Result<Self> {
        let rounding = 100.0 * f64::EPSILON * observed.abs().max(scale);
        let tails = Self { observed, rounding, below: 0, above: 0, counted: 0 };
        tails.check(observed)?;
        Ok(tails)
    }

    fn count(&mut self, statistic: f64) -> Result<()> {
        self.check(statistic)?;
        self.below += usize::from(statistic <= self.observed + self.rounding);
        self.above += usize::from(statistic >= self.observed - self.rounding);
        self.counted += 1;
        Ok(())
    }

    fn check(&self, statistic: f64) -> Result<()> {
        if statistic.is_finite() {
            return Ok(());
        }
        let why = format!("arrangement {} gives {statistic}; choose one that is a number for all", self.counted);
        Err(invalid("statistic of the permutation test", why))
    }
}

/// The next choice of places among `0..count` in lexicographic order; false after the last.
fn next_choice(chosen: &mut [usize], count: usize) -> bool {
    let size = chosen.len();
    let Some(place) = (0..size).rev().find(|place| chosen[*place] < count - size + place) else { return false };
    chosen[place] += 1;
    for later in place + 1..size {
        chosen[later] = chosen[later - 1] + 1;
    }
    true
}

//! Corrections for many tests at once: among twenty true null hypotheses one is rejected at level 0.05 by chance.

use arrakis_core::{Answer, Axis, Series};
use serde::{Deserialize, Serialize};

use super::comparison::short;
use super::interval::check_share;
use super::invalid;
use crate::Result;

/// What is kept small.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Correction {
    /// The probability of rejecting any true null hypothesis, whatever depends on what (Holm, 1979).
    Holm,
    /// The share of true ones among the rejected, for independent or positively dependent tests (Benjamini and
    /// Hochberg, 1995).
    BenjaminiHochberg,
}

/// Several tests with p-values that can be compared with one level.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Corrected {
    /// What was corrected for.
    pub correction: Correction,
    /// The level that the adjusted p-values are compared with.
    pub level: f64,
    /// What each test is called.
    pub labels: Vec<String>,
    /// The p-value of each test alone.
    pub p: Vec<f64>,
    /// The p-value of each test among all.
    pub adjusted: Vec<f64>,
}

impl Correction {
    /// The p-values among all of them, in the order given.
    pub fn adjust(self, p: &[f64]) -> Result<Vec<f64>> {
        if let Some(place) = p.iter().position(|p| !(0.0..=1.0).contains(p)) {
            return Err(invalid(format!("p-value {place}"), format!("{} does not lie between 0 and 1", p[place])));
        }
        let count = p.len() as f64;
        let mut order: Vec<usize> = (0..p.len()).collect();
        order.sort_by(|a, b| p[*a].total_cmp(&p[*b]));
        let mut adjusted = vec![0.0; p.len()];
        match self {
            Self::Holm => {
                let mut most = 0.0_f64;
                for (rank, place) in order.into_iter().enumerate() {
                    most = most.max(p[place] * (count - rank as f64)).min(1.0);
                    adjusted[place] = most;
                }
            }
            Self::BenjaminiHochberg => {
                let mut least = 1.0_f64;
                for (rank, place) in order.into_iter().enumerate().rev() {
                    least = least.min(p[place] * count / (rank as f64 + 1.0));
                    adjusted[place] = least;
                }
            }
        }
        Ok(adjusted)
    }

    /// Corrects labelled p-values, to be compared with `level`.
    pub fn of(self, tests: impl IntoIterator<Item = (impl Into<String>, f64)>, level: f64) -> Result<Corrected> {
        check_share("level", level)?;
        let (labels, p): (Vec<String>, Vec<f64>) = tests.into_iter().map(|(label, p)| (label.into(), p)).unzip();
        if p.is_empty() {
            return Err(invalid("tests to correct", "there is none"));
        }
        Ok(Corrected { correction: self, level, adjusted: self.adjust(&p)?, labels, p })
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Holm => "Holm",
            Self::BenjaminiHochberg => "Benjamini-Hochberg",
        }
    }
}

impl Corrected {
    /// The labels of the tests whose null hypothesis is rejected.
    pub fn rejected(&self) -> impl Iterator<Item = &str> {
        let rejected = self.labels.iter().zip(&self.adjusted).filter(|(_, p)| **p <= self.level);
        rejected.map(|(label, _)| label.as_str())
    }

    /// What was found, in words.
    #[must_use]
    pub fn verdict(&self) -> String {
        let rejected: Vec<&str> = self.rejected().collect();
        let which = if rejected.is_empty() { String::new() } else { format!(": {}", rejected.join(", ")) };
        let (count, all) = (rejected.len(), self.labels.len());
        let (level, name) = (short(self.level), self.correction.name());
        format!("{count} of {all} differences are shown at level {level} after correction by {name}{which}")
    }
}

impl From<Corrected> for Answer {
    fn from(corrected: Corrected) -> Self {
        let verdict = corrected.verdict();
        let lines = vec![
            arrakis_core::Line { name: "alone".into(), values: corrected.p },
            arrakis_core::Line { name: "among all".into(), values: corrected.adjusted },
        ];
        let axis = Axis::new("test", corrected.labels);
        let title = format!("p-values corrected by {}", corrected.correction.name());
        Self::new().with("verdict", verdict).with("p", Series { title, axis, value: "p-value".into(), lines })
    }
}

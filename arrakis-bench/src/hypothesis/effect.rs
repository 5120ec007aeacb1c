//! Effect sizes: how great a difference is, whatever the number of samples.

use serde::{Deserialize, Serialize};

use super::samples::{Samples, differences, independent};
use crate::Result;

/// A kind of effect size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EffectKind {
    /// The difference of the means in pooled standard deviations (Cohen, 1988).
    CohensD,
    /// The mean of the differences in their own standard deviations, `d_z`.
    CohensDPaired,
    /// Cohen's d without its bias in small samples (Hedges, 1981).
    HedgesG,
    /// How much more often a treatment's sample is greater than a control's than less, -1 to 1 (Kerby, 2014).
    RankBiserial,
}

/// An effect size.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Effect {
    /// Its kind.
    pub kind: EffectKind,
    /// Its size; positive where the treatment is the greater.
    pub size: f64,
}

impl EffectKind {
    /// What it is called.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::CohensD => "Cohen's d",
            Self::CohensDPaired => "Cohen's d of the differences",
            Self::HedgesG => "Hedges' g",
            Self::RankBiserial => "rank-biserial correlation",
        }
    }
}

/// Cohen's d: `(mean of treatment - mean of control) / pooled standard deviation`.
pub fn cohens_d(control: &Samples, treatment: &Samples) -> Result<Effect> {
    independent(control, treatment)?;
    let (a, b) = (control.len() as f64 - 1.0, treatment.len() as f64 - 1.0);
    let pooled = (a * control.variance() + b * treatment.variance()) / (a + b);
    Ok(Effect { kind: EffectKind::CohensD, size: (treatment.mean() - control.mean()) / pooled.sqrt() })
}

/// Cohen's d of paired samples: the mean of the differences over their standard deviation.
pub fn cohens_d_paired(control: &Samples, treatment: &Samples) -> Result<Effect> {
    let apart = differences(control, treatment)?;
    Ok(Effect { kind: EffectKind::CohensDPaired, size: apart.mean() / apart.variance().sqrt() })
}

/// Hedges' g: Cohen's d times `Γ(m / 2) / (√(m / 2) Γ((m - 1) / 2))` with `m` degrees of freedom.
pub fn hedges_g(control: &Samples, treatment: &Samples) -> Result<Effect> {
    let d = cohens_d(control, treatment)?.size;
    let half = (control.len() + treatment.len() - 2) as f64 / 2.0;
    let unbiased = (libm::lgamma(half) - libm::lgamma(half - 0.5)).exp() / half.sqrt();
    Ok(Effect { kind: EffectKind::HedgesG, size: d * unbiased })
}

/// The rank-biserial correlation: the share of pairs in which the treatment is greater, less that in which it is less.
pub fn rank_biserial(control: &Samples, treatment: &Samples) -> Result<Effect> {
    let pairs = (control.len() * treatment.len()) as f64;
    let u = super::mann_whitney::Ranks::of(control, treatment).u;
    Ok(Effect { kind: EffectKind::RankBiserial, size: 2.0 * u / pairs - 1.0 })
}

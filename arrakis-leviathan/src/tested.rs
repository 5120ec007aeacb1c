//! What tells the models of a comparison apart: tests paired by seed.

use arrakis_bench::hypothesis::{Correction, Hypothesis, Samples};
use serde::Serialize;

use crate::Result;
use crate::compare::Outcome;

/// A model held against the first of its comparison, paired by seed.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Tested {
    /// The model.
    pub model: String,
    /// The first one.
    pub against: String,
    /// The mean of its losses minus the first one's, in nats for each token: negative where it foresees the text better.
    pub difference: f64,
    /// The 95 % interval of that, of Student's t.
    pub interval: Option<[f64; 2]>,
    /// The p-value of Student's paired t.
    pub p_t: f64,
    /// The same, corrected by Holm over the models of the comparison.
    pub p_t_holm: f64,
    /// The p-value of flipping signs, which assumes no distribution and cannot be below 2 / 2^seeds.
    pub p_flips: f64,
    /// The same, corrected by Holm over the models of the comparison.
    pub p_flips_holm: f64,
    /// What follows, in words.
    pub verdict: String,
}

/// Every model but the first held against it; none where there are fewer than two seeds or models.
pub fn tested(outcomes: &[Outcome]) -> Result<Vec<Tested>> {
    let Some((control, others)) = outcomes.split_first().filter(|(control, _)| control.trained.seeds.len() > 1) else {
        return Ok(Vec::new());
    };
    let hypothesis = Hypothesis::default();
    let baseline = Samples::new(control.trained.nats.clone())?;
    let mut found = Vec::new();
    for other in others {
        let losses = Samples::new(other.trained.nats.clone())?;
        found.push((hypothesis.paired(&baseline, &losses)?, hypothesis.sign_flip(&baseline, &losses)?));
    }
    let holm = |p: Vec<f64>| Correction::Holm.adjust(&p);
    let of_t = holm(found.iter().map(|(paired, _)| paired.p).collect())?;
    let of_flips = holm(found.iter().map(|(_, flipped)| flipped.p).collect())?;
    let each = others.iter().zip(&found).zip(of_t.into_iter().zip(of_flips));
    let each = each.map(|((other, (paired, flipped)), (p_t_holm, p_flips_holm))| Tested {
        model: other.name.clone(),
        against: control.name.clone(),
        difference: paired.difference,
        interval: paired.interval.map(|interval| [interval.lower, interval.upper]),
        p_t: paired.p,
        p_t_holm,
        p_flips: flipped.p,
        p_flips_holm,
        verdict: verdict(paired.difference, [p_t_holm, p_flips_holm].map(|p| p <= hypothesis.level)).to_owned(),
    });
    Ok(each.collect())
}

/// What a difference and the findings of both tests, corrected, come to.
const fn verdict(difference: f64, told_apart: [bool; 2]) -> &'static str {
    match (told_apart, difference < 0.0) {
        ([true, true], true) => "foresees the text better",
        ([true, true], false) => "foresees the text worse",
        ([true, false], true) => "foresees the text better by the t-test alone, which assumes normal differences",
        ([true, false], false) => "foresees the text worse by the t-test alone, which assumes normal differences",
        ([false, _], _) => "is not shown to differ",
    }
}

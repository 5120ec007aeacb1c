//! The promise of a test: where there is no difference, it finds one as often as its level says, and no more.

use arrakis_bench::hypothesis::{Hypothesis, Interval, Samples, clopper_pearson};
use arrakis_core::Stream;

use crate::fixtures::say;

const DRAWS: u64 = 10_000;
/// Bootstraps take as long as hundreds of tests.
const BOOTSTRAPS: u64 = 2_000;

/// The share of draws in which `holds`.
fn share(name: &str, holds: impl Fn(&mut Stream, u64) -> bool) -> f64 {
    shares(DRAWS, name, |stream, draw| [holds(stream, draw)])[0]
}

/// The shares of `draws` in which each of several things holds.
fn shares<const N: usize>(draws: u64, name: &str, hold: impl Fn(&mut Stream, u64) -> [bool; N]) -> [f64; N] {
    let mut stream = Stream::new(17, name);
    let mut held = [0_u64; N];
    for draw in 0..draws {
        for (count, holds) in held.iter_mut().zip(hold(&mut stream, draw)) {
            *count += u64::from(holds);
        }
    }
    held.map(|count| count as f64 / draws as f64)
}

fn normals(stream: &mut Stream, count: usize, deviation: f64) -> Samples {
    Samples::from_fn(count, |_| Ok(deviation * stream.normal())).unwrap()
}

/// A skewed distribution with mean 1.
fn exponentials(stream: &mut Stream, count: usize) -> Samples {
    Samples::from_fn(count, |_| Ok(-(1.0 - stream.uniform()).ln())).unwrap()
}

/// A hypothesis whose drawn arrangements can reject exactly 5 % of null hypotheses: 2 of 80 on either side.
fn drawing(seed: u64) -> Hypothesis {
    Hypothesis { seed, resamples: 79, ..Hypothesis::default() }
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

#[test]
fn t_tests_reject_as_often_as_their_level_says() {
    let hypothesis = Hypothesis::default();
    let welch = share("welch", |stream, _| {
        hypothesis.welch(&normals(stream, 12, 1.0), &normals(stream, 20, 3.0)).unwrap().rejected()
    });
    let paired = share("paired", |stream, _| {
        let (control, noise) = (normals(stream, 10, 1.0), normals(stream, 10, 0.5));
        let pairs = control.values().iter().zip(noise.values());
        let treatment = Samples::new(pairs.map(|(value, noise)| value + noise).collect::<Vec<f64>>()).unwrap();
        hypothesis.paired(&control, &treatment).unwrap().rejected()
    });
    say(&format!("rejected of {DRAWS} null draws at level 0.05: Welch {welch}, paired {paired}"));
    for rate in [welch, paired] {
        assert!((rate - 0.05).abs() <= 0.007, "{rate}");
    }
}

#[test]
fn rank_and_permutation_tests_reject_no_more_than_their_level_says() {
    let permutation = share("permutation", |stream, draw| {
        drawing(draw).permutation(&normals(stream, 10, 1.0), &normals(stream, 10, 1.0)).unwrap().rejected()
    });
    let sign_flip = share("sign flip", |stream, draw| {
        drawing(draw).sign_flip(&normals(stream, 12, 1.0), &normals(stream, 12, 1.0)).unwrap().rejected()
    });
    let hypothesis = Hypothesis::default();
    let exact = [
        (
            "permutation, 4 and 4, all",
            share("exact permutation", |stream, _| {
                hypothesis.permutation(&normals(stream, 4, 1.0), &normals(stream, 4, 1.0)).unwrap().rejected()
            }),
        ),
        (
            "sign flip, 7, all",
            share("exact sign flip", |stream, _| {
                hypothesis.sign_flip(&normals(stream, 7, 1.0), &normals(stream, 7, 1.0)).unwrap().rejected()
            }),
        ),
        (
            "Mann-Whitney, 6 and 7, exact",
            share("exact ranks", |stream, _| {
                hypothesis.mann_whitney(&exponentials(stream, 6), &exponentials(stream, 7)).unwrap().rejected()
            }),
        ),
        (
            "Mann-Whitney, 20 and 25 with ties",
            share("ranks", |stream, _| {
                let mut whole = |count: usize| Samples::from_fn(count, |_| Ok(stream.below(12) as f64)).unwrap();
                hypothesis.mann_whitney(&whole(20), &whole(25)).unwrap().rejected()
            }),
        ),
    ];
    say(&format!(
        "rejected of {DRAWS} null draws at level 0.05: permutation, 10 and 10, drawn {permutation}, sign flip, 12, drawn \
         {sign_flip}; {}",
        exact.map(|(name, rate)| format!("{name} {rate}")).join("; ")
    ));
    for rate in [permutation, sign_flip] {
        assert!((rate - 0.05).abs() <= 0.007, "{rate}");
    }
    for (name, rate) in exact {
        assert!(rate <= 0.05, "{name}: {rate}");
    }
}

#[test]
fn intervals_hold_the_truth_as_often_as_they_say() {
    let hypothesis = Hypothesis::default();
    let holds = |interval: Interval, truth: f64| interval.lower <= truth && truth <= interval.upper;
    let welch = share("welch interval", |stream, _| {
        let found = hypothesis.welch(&normals(stream, 12, 1.0), &normals(stream, 20, 3.0)).unwrap();
        holds(found.interval.unwrap(), 0.0)
    });
    let clopper = share("clopper", |stream, _| {
        let successes = (0..30).filter(|_| stream.uniform() < 0.2).count() as u64;
        holds(clopper_pearson(successes, 30, 0.95).unwrap(), 0.2)
    });
    let bootstrapped = |name: &str, skewed: bool| {
        shares(BOOTSTRAPS, name, |stream, draw| {
            let samples = if skewed { exponentials(stream, 20) } else { normals(stream, 20, 1.0) };
            let bootstrap = Hypothesis { resamples: 199, ..drawing(draw) }.bootstrap(&samples, mean).unwrap();
            [bootstrap.percentile(0.95), bootstrap.bca(0.95)]
                .map(|interval| holds(interval.unwrap(), f64::from(u8::from(skewed))))
        })
    };
    let (normal, skewed) = (bootstrapped("bootstrap", false), bootstrapped("bootstrap of skewed", true));
    say(&format!(
        "95 % intervals that hold the truth: Welch {welch} and Clopper-Pearson, 30 trials {clopper} of {DRAWS}; bootstrap \
         of the mean of 20, 199 resamples, percentile and BCa: normal {normal:?}, exponential {skewed:?} of {BOOTSTRAPS}"
    ));
    assert!((welch - 0.95).abs() <= 0.007, "{welch}");
    assert!(clopper >= 0.95, "{clopper}");
    // The bootstrap of so few samples is known to fall short; a broken one falls far shorter.
    for rate in [normal, skewed].concat() {
        assert!((0.87..=0.96).contains(&rate), "{rate}");
    }
}

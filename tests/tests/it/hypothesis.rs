//! Hypothesis tests: SciPy's numbers, the level that they promise, and what cannot be tested.

mod level;
mod reference;

use arrakis_bench::Error;
use arrakis_bench::hypothesis::{
    Alternative, Arrangements, Comparison, Correction, Hypothesis, Samples, Test, clopper_pearson, cohens_d,
    rank_biserial,
};
use arrakis_core::print::Room;
use arrakis_core::{Answer, Part, Stream};

pub(super) fn samples(values: &[f64]) -> Samples {
    Samples::new(values).unwrap()
}

#[test]
fn a_verdict_says_what_was_found_and_what_was_not() {
    let control = samples(&[1.0, 1.2, 0.9, 1.1, 1.0, 0.8]);
    let treatment = samples(&[1.9, 2.2, 2.0, 1.7, 2.1, 2.0]);
    let found = Hypothesis::default().welch(&control, &treatment).unwrap();
    insta::assert_snapshot!(found, @"the treatment is greater than the control at level 0.05: Welch's t = 10.81 with 9.635 degrees of freedom, p = 1.06e-6; mean 1.983 of 6 against 1 of 6, difference 0.9833, 95 % t interval 0.7796 to 1.187; Cohen's d 6.24");
    let found = Hypothesis::default().welch(&treatment, &control).unwrap();
    assert!(found.verdict().starts_with("the treatment is less than the control at level 0.05: "), "{found}");
    let one_sided = Hypothesis { alternative: Alternative::Greater, ..Hypothesis::default() };
    let found = one_sided.mann_whitney(&treatment, &control).unwrap();
    insta::assert_snapshot!(found, @"it is not shown at level 0.05 that the treatment is greater than the control: Mann-Whitney U = 0, by the normal distribution, p = 0.9985; mean 1 of 6 against 1.983 of 6, difference -0.9833; rank-biserial correlation -1");
    let found = Hypothesis::default().permutation(&samples(&[1.0, 2.0]), &samples(&[3.0, 4.0])).unwrap();
    assert_eq!(found.test, Test::Permutation(Arrangements::All(6)));
    insta::assert_snapshot!(found, @"no difference is shown at level 0.05, which does not show that there is none: permuted statistic = 2 among all 6 arrangements, p = 0.3333 (so few samples or arrangements cannot give a p below 0.3333; draw more); mean 3.5 of 2 against 1.5 of 2, difference 2; Cohen's d 2.828");
    // The rarest order of two and two is one of six, on whichever side it is looked for.
    for alternative in [Alternative::Greater, Alternative::Less] {
        let one_sided = Hypothesis { alternative, ..Hypothesis::default() };
        let found = one_sided.mann_whitney(&samples(&[1.0, 2.0]), &samples(&[3.0, 4.0])).unwrap();
        assert!((found.least_p.unwrap() - 1.0 / 6.0).abs() < 1e-15, "{found}");
    }
    let interval = clopper_pearson(3, 10, 0.95).unwrap();
    insta::assert_snapshot!(interval.verdict(), @"0.3, 95 % Clopper-Pearson interval 0.06674 to 0.6525");
    let corrected = Correction::Holm.of([("a", 0.01), ("b", 0.04), ("c", 0.02)], 0.05).unwrap();
    insta::assert_snapshot!(corrected.verdict(), @"3 of 3 differences are shown at level 0.05 after correction by Holm: a, b, c");
    assert_eq!(corrected.rejected().count(), 3);
    let corrected = Correction::Holm.of([("a", 0.03), ("b", 0.04)], 0.05).unwrap();
    insta::assert_snapshot!(corrected.verdict(), @"0 of 2 differences are shown at level 0.05 after correction by Holm");
}

#[test]
fn what_was_found_is_an_answer() {
    let mut stream = Stream::new(1, "answer");
    let mut draw = |shift: f64| Samples::from_fn(20, |_| Ok(shift + stream.normal())).unwrap();
    let (control, treatment) = (draw(0.0), draw(3.0));
    let hypothesis = Hypothesis { resamples: 99, ..Hypothesis::default() };
    let found = hypothesis.welch(&control, &treatment).unwrap();
    let answer = Answer::from(&found);
    let Some(Part::Series(intervals)) = answer.get("intervals") else { panic!("there are no intervals") };
    assert_eq!(intervals.axis.labels, ["control", "treatment", "difference"]);
    let interval = found.interval.unwrap();
    let ends: Vec<f64> = intervals.lines.iter().map(|line| line.values[2]).collect();
    assert_eq!(ends, [interval.lower, found.difference, interval.upper]);
    assert!(answer.text(Room::default()).contains("Means with 95 % t intervals"));
    let (json, tensors) = answer.split().unwrap();
    assert!(tensors.is_empty());
    let Part::Number(p) = Answer::join(json, tensors).unwrap().get("p").unwrap().clone() else { panic!("p is lost") };
    assert!((p - found.p).abs() <= 1e-15 * p);
    let folder = tempfile::tempdir().unwrap();
    let corrected = Correction::BenjaminiHochberg.of([("one", found.p), ("another", 0.4)], 0.05).unwrap();
    let bootstrap = hypothesis.bootstrap(&control, |values| values[0]).unwrap().percentile(0.9).unwrap();
    for (name, answer) in [("t", answer), ("p", corrected.into()), ("bootstrap", bootstrap.into())] {
        let folder = folder.path().join(name);
        std::fs::create_dir(&folder).unwrap();
        let drawn = arrakis_graph::draw_answer(&answer, &folder, &arrakis_graph::Style::default()).unwrap();
        assert_eq!(drawn.len(), 1, "{name}");
    }
    let stored: Comparison = serde_json::from_str(&serde_json::to_string(&found).unwrap()).unwrap();
    assert_eq!(stored.verdict(), found.verdict());
}

#[test]
fn chance_is_the_seed_s() {
    let mut stream = Stream::new(2, "chance");
    let mut draw = || Samples::from_fn(30, |_| Ok(stream.normal())).unwrap();
    let (control, treatment) = (draw(), draw());
    let of = |seed: u64| {
        let hypothesis = Hypothesis { seed, resamples: 499, ..Hypothesis::default() };
        let p = |found: arrakis_bench::Result<Comparison>| found.unwrap().p;
        let middle = |values: &[f64]| values.iter().sum::<f64>();
        (
            p(hypothesis.permutation(&control, &treatment)),
            p(hypothesis.sign_flip(&control, &treatment)),
            hypothesis.bootstrap(&control, middle).unwrap(),
            hypothesis.bootstrap_of_two(&control, &treatment, |a, b| middle(b) - middle(a)).unwrap(),
        )
    };
    assert_eq!(of(3), of(3));
    assert_ne!(of(3), of(4));
}

#[test]
fn drawn_arrangements_tend_to_all_of_them() {
    let mut stream = Stream::new(3, "arrangements");
    let mut draw = |count: usize, shift: f64| Samples::from_fn(count, |_| Ok(shift + stream.normal())).unwrap();
    let all = Hypothesis { resamples: 20_000, ..Hypothesis::default() };
    let some = Hypothesis { resamples: 3_000, ..Hypothesis::default() };
    // Three standard errors of a p-value about 0.1 from 3,000 draws, doubled for the two sides.
    let near = |a: f64, b: f64| assert!((a - b).abs() < 0.025, "{a} and {b}");
    for (few, many) in [(5, 9), (9, 5)] {
        let (control, treatment) = (draw(few, 0.0), draw(many, 1.0));
        let exact = all.permutation(&control, &treatment).unwrap();
        let drawn = some.permutation(&control, &treatment);
        assert_eq!(exact.test, Test::Permutation(Arrangements::All(2002)));
        near(exact.p, Hypothesis { resamples: 2_000, ..all }.permutation(&control, &treatment).unwrap().p);
        near(exact.p, drawn.unwrap().p);
        let median = |values: &[f64]| {
            let mut sorted = values.to_vec();
            sorted.sort_by(f64::total_cmp);
            sorted[sorted.len() / 2]
        };
        let of = |hypothesis: Hypothesis| {
            hypothesis.permutation_of(&control, &treatment, |a, b| median(b) - median(a)).unwrap().p
        };
        near(of(all), of(Hypothesis { resamples: 2_000, ..all }));
    }
    let (control, treatment) = (draw(12, 0.0), draw(12, 0.7));
    let exact = all.sign_flip(&control, &treatment).unwrap();
    assert_eq!(exact.test, Test::SignFlip(Arrangements::All(4096)));
    near(exact.p, some.sign_flip(&control, &treatment).unwrap().p);
    let sum = |values: &[f64]| values.iter().sum::<f64>();
    assert_eq!(exact.p, all.sign_flip_of(&control, &treatment, sum).unwrap().p);
}

#[test]
fn arrangements_that_differ_by_rounding_are_ties_whatever_the_statistic() {
    let greater = Hypothesis { alternative: Alternative::Greater, ..Hypothesis::default() };
    let sum = |values: &[f64]| values.iter().sum::<f64>();
    // 0.1 + 0.5 and 0.2 + 0.4 are one number but for the last bit, and four of six arrangements give at least their
    // difference; of the signs of 0.1, 0.2 and -0.3 five of eight do.
    let (control, treatment) = (samples(&[0.1, 0.5]), samples(&[0.2, 0.4]));
    for (control, treatment) in [(&control, &treatment), (&treatment, &control)] {
        let found = greater.permutation_of(control, treatment, |a, b| sum(b) - sum(a)).unwrap();
        assert_eq!(found.p, 4.0 / 6.0, "{found}");
        assert_eq!(found.p, greater.permutation(control, treatment).unwrap().p);
    }
    for sign in [1.0, -1.0] {
        let (control, treatment) = (samples(&[0.0; 3]), samples(&[0.1 * sign, 0.2 * sign, -0.3 * sign]));
        let found = greater.sign_flip_of(&control, &treatment, sum).unwrap();
        assert_eq!(found.p, 5.0 / 8.0, "{found}");
        assert_eq!(found.p, greater.sign_flip(&control, &treatment).unwrap().p);
    }
}

#[test]
fn a_verdict_on_another_statistic_speaks_of_that_statistic() {
    let variance = |values: &[f64]| {
        let middle = values.iter().sum::<f64>() / values.len() as f64;
        values.iter().map(|value| (value - middle).powi(2)).sum::<f64>()
    };
    let ratio = |a: &[f64], b: &[f64]| variance(b) / variance(a);
    let wide = samples(&[-9.0, -7.5, -8.2, 8.4, 9.3, 7.1]);
    let narrow = samples(&[1.1, 0.9, 1.3, 0.7, 1.2, 0.8]);
    // The treatment's mean is the greater one, and its variance far the smaller.
    let found = Hypothesis::default().permutation_of(&wide, &narrow, ratio).unwrap();
    assert!(found.difference > 0.0 && found.statistic > 0.0);
    insta::assert_snapshot!(found, @"the statistic is other than it would be without a difference at level 0.05: permuted statistic = 6.80e-4 among all 924 arrangements, p = 0.002165; mean 1 of 6 against 0.01667 of 6, difference 0.9833; Cohen's d 0.1532");
    let less = Hypothesis { alternative: Alternative::Less, ..Hypothesis::default() };
    let found = less.permutation_of(&wide, &narrow, ratio).unwrap();
    assert!(found.verdict().starts_with("the statistic is less than it would be without a difference at "), "{found}");
    let found = less.permutation_of(&narrow, &wide, ratio).unwrap();
    let none = "it is not shown at level 0.05 that the statistic is less than it would be without a difference: ";
    assert!(found.verdict().starts_with(none), "{found}");
    let spread = |values: &[f64]| values.iter().map(|value| value.powi(3)).sum::<f64>();
    let found =
        Hypothesis::default().sign_flip_of(&samples(&[0.0; 7]), &samples(&[1.0, 1.5, 2.0, 1.2, 1.7, 0.8, 1.1]), spread);
    let found = found.unwrap().verdict();
    assert!(
        found.starts_with("the statistic is other than it would be without a difference at level 0.05: "),
        "{found}"
    );
}

#[test]
fn what_cannot_be_tested_is_an_error_that_says_so() {
    let hypothesis = Hypothesis::default();
    let wrong = |error: Error| error.to_string();
    let (one, two, three) = (samples(&[1.0]), samples(&[1.0, 2.0]), samples(&[1.0, 2.0, 4.0]));
    insta::assert_snapshot!(wrong(Samples::new(vec![]).unwrap_err()), @"what is to be tested has 0 of at least 1 samples; draw more");
    insta::assert_snapshot!(wrong(Samples::new(vec![1.0, f64::NAN]).unwrap_err()), @"sample 1 is NaN, and tests need finite numbers below 1e150; find where it comes from, or leave it out");
    assert!(matches!(Samples::new(vec![f64::INFINITY]), Err(Error::SampleNotFinite { place: 0, .. })));
    insta::assert_snapshot!(wrong(hypothesis.welch(&one, &two).unwrap_err()), @"the control has 1 of at least 2 samples; draw more");
    insta::assert_snapshot!(wrong(hypothesis.paired(&two, &three).unwrap_err()), @"paired samples: 2 of the control and 3 of the treatment; each needs its partner, or take a test for independent samples");
    let flat = samples(&[2.0, 2.0, 2.0]);
    insta::assert_snapshot!(wrong(hypothesis.welch(&flat, &flat).unwrap_err()), @"each of the two sets of samples is constant, or varies by rounding alone, so there is nothing to compare a difference with; let what varies vary: other seeds, other prompts");
    // Their squares would be infinite, or 0.
    assert!(Samples::new(vec![1e200, -1e200]).is_err());
    let tiny = samples(&[1e-200, 2e-200, 4e-200]);
    assert!(matches!(hypothesis.welch(&tiny, &tiny), Err(Error::NoVariance { .. })));
    // Runs that differ by rounding alone have no variance to speak of.
    let rounding = samples(&[0.1 + 0.2, 0.3, 0.3]);
    assert!(matches!(hypothesis.welch(&rounding, &flat), Err(Error::NoVariance { .. })));
    assert!(hypothesis.welch(&flat, &three).is_ok());
    let shifted = samples(&[1.5, 2.5, 4.5]);
    assert!(matches!(hypothesis.paired(&three, &shifted), Err(Error::NoVariance { .. })));
    assert!(matches!(hypothesis.sign_flip(&three, &shifted), Err(Error::NoVariance { .. })));
    assert!(matches!(hypothesis.paired(&one, &one), Err(Error::TooFewSamples { found: 1, needed: 2, .. })));
    let tied = samples(&[2.0; 9]);
    assert!(matches!(hypothesis.mann_whitney(&tied, &tied), Err(Error::NoVariance { .. })));
    assert!(matches!(hypothesis.permutation(&flat, &flat), Err(Error::NoVariance { .. })));
    assert!(matches!(hypothesis.bootstrap(&flat, |values| values[0]), Err(Error::NoVariance { .. })));
    assert!(matches!(hypothesis.bootstrap(&one, |values| values[0]), Err(Error::TooFewSamples { .. })));
    assert!(matches!(cohens_d(&flat, &flat), Err(Error::NoVariance { .. })));
    assert!(cohens_d(&one, &three).is_err());
    assert_eq!(rank_biserial(&one, &samples(&[2.0])).unwrap().size, 1.0);
    let odd = hypothesis.permutation_of(&two, &three, |a, _| (a[0] - 1.0).sqrt().recip() - f64::INFINITY);
    insta::assert_snapshot!(wrong(odd.unwrap_err()), @"statistic of the permutation test: arrangement 0 gives NaN; choose one that is a number for all");
    let first_only = hypothesis.bootstrap(&three, |values| values[0].max(4.0) + values[0] * 1e-300);
    assert!(first_only.is_err());
    let extreme = hypothesis.bootstrap(&three, |values| values.iter().copied().fold(0.0, f64::max)).unwrap();
    assert!(extreme.percentile(0.95).is_ok());
    for level in [0.0, 1.0, -0.1, f64::NAN] {
        assert!(Hypothesis { level, ..hypothesis }.welch(&two, &three).is_err());
        assert!(extreme.bca(level).is_err() && clopper_pearson(1, 2, level).is_err());
    }
    assert!(Hypothesis { resamples: 0, ..hypothesis }.permutation(&two, &three).is_err());
    insta::assert_snapshot!(wrong(clopper_pearson(3, 2, 0.95).unwrap_err()), @"share: 3 of 2; give a positive number of trials and no more successes than that");
    assert!(clopper_pearson(0, 0, 0.95).is_err());
    assert!(Correction::Holm.adjust(&[0.5, 1.5]).is_err() && Correction::Holm.adjust(&[f64::NAN]).is_err());
    assert!(Correction::Holm.of(Vec::<(String, f64)>::new(), 0.05).is_err());
    let failed = Samples::from_fn(3, |run| if run == 1 { Err(arrakis_core::Error::Cancelled.into()) } else { Ok(0.0) });
    assert_eq!(failed.unwrap_err().to_string(), "cancelled");
}

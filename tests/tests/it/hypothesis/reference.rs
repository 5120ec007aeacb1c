//! Every number beside SciPy's, from `tests/golden-statistics`, which says how each was called.

use std::fs;

use arrakis_bench::hypothesis::{
    Alternative, Bootstrap, Comparison, Correction, Hypothesis, Samples, clopper_pearson, cohens_d, cohens_d_paired,
    hedges_g, rank_biserial,
};
use serde_json::Value;

use crate::fixtures::{root, say};

const STATISTIC: f64 = 1e-10;
const PROBABILITY: f64 = 1e-8;

fn reference() -> Value {
    let path = root().join("tests/golden-statistics/reference.json");
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("{value} is no number"))
}

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(number).collect()
}

/// Fails unless `found` is `wanted` to `bound` of it.
fn near(what: &str, found: f64, wanted: f64, bound: f64) {
    // Beyond the least positive number there is only 0; so small a one has fewer digits.
    let bound = if wanted.abs() < 1e-300 { 1e-300 } else { bound * wanted.abs() };
    assert!((found - wanted).abs() <= bound, "{what}: {found:e} where {wanted:e} is wanted");
}

fn cases<'a>(reference: &'a Value, test: &str) -> impl Iterator<Item = (&'a Value, Samples, Samples)> {
    let cases = reference[test].as_array().unwrap();
    assert!(!cases.is_empty());
    cases.iter().map(|case| {
        let pair = &reference["sets"][case["set"].as_str().unwrap()];
        (case, Samples::new(numbers(&pair[0])).unwrap(), Samples::new(numbers(&pair[1])).unwrap())
    })
}

/// Compares statistic and p-values of all alternatives, and gives what the two-sided test found.
fn compare(case: &Value, test: impl Fn(Hypothesis) -> arrakis_bench::Result<Comparison>) -> Comparison {
    let alternatives = [Alternative::TwoSided, Alternative::Greater, Alternative::Less];
    let found = alternatives.map(|alternative| {
        // As many arrangements as there are, so that SciPy and we count the same ones.
        test(Hypothesis { alternative, resamples: 1_000_000, ..Hypothesis::default() }).unwrap()
    });
    for (found, wanted) in found.iter().zip(numbers(&case["p"])) {
        let what = format!("{:?} of `{}`", found.test, case["set"]);
        near(&what, found.statistic, number(&case["statistic"]), STATISTIC);
        near(&format!("p of {what}, {:?}", found.alternative), found.p, wanted, PROBABILITY);
    }
    let [two_sided, ..] = found;
    two_sided
}

#[test]
fn statistics_are_those_of_scipy() {
    let reference = reference();
    let mut least = 1.0_f64;
    for (case, control, treatment) in cases(&reference, "welch") {
        let found = compare(case, |hypothesis| hypothesis.welch(&control, &treatment));
        let interval = found.interval.unwrap();
        near("lower", interval.lower, number(&case["interval"][0]), PROBABILITY);
        near("upper", interval.upper, number(&case["interval"][1]), PROBABILITY);
        let arrakis_bench::hypothesis::Test::Welch { degrees_of_freedom } = found.test else { panic!("{found}") };
        near("degrees of freedom", degrees_of_freedom, number(&case["df"]), STATISTIC);
        near("d", cohens_d(&control, &treatment).unwrap().size, number(&case["d"]), STATISTIC);
        near("g", hedges_g(&control, &treatment).unwrap().size, number(&case["g"]), STATISTIC);
        assert_eq!(found.effect, cohens_d(&control, &treatment).unwrap());
        least = if found.p > 0.0 { least.min(found.p) } else { least };
    }
    for (case, control, treatment) in cases(&reference, "paired") {
        let count = control.len().min(treatment.len());
        let [control, treatment] = [control, treatment].map(|all| Samples::new(&all.values()[..count]).unwrap());
        let found = compare(case, |hypothesis| hypothesis.paired(&control, &treatment));
        let interval = found.interval.unwrap();
        near("lower", interval.lower, number(&case["interval"][0]), PROBABILITY);
        near("upper", interval.upper, number(&case["interval"][1]), PROBABILITY);
        near("d", cohens_d_paired(&control, &treatment).unwrap().size, number(&case["d"]), STATISTIC);
    }
    for (case, control, treatment) in cases(&reference, "mann_whitney") {
        let found = compare(case, |hypothesis| hypothesis.mann_whitney(&control, &treatment));
        assert_eq!(found.effect, rank_biserial(&control, &treatment).unwrap());
        near("rank-biserial", found.effect.size, number(&case["rank_biserial"]), STATISTIC);
        least = least.min(found.p);
    }
    for (case, control, treatment) in cases(&reference, "permutation") {
        compare(case, |hypothesis| hypothesis.permutation(&control, &treatment));
    }
    for (case, control, treatment) in cases(&reference, "sign_flip") {
        compare(case, |hypothesis| hypothesis.sign_flip(&control, &treatment));
    }
    assert!(least < 1e-290, "the far tail was not reached: {least:e}");
    say(&format!("statistics agree with SciPy {}, down to p = {least:.1e}", reference["scipy"]));
}

#[test]
fn intervals_and_corrections_are_those_of_scipy() {
    let reference = reference();
    for case in reference["clopper_pearson"].as_array().unwrap() {
        let [successes, trials] = ["successes", "trials"].map(|name| case[name].as_u64().unwrap());
        let found = clopper_pearson(successes, trials, number(&case["confidence"])).unwrap();
        let what = case["call"].as_str().unwrap();
        near(what, found.lower, number(&case["lower"]), PROBABILITY);
        near(what, found.upper, number(&case["upper"]), PROBABILITY);
    }
    let corrections = [(Correction::Holm, "holm"), (Correction::BenjaminiHochberg, "benjamini_hochberg")];
    for case in reference["corrections"].as_array().unwrap() {
        for (correction, name) in corrections {
            let adjusted = correction.adjust(&numbers(&case["p"])).unwrap();
            for (found, wanted) in adjusted.into_iter().zip(numbers(&case[name])) {
                near(name, found, wanted, STATISTIC);
            }
        }
    }
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
    let median = |values: &[f64]| {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        f64::midpoint(sorted[(sorted.len() - 1) / 2], sorted[sorted.len() / 2])
    };
    let variance = |values: &[f64]| {
        let middle = mean(values);
        values.iter().map(|value| (value - middle).powi(2)).sum::<f64>() / (values.len() as f64 - 1.0)
    };
    let places = |resample: &Value| -> Vec<usize> { numbers(resample).iter().map(|place| *place as usize).collect() };
    let mut corrected = 0;
    for case in reference["bootstrap"].as_array().unwrap() {
        let samples = Samples::new(numbers(&case["samples"])).unwrap();
        let statistic: &dyn Fn(&[f64]) -> f64 = match case["statistic"].as_str().unwrap() {
            "mean" => &mean,
            "median" => &median,
            _ => &variance,
        };
        let resamples = case["resamples"].as_array().unwrap().iter().map(places);
        let bootstrap = Bootstrap::on(&samples, resamples, statistic).unwrap();
        let found = [("percentile", bootstrap.percentile(0.95)), ("BCa", bootstrap.bca(0.95))];
        for (method, interval) in found {
            let Some(wanted) = case.get(method) else {
                assert!(interval.is_err(), "SciPy has no {method} interval here");
                continue;
            };
            let (interval, what) =
                (interval.unwrap(), format!("{method} of {} of `{}`", case["statistic"], case["set"]));
            near(&what, interval.lower, number(&wanted[0]), PROBABILITY);
            near(&what, interval.upper, number(&wanted[1]), PROBABILITY);
            corrected += 1;
        }
    }
    let case = &reference["bootstrap_of_two"][0];
    let [control, treatment] = ["control", "treatment"].map(|name| Samples::new(numbers(&case[name])).unwrap());
    let [controls, treatments] = [0, 1].map(|set| case["resamples"][set].as_array().unwrap().iter().map(places));
    let pairs = controls.zip(treatments).map(|(control, treatment)| [control, treatment]);
    let bootstrap = Bootstrap::on_two(&control, &treatment, pairs, |a, b| mean(b) - mean(a)).unwrap();
    for (method, interval) in [("percentile", bootstrap.percentile(0.95)), ("BCa", bootstrap.bca(0.95))] {
        let interval = interval.unwrap();
        near(method, interval.lower, number(&case[method][0]), PROBABILITY);
        near(method, interval.upper, number(&case[method][1]), PROBABILITY);
        corrected += 1;
    }
    say(&format!("{corrected} bootstrap intervals agree with SciPy {}", reference["scipy"]));
}

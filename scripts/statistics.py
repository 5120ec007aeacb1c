#!/usr/bin/env python3
"""What SciPy answers: the oracle of the hypothesis tests.

For developers only, as reference.py is. Needs scipy==1.17.1 and statsmodels==0.15.0 (Holm's correction, which SciPy lacks).

    python scripts/statistics.py > tests/golden-statistics/reference.json

Every case holds its call as it would be typed and what came out; `set` names its `control` and `treatment` under `sets`.
p-values are those of the alternatives two-sided, greater and less. Numbers are written with every digit; draws come from
numpy.random.default_rng and are part of the file.
"""
import json, sys, warnings

import numpy as np
import scipy
import statsmodels
from scipy import special, stats
from statsmodels.stats.multitest import multipletests

ALTERNATIVES = ("two-sided", "greater", "less")


def numbers(values):
    return [float(value) for value in values]


def sets():
    """Pairs of samples: few and many, alike and far apart, unequal variances, ties, huge and tiny."""
    rng = np.random.default_rng(5)
    return {
        "few": (rng.normal(0, 1, 4), rng.normal(1, 1, 4)),
        "two of each": (np.array([1.0, 2.0]), np.array([3.0, 5.0])),
        "unequal variances": (rng.normal(0, 1, 30), rng.normal(0.4, 3, 12)),
        "many": (rng.normal(0, 1, 250), rng.normal(0.1, 1, 200)),
        "ties": (rng.integers(0, 5, 25).astype(float), rng.integers(1, 6, 20).astype(float)),
        "far apart": (rng.normal(0, 1, 250), rng.normal(7, 1, 250)),
        "all ranks apart": (np.arange(900.0), np.arange(900.0) + 1000 + np.arange(900) % 7),
        # Sixty-fourths, in numbers that are powers of two, so that SciPy's sums are exact.
        "great numbers": (1e6 + rng.integers(0, 200, 16) / 64, 1e6 + rng.integers(50, 250, 8) / 64),
        "small numbers": (1e-9 * rng.normal(0, 1, 12), 1e-9 * rng.normal(0.5, 1, 15)),
        "one constant": (np.full(6, 2.0), rng.normal(2.5, 1, 9)),
        "three and forty": (rng.normal(0, 1, 3), rng.normal(1, 1, 40)),
        "eight and eight": (rng.normal(0, 1, 8), rng.normal(1, 1, 8)),
        "nine and nine": (rng.normal(0, 1, 9), rng.normal(1, 1, 9)),
        "one and one": (np.array([1.0]), np.array([2.0])),
        "eight and three hundred": (rng.normal(0, 1, 8), rng.normal(3, 1, 300)),
        "few ties": (np.array([1.0, 2, 2, 3]), np.array([2.0, 3, 4, 4, 5])),
        "five and six": (rng.normal(0, 1, 5), rng.normal(1, 1, 6)),
        "equal means": (np.array([1.0, 2, 3]), np.array([0.0, 2, 4])),
        "six apart": (np.arange(6.0), np.arange(6.0) + 10),
        "zero differences": (np.array([0.0, 1, 2, 3, 4]), np.array([1.0, 1, 4, 3, 5])),
    }


def pairs(least):
    return ((name, *pair) for name, pair in sets().items() if min(map(len, pair)) >= least)


def p_values(test):
    return numbers(test(alternative).pvalue for alternative in ALTERNATIVES)


def welch():
    for name, control, treatment in pairs(2):
        test = lambda alternative: stats.ttest_ind(treatment, control, equal_var=False, alternative=alternative)
        both, n, m = test("two-sided"), len(control) - 1, len(treatment) - 1
        pooled = (n * np.var(control, ddof=1) + m * np.var(treatment, ddof=1)) / (n + m)
        d, half = (treatment.mean() - control.mean()) / pooled ** 0.5, (n + m) / 2
        yield {
            "set": name, "call": "scipy.stats.ttest_ind(treatment, control, equal_var=False, alternative=..) and "
                                 ".confidence_interval(0.95) of the two-sided one; d and g by their definitions",
            "statistic": both.statistic, "df": both.df, "p": p_values(test), "interval": both.confidence_interval(0.95),
            "d": d, "g": d * np.exp(special.gammaln(half) - special.gammaln(half - 0.5)) / half ** 0.5,
        }


def paired():
    for name, control, treatment in pairs(2):
        count = min(len(control), len(treatment))
        control, treatment = control[:count], treatment[:count]
        apart = treatment - control
        if name in ("all ranks apart", "six apart"):
            continue
        test = lambda alternative: stats.ttest_rel(treatment, control, alternative=alternative)
        both = test("two-sided")
        yield {
            "set": name, "call": f"scipy.stats.ttest_rel(treatment[:{count}], control[:{count}], alternative=..) and "
                                 ".confidence_interval(0.95) of the two-sided one; d by its definition",
            "statistic": both.statistic, "df": both.df, "p": p_values(test), "interval": both.confidence_interval(0.95),
            "d": apart.mean() / apart.std(ddof=1),
        }


def mann_whitney():
    for name, control, treatment in pairs(1):
        test = lambda alternative: stats.mannwhitneyu(treatment, control, alternative=alternative)
        u = test("two-sided").statistic
        yield {
            "set": name, "call": "scipy.stats.mannwhitneyu(treatment, control, alternative=..)",
            "statistic": u, "p": p_values(test), "rank_biserial": 2 * u / (len(control) * len(treatment)) - 1,
        }


def permutation():
    def mean(treatment, control, axis):
        return np.mean(treatment, axis=axis) - np.mean(control, axis=axis)

    for name in ("few", "two of each", "few ties", "five and six", "equal means", "six apart", "zero differences"):
        control, treatment = sets()[name]
        test = lambda alternative: stats.permutation_test(
            (treatment, control), mean, vectorized=True, n_resamples=np.inf, alternative=alternative)
        yield {
            "set": name, "call": "scipy.stats.permutation_test((treatment, control), difference of means, "
                                 "n_resamples=inf, alternative=..)",
            "statistic": test("two-sided").statistic, "p": p_values(test),
        }


def sign_flip():
    for name in ("few", "two of each", "eight and eight", "nine and nine", "zero differences"):
        control, treatment = sets()[name]
        test = lambda alternative: stats.permutation_test(
            (treatment - control,), np.mean, permutation_type="samples", vectorized=True, n_resamples=np.inf,
            alternative=alternative)
        yield {
            "set": name, "call": "scipy.stats.permutation_test((treatment - control,), mean, "
                                 "permutation_type='samples', n_resamples=inf, alternative=..)",
            "statistic": test("two-sided").statistic, "p": p_values(test),
        }


def bootstrap():
    rng = np.random.default_rng(8)
    statistics = {"mean": np.mean, "median": np.median, "variance": lambda x, axis: np.var(x, axis=axis, ddof=1)}
    for name, sample in [("normal", rng.normal(0, 1, 20)), ("skewed", rng.exponential(1, 15)), ("few", rng.normal(3, 1, 4))]:
        for statistic, function in statistics.items():
            count, seed = 199, 11
            # SciPy draws its resamples by this very call, so they are known.
            drawn = np.random.default_rng(seed).integers(0, len(sample), (count, len(sample)))
            case = {"set": name, "statistic": statistic, "samples": numbers(sample), "resamples": drawn.tolist()}
            for method in ("percentile", "BCa"):
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    found = stats.bootstrap(
                        (sample,), function, n_resamples=count, method=method, rng=np.random.default_rng(seed))
                assert np.array_equal(found.bootstrap_distribution, function(sample[drawn], axis=-1))
                low, high = found.confidence_interval
                if np.isfinite([low, high]).all():
                    case[method] = [low, high]
            case["call"] = "scipy.stats.bootstrap((samples,), statistic, n_resamples=199, method=.., confidence_level=0.95)"
            yield case


def bootstrap_of_two():
    rng = np.random.default_rng(10)
    control, treatment = rng.normal(0, 1, 9), rng.exponential(1, 14)
    count, seed = 199, 12
    draws = np.random.default_rng(seed)
    drawn = [draws.integers(0, len(sample), (count, len(sample))) for sample in (control, treatment)]

    def difference(control, treatment, axis):
        return np.mean(treatment, axis=axis) - np.mean(control, axis=axis)

    case = {"control": numbers(control), "treatment": numbers(treatment), "resamples": [part.tolist() for part in drawn],
            "call": "scipy.stats.bootstrap((control, treatment), difference of means, n_resamples=199, method=.., "
                    "confidence_level=0.95)"}
    for method in ("percentile", "BCa"):
        found = stats.bootstrap(
            (control, treatment), difference, n_resamples=count, method=method, rng=np.random.default_rng(seed))
        assert np.array_equal(found.bootstrap_distribution, difference(control[drawn[0]], treatment[drawn[1]], axis=-1))
        case[method] = list(found.confidence_interval)
    yield case


def clopper_pearson():
    for successes, trials in [(0, 10), (10, 10), (1, 3), (3, 10), (50, 100), (1, 1), (5000, 10000), (499_000, 1_000_000),
                              (3, 1_000_000)]:
        for confidence in (0.9, 0.95, 0.999):
            # `binomtest(..).proportion_ci(.., method='exact')` is the same, but finds its ends to 2e-12 only.
            rough = stats.binomtest(successes, trials).proportion_ci(confidence, method="exact")
            tail, misses = (1 - confidence) / 2, trials - successes
            lower = stats.beta.ppf(tail, successes, misses + 1) if successes else 0.0
            upper = stats.beta.isf(tail, successes + 1, misses) if misses else 1.0
            assert np.allclose([lower, upper], rough, rtol=0, atol=1e-11)
            yield {
                "call": f"scipy.stats.beta.ppf({tail}, {successes}, {misses + 1}), .isf({tail}, {successes + 1}, {misses})",
                "successes": successes, "trials": trials, "confidence": confidence, "lower": lower, "upper": upper,
            }


def corrections():
    rng = np.random.default_rng(9)
    for p in (rng.uniform(0, 0.2, 12), np.array([0.01, 0.01, 0.04, 0.03]), np.array([1e-300, 0.5, 1.0, 0.0]), np.array([0.02])):
        yield {
            "call": "statsmodels multipletests(p, method='holm'), scipy.stats.false_discovery_control(p, method='bh')",
            "p": numbers(p), "holm": numbers(multipletests(p, method="holm")[1]),
            "benjamini_hochberg": numbers(stats.false_discovery_control(p, method="bh")),
        }


def main():
    makers = (welch, paired, mann_whitney, permutation, sign_flip, bootstrap, bootstrap_of_two, clopper_pearson, corrections)
    reference = {"scipy": scipy.__version__, "numpy": np.__version__, "statsmodels": statsmodels.__version__}
    reference["sets"] = {name: [numbers(control), numbers(treatment)] for name, (control, treatment) in sets().items()}
    reference |= {maker.__name__: list(maker()) for maker in makers}
    json.dump(reference, sys.stdout, default=float, separators=(",", ":"))
    print()


main()

//! Tails and quantiles of the normal, Student's t and beta distributions, exact far out into the tails.
//!
//! Error function and log-gamma are libm's. The incomplete beta function runs its continued fraction until it has
//! converged (statrs stops after 140 terms, 0.2 % off for a million trials), and quantiles are found by bisection of the
//! tail itself, so both are as good as the tail: to about 1e-15 times the number of samples.

use std::f64::consts::FRAC_1_SQRT_2;

/// The probability that a standard normal number is greater than `z`.
pub(super) fn normal_upper(z: f64) -> f64 {
    0.5 * libm::erfc(z * FRAC_1_SQRT_2)
}

/// The `z` that a standard normal number exceeds with probability `upper`.
pub(super) fn normal_quantile(upper: f64) -> f64 {
    match upper {
        0.5 => 0.0,
        upper if upper > 0.5 => -normal_quantile(1.0 - upper),
        upper => falling_to(upper, 64.0, normal_upper),
    }
}

/// The probability that Student's t with `freedom` degrees is greater than `t`.
pub(super) fn t_upper(t: f64, freedom: f64) -> f64 {
    let square = t * t;
    let sum = freedom + square;
    let both = if square.is_finite() { beta_lower(freedom / 2.0, 0.5, freedom / sum, square / sum) } else { 0.0 };
    if t >= 0.0 { 0.5 * both } else { 1.0 - 0.5 * both }
}

/// The `t` that Student's t with `freedom` degrees exceeds with probability `upper`, for `upper` below a half.
pub(super) fn t_quantile(upper: f64, freedom: f64) -> f64 {
    falling_to(upper, f64::MAX, |t| t_upper(t, freedom))
}

/// The `x` below which a beta distributed number lies with probability `lower`.
pub(super) fn beta_quantile(lower: f64, a: f64, b: f64) -> f64 {
    falling_to(-lower, 1.0, |x| -beta_lower(a, b, x, 1.0 - x))
}

/// The probability that a beta distributed number is below `x`; `y` is `1 - x`, given beside it for its digits.
///
/// The regularised incomplete beta function (DLMF 8.17.22, by Lentz's method).
pub(super) fn beta_lower(a: f64, b: f64, x: f64, y: f64) -> f64 {
    if x <= 0.0 || y <= 0.0 {
        return if x <= 0.0 { 0.0 } else { 1.0 };
    }
    let log = |x: f64, y: f64| if x > 0.5 { (-y).ln_1p() } else { x.ln() };
    let scale = libm::lgamma(a + b) - libm::lgamma(a) - libm::lgamma(b);
    let front = (scale + a * log(x, y) + b * log(y, x)).exp();
    // The fraction converges on the nearer side of the mean.
    if x < (a + 1.0) / (a + b + 2.0) {
        front * beta_fraction(a, b, x) / a
    } else {
        1.0 - front * beta_fraction(b, a, y) / b
    }
}

fn beta_fraction(a: f64, b: f64, x: f64) -> f64 {
    let away = |value: f64| if value.abs() < 1e-300 { 1e-300 } else { value };
    let (mut c, mut d) = (1.0, 1.0 / away(1.0 - (a + b) * x / (a + 1.0)));
    let mut fraction = d;
    let mut m = 1.0;
    loop {
        let even = m * (b - m) * x / ((a + 2.0 * m - 1.0) * (a + 2.0 * m));
        d = 1.0 / away(1.0 + even * d);
        c = away(1.0 + even / c);
        fraction *= c * d;
        let odd = -(a + m) * (a + b + m) * x / ((a + 2.0 * m) * (a + 2.0 * m + 1.0));
        d = 1.0 / away(1.0 + odd * d);
        c = away(1.0 + odd / c);
        fraction *= c * d;
        // About the root of `a + b` terms are needed; the bound only makes sure that it ends.
        if (c * d - 1.0).abs() <= f64::EPSILON || m > 1e6 {
            return fraction;
        }
        m += 1.0;
    }
}

/// The positive number, at most `most`, at which a falling function comes down to `target`, to the last bit.
///
/// Positive floats are ordered as their bits are, so halving the bits reaches any magnitude in 63 steps.
fn falling_to(target: f64, most: f64, function: impl Fn(f64) -> f64) -> f64 {
    let (mut low, mut high) = (0, most.to_bits());
    while high - low > 1 {
        let middle = low + (high - low) / 2;
        if function(f64::from_bits(middle)) > target {
            low = middle;
        } else {
            high = middle;
        }
    }
    f64::from_bits(high)
}

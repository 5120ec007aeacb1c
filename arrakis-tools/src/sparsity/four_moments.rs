//! The first four moments of numbers that come batch by batch.

use arrakis_core::Result;
use tch::{Kind, Tensor};

/// Count, mean, and the sums of the second to fourth powers of what is left without it.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct FourMoments {
    count: f64,
    mean: f64,
    second: f64,
    third: f64,
    fourth: f64,
}

impl FourMoments {
    /// The moments of all numbers of a tensor.
    pub(crate) fn of(values: &Tensor) -> Result<Self> {
        let mean = values.f_mean(Kind::Double)?;
        let left = values.f_sub(&mean)?;
        let power = |exponent: i64| left.f_pow_tensor_scalar(exponent)?.f_sum(Kind::Double)?.f_double_value(&[]);
        Ok(Self {
            count: values.numel() as f64,
            mean: mean.f_double_value(&[])?,
            second: power(2)?,
            third: power(3)?,
            fourth: power(4)?,
        })
    }

    /// The moments of both together, after Pébay (2008).
    pub(crate) fn merged(self, other: Self) -> Self {
        if self.count == 0.0 {
            return other;
        }
        let (a, b) = (self.count, other.count);
        let n = a + b;
        let apart = other.mean - self.mean;
        Self {
            count: n,
            mean: self.mean + apart * b / n,
            second: self.second + other.second + apart.powi(2) * a * b / n,
            third: self.third
                + other.third
                + apart.powi(3) * a * b * (a - b) / (n * n)
                + 3.0 * apart * (a * other.second - b * self.second) / n,
            fourth: self.fourth
                + other.fourth
                + apart.powi(4) * a * b * (a * a - a * b + b * b) / n.powi(3)
                + 6.0 * apart.powi(2) * (a * a * other.second + b * b * self.second) / (n * n)
                + 4.0 * apart * (a * other.third - b * self.third) / n,
        }
    }

    /// The fourth moment over the square of the second: 3 for a normal law.
    pub(crate) fn kurtosis(self) -> f64 {
        self.count * self.fourth / (self.second * self.second)
    }
}

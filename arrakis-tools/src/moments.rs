//! Mean and covariance of vectors that come batch by batch, and the principal directions they give.

use arrakis_core::{Error, Result};
use tch::{Device, Kind, Tensor};

/// The moments of the vectors seen so far, in double.
pub(crate) struct Moments {
    count: usize,
    /// `[width]`
    mean: Tensor,
    /// Sum of outer products of what is left without the mean: `[width, width]`.
    scatter: Tensor,
    /// The same sum, each number for itself and merged apart from `scatter`: `[width]`.
    squares: Tensor,
}

impl Moments {
    /// Moments of no vector yet.
    pub(crate) fn new(width: usize, device: Device) -> Result<Self> {
        let (width, options) = (width as i64, (Kind::Double, device));
        Ok(Self {
            count: 0,
            mean: Tensor::f_zeros([width], options)?,
            scatter: Tensor::f_zeros([width, width], options)?,
            squares: Tensor::f_zeros([width], options)?,
        })
    }

    /// Adds vectors (`[token, width]`) by the pairwise update, which never subtracts large numbers.
    ///
    /// Source: Chan et al., "Updating formulae and a pairwise algorithm for computing sample variances" (1979).
    pub(crate) fn add(&mut self, vectors: &Tensor) -> Result<()> {
        let count = vectors.size()[0] as usize;
        if count == 0 {
            return Ok(());
        }
        let (old, new) = (self.count as f64, count as f64);
        let total = old + new;
        let mean = vectors.f_mean_dim(0, false, Kind::Double)?;
        let left = vectors.f_sub(&mean)?;
        let apart = mean.f_sub(&self.mean)?;
        let between = old * new / total;
        self.scatter = self
            .scatter
            .f_add(&left.f_transpose(0, 1)?.f_matmul(&left)?)?
            .f_add(&apart.f_outer(&apart)?.f_mul_scalar(between)?)?;
        let squares = left.f_square()?.f_sum_dim_intlist(0, false, Kind::Double)?;
        self.squares = self.squares.f_add(&squares)?.f_add(&apart.f_square()?.f_mul_scalar(between)?)?;
        self.mean = self.mean.f_add(&apart.f_mul_scalar(new / total)?)?;
        self.count += count;
        Ok(())
    }

    /// The mean: `[width]`.
    pub(crate) const fn mean(&self) -> &Tensor {
        &self.mean
    }

    /// The covariance, over one less than the vectors: `[width, width]`.
    pub(crate) fn covariance(&self) -> Result<Tensor> {
        if self.count < 2 {
            let why = format!("a covariance needs two tokens at least and there is {}; give more text", self.count);
            return Err(Error::Invalid { what: "corpus".into(), why });
        }
        Ok(self.scatter.f_div_scalar((self.count - 1) as f64)?)
    }

    /// A variance that is no more than the rounding of the mean.
    pub(crate) fn rounding(&self) -> Result<f64> {
        let size = self.mean.f_square()?.f_sum(Kind::Double)?.f_double_value(&[])?;
        Ok((size * 1e-24).max(f64::MIN_POSITIVE))
    }

    /// The variances summed, each merged for itself.
    pub(crate) fn summed_variance(&self) -> Result<f64> {
        Ok(self.squares.f_sum(Kind::Double)?.f_double_value(&[])? / (self.count.max(2) - 1) as f64)
    }
}

/// The eigenvectors of a covariance, from the greatest variance to the least.
pub(crate) struct Principal {
    /// Variances: `[component]`.
    pub(crate) variances: Tensor,
    /// Unit directions, their entry of greatest absolute value positive: `[component, width]`.
    pub(crate) directions: Tensor,
}

impl Principal {
    /// The principal directions of a covariance (`[width, width]`).
    pub(crate) fn of(covariance: &Tensor) -> Result<Self> {
        let (variances, vectors) = covariance.f_linalg_eigh("L")?;
        let directions = vectors.f_transpose(0, 1)?.f_flip([0])?.f_contiguous()?;
        let greatest = directions.f_abs()?.f_argmax(1, true)?;
        let sign = directions.f_gather(1, &greatest, false)?.f_sign()?;
        Ok(Self { variances: variances.f_flip([0])?, directions: directions.f_mul(&sign)? })
    }
}

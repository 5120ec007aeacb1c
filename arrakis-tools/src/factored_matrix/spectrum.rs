//! Singular values, eigenvalues and norms of a factored matrix, from its factors.

use arrakis_core::{Error, Result};
use tch::{Kind, Tensor};

use super::FactoredMatrix;
use crate::gap;

/// A singular value decomposition `U diag(S) Vᵀ`.
#[derive(Debug)]
pub struct Svd {
    /// Left singular vectors, the columns: `[…, rows, rank]`.
    pub u: Tensor,
    /// Singular values, greatest first: `[…, rank]`.
    pub singular_values: Tensor,
    /// Right singular vectors, the columns: `[…, columns, rank]`.
    pub v: Tensor,
}

impl FactoredMatrix {
    /// The singular value decomposition; `rank` is the least of rows, columns and the inner dimension.
    ///
    /// With `a = Q R` and `bᵀ = Q' R'` the product is `Q (R R'ᵀ) Q'ᵀ`, and only the small matrix is decomposed.
    pub fn svd(&self) -> Result<Svd> {
        let (left, left_rest) = Tensor::f_linalg_qr(&self.a, "reduced")?;
        let (right, right_rest) = Tensor::f_linalg_qr(&self.b.f_transpose(-2, -1)?, "reduced")?;
        let small = left_rest.f_matmul(&right_rest.f_transpose(-2, -1)?)?;
        let (u, singular_values, v) = small.f_svd(true, true)?;
        Ok(Svd { u: left.f_matmul(&u)?, singular_values, v: right.f_matmul(&v)? })
    }

    /// The Frobenius norm: `[…]`.
    pub fn norm(&self) -> Result<Tensor> {
        let (_, left) = Tensor::f_linalg_qr(&self.a, "r")?;
        let (_, right) = Tensor::f_linalg_qr(&self.b.f_transpose(-2, -1)?, "r")?;
        let small = left.f_matmul(&right.f_transpose(-2, -1)?)?;
        Ok(small.f_norm_scalaropt_dim(2, [-2, -1], false)?)
    }

    /// The eigenvalues that may differ from 0, of a square product, in no order: complex, `[…, rank]`.
    ///
    /// Those of `a b` are those of the small `b a`, and zeros.
    pub fn eigenvalues(&self) -> Result<Tensor> {
        self.square()?;
        let small = if self.inner() <= self.rows() { self.b.f_matmul(&self.a)? } else { self.dense()? };
        Ok(small.f_linalg_eigvals()?)
    }

    /// The sum of the eigenvalues' real parts over the sum of their absolute values, in -1..=1: `[…]`.
    ///
    /// 1 where every eigenvalue is positive, as of a head that copies what it moves (Elhage et al. 2021).
    pub fn copying_score(&self) -> Result<Tensor> {
        let eigenvalues = self.eigenvalues()?;
        let real = eigenvalues.f_real()?.f_sum_dim_intlist(-1, false, None::<Kind>)?;
        Ok(real.f_div(&eigenvalues.f_abs()?.f_sum_dim_intlist(-1, false, None::<Kind>)?)?)
    }

    /// The sum of the diagonal of a square product: `[…]`.
    pub fn trace(&self) -> Result<Tensor> {
        Ok(self.diagonal()?.f_sum_dim_intlist(-1, false, None::<Kind>)?)
    }

    /// The diagonal of a square product: `[…, rows]`.
    pub fn diagonal(&self) -> Result<Tensor> {
        self.square()?;
        Ok(self.a.f_mul(&self.b.f_transpose(-2, -1)?)?.f_sum_dim_intlist(-1, false, None::<Kind>)?)
    }

    /// What is left without the left singular vectors, `diag(S) Vᵀ`: `[…, rank, columns]`, with the same norm.
    pub fn collapse_left(&self) -> Result<Tensor> {
        let Svd { singular_values, v, .. } = self.svd()?;
        Ok(v.f_transpose(-2, -1)?.f_mul(&singular_values.f_unsqueeze(-1)?)?)
    }

    /// What is left without the right singular vectors, `U diag(S)`: `[…, rows, rank]`, with the same norm.
    pub fn collapse_right(&self) -> Result<Tensor> {
        let Svd { u, singular_values, .. } = self.svd()?;
        Ok(u.f_mul(&singular_values.f_unsqueeze(-2)?)?)
    }

    /// The same product with orthogonal factors that share the singular values evenly: `U √S` and `√S Vᵀ`.
    pub fn make_even(&self) -> Result<Self> {
        let Svd { u, singular_values, v } = self.svd()?;
        let root = singular_values.f_sqrt()?.f_unsqueeze(-2)?;
        Self::new(u.f_mul(&root)?, v.f_mul(&root)?.f_transpose(-2, -1)?)
    }

    /// The norm of this product times `right`, over the product of their norms, in 0..=1: `[…]`.
    ///
    /// The composition of two circuits (Elhage et al. 2021); `1 / √d_model` in the mean square for random ones.
    pub fn composition(&self, right: &Self) -> Result<Tensor> {
        Ok(self.chain(right)?.norm()?.f_div(&self.norm()?.f_mul(&right.norm()?)?)?)
    }

    fn square(&self) -> Result<()> {
        if self.rows() == self.columns() {
            return Ok(());
        }
        let why = format!("{} rows and {} columns; this is asked of a square one", self.rows(), self.columns());
        Err(Error::Invalid { what: "factored matrix".into(), why })
    }
}

impl Svd {
    /// The greatest absolute difference of this decomposition from rows of the matrix, whose places `dense_rows` is given.
    ///
    /// A few rows are formed at once, and of more than `most` rows that many, evenly spread.
    pub(crate) fn product_gap(&self, most: i64, dense_rows: impl Fn(&[i64]) -> Result<Tensor>) -> Result<f64> {
        let rows = self.u.size()[0];
        let rest = self.v.f_mul(&self.singular_values)?.f_transpose(0, 1)?;
        let wanted: Vec<i64> = (0..rows.min(most)).map(|place| place * rows / rows.min(most)).collect();
        let mut worst = 0.0;
        for some in wanted.chunks(ROWS) {
            let places = Tensor::f_from_slice(some)?.f_to_device(self.u.device())?;
            let found = self.u.f_index_select(0, &places)?.f_matmul(&rest)?;
            worst = gap::worse(worst, gap::gap(&found, &dense_rows(some)?)?);
        }
        Ok(worst)
    }
}

/// Rows of a product that are formed at once.
const ROWS: usize = 64;

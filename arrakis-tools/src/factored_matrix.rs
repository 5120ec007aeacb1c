//! A matrix as the product of two thin ones, which is never formed.

mod head_circuit;
mod spectrum;

use arrakis_core::{Error, Result};
use tch::Tensor;

pub use head_circuit::{CircuitSpectrum, HeadCircuit};
pub(crate) use head_circuit::{eigenvalue_grid, sorted};
pub use spectrum::Svd;

/// The product `a b` of two factors, kept apart: `[…, rows, columns]` from `[…, rows, inner]` and `[…, inner, columns]`.
///
/// The leading dimensions of the factors broadcast. What is asked of the product is computed from the factors, at a cost
/// in `inner` where the product's would be in `rows` and `columns`; only [`dense`](Self::dense) forms it.
/// Source: Elhage et al., "A mathematical framework for transformer circuits" (2021), and TransformerLens'
/// `FactoredMatrix`, whose words are kept.
///
/// ```
/// # use arrakis_tools::FactoredMatrix;
/// # use tch::{Device, Kind, Tensor};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let a = Tensor::ones([100, 2], (Kind::Double, Device::Cpu));
/// let product = FactoredMatrix::new(a.shallow_clone(), a.transpose(0, 1))?;
/// assert_eq!(product.size(), [100, 100]);
/// assert!((product.trace()?.double_value(&[]) - 200.0).abs() < 1e-9);
/// assert!((product.svd()?.singular_values.double_value(&[0]) - 200.0).abs() < 1e-9);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct FactoredMatrix {
    a: Tensor,
    b: Tensor,
}

impl FactoredMatrix {
    /// The product of `a` (`[…, rows, inner]`) and `b` (`[…, inner, columns]`), of one float kind.
    pub fn new(a: Tensor, b: Tensor) -> Result<Self> {
        let (left, right) = (a.size(), b.size());
        let invalid = |why: String| Err(Error::Invalid { what: "factors of a matrix".into(), why });
        if left.len() < 2 || right.len() < 2 || left[left.len() - 1] != right[right.len() - 2] {
            return invalid(format!("shapes {left:?} and {right:?} where […, rows, n] and […, n, columns] are wanted"));
        }
        if a.kind() != b.kind() || !a.is_floating_point() {
            return invalid(format!("kinds {:?} and {:?} where one float kind is wanted", a.kind(), b.kind()));
        }
        let leading = |size: &[i64]| size[..size.len() - 2].iter().rev().copied().collect::<Vec<_>>();
        if leading(&left).iter().zip(leading(&right)).any(|(a, b)| *a != b && *a != 1 && b != 1) {
            return invalid(format!("the leading dimensions of shapes {left:?} and {right:?} do not broadcast"));
        }
        Ok(Self { a, b })
    }

    /// The left factor: `[…, rows, inner]`.
    pub const fn a(&self) -> &Tensor {
        &self.a
    }

    /// The right factor: `[…, inner, columns]`.
    pub const fn b(&self) -> &Tensor {
        &self.b
    }

    /// Both factors.
    pub fn into_factors(self) -> (Tensor, Tensor) {
        (self.a, self.b)
    }

    /// The rows of the product.
    #[must_use]
    pub fn rows(&self) -> i64 {
        self.a.size()[self.a.dim() - 2]
    }

    /// The columns of the product.
    #[must_use]
    pub fn columns(&self) -> i64 {
        self.b.size()[self.b.dim() - 1]
    }

    /// The dimension between the factors; the rank of the product is at most this.
    #[must_use]
    pub fn inner(&self) -> i64 {
        self.a.size()[self.a.dim() - 1]
    }

    /// The shape of the product, broadcast leading dimensions first.
    #[must_use]
    pub fn size(&self) -> Vec<i64> {
        [&self.leading()[..], &[self.rows(), self.columns()]].concat()
    }

    fn leading(&self) -> Vec<i64> {
        let (left, right) = (self.a.size(), self.b.size());
        let (left, right) = (&left[..left.len() - 2], &right[..right.len() - 2]);
        let (long, short) = if left.len() >= right.len() { (left, right) } else { (right, left) };
        let mut leading = long.to_vec();
        for (len, other) in leading.iter_mut().rev().zip(short.iter().rev()) {
            if *len == 1 {
                *len = *other;
            }
        }
        leading
    }

    /// The product itself: `[…, rows, columns]`.
    pub fn dense(&self) -> Result<Tensor> {
        Ok(self.a.f_matmul(&self.b)?)
    }

    /// The transposed product: `[…, columns, rows]`.
    pub fn transpose(&self) -> Result<Self> {
        Ok(Self { a: self.b.f_transpose(-2, -1)?, b: self.a.f_transpose(-2, -1)? })
    }

    /// The product times a tensor (`[…, columns, n]`): `[…, rows, n]`.
    pub fn matmul(&self, right: &Tensor) -> Result<Self> {
        self.same_kind(right)?;
        Self::new(self.a.shallow_clone(), self.b.f_matmul(right)?)
    }

    /// A tensor (`[…, n, rows]`) times the product: `[…, n, columns]`.
    pub fn left_matmul(&self, left: &Tensor) -> Result<Self> {
        self.same_kind(left)?;
        Self::new(left.f_matmul(&self.a)?, self.b.shallow_clone())
    }

    /// The product times another product, with the lesser of the two inner dimensions.
    pub fn chain(&self, right: &Self) -> Result<Self> {
        self.same_kind(&right.a)?;
        if self.columns() != right.rows() {
            let why = format!("{} columns cannot meet {} rows", self.columns(), right.rows());
            return Err(Error::Invalid { what: "product of factored matrices".into(), why });
        }
        let between = self.b.f_matmul(&right.a)?;
        if self.inner() <= right.inner() {
            Self::new(self.a.shallow_clone(), between.f_matmul(&right.b)?)
        } else {
            Self::new(self.a.f_matmul(&between)?, right.b.shallow_clone())
        }
    }

    /// What row vectors (`[…, n, rows]`) become: `[…, n, columns]`, dense.
    pub fn apply(&self, vectors: &Tensor) -> Result<Tensor> {
        self.same_kind(vectors)?;
        Ok(vectors.f_matmul(&self.a)?.f_matmul(&self.b)?)
    }

    /// The product at an index of the first leading dimension.
    pub fn get(&self, index: i64) -> Result<Self> {
        let leading = self.leading();
        let len = leading.first().copied().ok_or_else(|| Error::Invalid {
            what: "factored matrix".into(),
            why: "it is a single one, so there is nothing to index; choose rows or columns".into(),
        })?;
        if !(0..len).contains(&index) {
            return Err(Error::OutOfRange { what: "matrix".into(), index, len });
        }
        let at = |factor: &Tensor| -> Result<Tensor> {
            let size = factor.size();
            let whole = [&leading[..], &size[size.len() - 2..]].concat();
            Ok(factor.f_expand(&whole, false)?.f_get(index)?)
        };
        Ok(Self { a: at(&self.a)?, b: at(&self.b)? })
    }

    /// The product at these rows, in this order: `[…, chosen, columns]`.
    pub fn select_rows(&self, rows: &[i64]) -> Result<Self> {
        let places = places("row", rows, self.rows(), &self.a)?;
        Ok(Self { a: self.a.f_index_select(-2, &places)?, b: self.b.shallow_clone() })
    }

    /// The product at these columns, in this order: `[…, rows, chosen]`.
    pub fn select_columns(&self, columns: &[i64]) -> Result<Self> {
        let places = places("column", columns, self.columns(), &self.b)?;
        Ok(Self {
            a: self.a.shallow_clone(),
            b: self.b.f_transpose(-1, -2)?.f_index_select(-2, &places)?.f_transpose(-1, -2)?,
        })
    }

    fn same_kind(&self, other: &Tensor) -> Result<()> {
        if self.a.kind() == other.kind() {
            return Ok(());
        }
        let why = format!("kinds {:?} and {:?}; convert one of them", self.a.kind(), other.kind());
        Err(Error::Invalid { what: "product with a factored matrix".into(), why })
    }
}

impl Clone for FactoredMatrix {
    fn clone(&self) -> Self {
        Self { a: self.a.shallow_clone(), b: self.b.shallow_clone() }
    }
}

fn places(what: &str, wanted: &[i64], len: i64, on: &Tensor) -> Result<Tensor> {
    match wanted.iter().find(|index| !(0..len).contains(*index)) {
        None => Ok(Tensor::f_from_slice(wanted)?.f_to_device(on.device())?),
        Some(index) => Err(Error::OutOfRange { what: what.into(), index: *index, len }),
    }
}

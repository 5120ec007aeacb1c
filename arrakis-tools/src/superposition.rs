//! Questions about how activations and weights share their space: spread, principal directions, interference.

mod concepts;
mod covariance;
mod geometry;
mod interpolate;
mod reconstruct;

pub use concepts::{Concepts, PrincipalConcepts, Through};
pub use covariance::{ActivationCovariance, Covariance};
pub use geometry::{FeatureGeometry, Geometry, Side};
pub use interpolate::{Interpolate, Interpolated, RowInterpolated};
pub use reconstruct::{Reconstruct, Reconstructed};

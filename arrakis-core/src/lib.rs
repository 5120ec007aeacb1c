//! Sites, hooks, traces, edits, the `Model` trait and the `Tool` trait: what models, tools and plugins share.

pub mod answer;
mod dims;
mod error;
pub mod number;
mod site;

pub use answer::{Answer, Axis, Grid, Line, Part, Ranking, Scale, Series, Stack};
pub use dims::{Dims, NormKind, Residual};
pub use error::{Error, Result, nearest_name};
pub use site::{AxisKind, HookPoint, Site};

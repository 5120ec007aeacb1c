//! Questions about the residual stream as a bus: who writes along a direction, who reads it, and what flows where.

mod flow;
pub(crate) mod maps;
mod places;
mod readers;
mod writers;

pub use flow::{Flow, Gradient, RowFlow, WriteReadFlow};
pub use readers::{Readers, WriteReadReaders};
pub use writers::{WriteReadWriters, Writers};

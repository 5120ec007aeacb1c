//! Questions about the order of layers: what a run makes of it when they are replaced, deleted, repeated or moved.

mod chain;
mod each;
mod layers;

pub use each::{EachLayer, SurgeryEach};
pub use layers::{LayerPlan, LayerSurgery, SurgeryLayers};

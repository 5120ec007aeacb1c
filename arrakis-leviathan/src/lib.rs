//! Language models that score positions by cross-correlation, beside attention: the models, their training, the comparison.

mod adamw;
mod checkpoint;
pub mod compare;
mod config;
mod error;
mod evaluation;
mod feed_forward;
mod group;
mod layout;
mod leviathan;
mod linear;
pub mod metrics;
pub mod mixer;
mod mixing;
mod network;
mod notation;
mod parameters;
mod report;
pub mod sites;
mod text;
mod trainer;
mod training;
mod vocabulary;
mod watching;
pub mod weights;

pub use checkpoint::Folder;
pub use config::{Config, FAMILY, FeedForward, Lags, Mixer, Positions};
pub use error::{Error, Result};
pub use evaluation::{Evaluation, evaluate};
pub(crate) use layout::Layout;
pub use leviathan::Leviathan;
pub use report::report;
pub use text::Text;
pub use trainer::{Trained, Trainer};
pub use training::Training;
pub use vocabulary::{Cut, Vocabulary};

//! Experiments: tools asked of a model, each run logged as plain files and found again.

mod activations;
mod bench;
mod error;
mod git;
mod log;
mod parameters;
mod plugin;
mod record;
mod replace;
mod tensors;
mod writing;

pub use activations::{ActivationStream, Activations, Streamed};
pub use bench::{Asked, Bench, FOLDER};
pub use error::{Error, Result};
pub use log::Log;
pub use plugin::{Found, Inspection, Plugin, load_plugin, plugin_files, plugins};
pub use record::{Environment, FORMAT, Git, ModelRecord, Record, Status, device_name, dtype_name};
pub use replace::replace;
pub use tensors::{read_tensors, write_tensors};

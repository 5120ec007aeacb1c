//! Checkpoints, tokenizers, one decoder and the families of Arrakis.

pub mod architecture;
mod attention;
mod block;
pub mod checkpoint;
mod config;
mod decoder;
mod digest;
pub mod error;
mod families;
pub mod generate;
mod gguf;
mod linear;
mod load;
mod locate;
mod mapped;
mod mask;
mod mlp;
mod names;
mod norm;
pub mod parity;
mod points;
mod reader;
pub mod rope;
mod safetensors;
pub mod tensors;
pub mod tokenizer;
mod weights;

pub use architecture::Architecture;
pub use checkpoint::Checkpoint;
pub use decoder::Decoder;
pub use error::{Error, Result};
pub use families::families;
pub use generate::{Sampling, generate, greedy};
pub use load::{LoadOptions, load};
pub use tensors::Tensors;
pub use tokenizer::Tokenizer;

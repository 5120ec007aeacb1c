//! Checkpoints, tokenizers, one decoder and the families of Arrakis.

pub mod checkpoint;
pub mod error;
mod gguf;
mod mapped;
mod safetensors;
pub mod tensors;
pub mod tokenizer;

pub use checkpoint::Checkpoint;
pub use error::{Error, Result};
pub use tensors::Tensors;
pub use tokenizer::Tokenizer;

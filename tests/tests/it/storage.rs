//! Checkpoints on disk: what is sound is read to the bit, what is damaged is an error that names it.

mod damage;
mod gguf;
mod hub;
mod pickle;
mod safetensors;
mod tokenizers;

use std::path::Path;

use arrakis_models::{Checkpoint, Error};

/// Opens a folder or file of which the path is plain text.
fn open(path: &Path) -> Result<Checkpoint, Error> {
    Checkpoint::open(path.to_str().unwrap())
}

/// The message of an error that must come.
fn message<T>(result: Result<T, Error>) -> String {
    match result {
        Ok(_) => panic!("this should have been refused"),
        Err(error) => error.to_string(),
    }
}

//! A checkpoint on disk: its config, its tensors and its tokenizer, from a folder or a GGUF file.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::{Map, Value};

use crate::error::{Error, Result};
use crate::form;
use crate::gguf::{Gguf, Metadata};
use crate::locate::{self, Located};
use crate::tensors::Tensors;
use crate::tokenizer::{self, Tokenizer};

/// An opened checkpoint, in Hugging Face's names whatever the file's format.
///
/// ```no_run
/// # fn main() -> arrakis_models::error::Result<()> {
/// let checkpoint = arrakis_models::Checkpoint::open("HuggingFaceTB/SmolLM2-135M")?;
/// for name in checkpoint.tensors.names() {
///     println!("{name} {:?}", checkpoint.tensors.shape(name));
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Checkpoint {
    /// What `config.json` says, or what it would say.
    pub config: Map<String, Value>,
    /// The weights, mapped.
    pub tensors: Tensors,
    /// The folder or file it was opened from.
    pub source: PathBuf,
    /// The metadata of a GGUF file, which have its tokenizer.
    metadata: Option<Arc<Metadata>>,
}

impl Checkpoint {
    /// Opens a folder with `config.json` and weights, a `.gguf` file, or a hub id (`org/name`).
    ///
    /// Weights are safetensors or, where there are none, PyTorch's `.bin`, which is read and never run.
    ///
    /// A hub id is looked for in the local Hugging Face cache and downloaded into it if it is not there, unless
    /// `HF_HUB_OFFLINE` is set.
    ///
    /// # Errors
    /// A missing, damaged or unreadable file, by name; a model that is nowhere, with the places it was looked for.
    pub fn open(model: &str) -> Result<Self> {
        Self::read(locate::locate(model)?)
    }

    /// Opens a folder, a `.gguf` file, or a hub id that is in the given cache; never downloads.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_cached(model: &str, cache: &Path) -> Result<Self> {
        Self::read(locate::locate_offline(model, Some(cache))?)
    }

    /// The files of the weights.
    #[must_use]
    pub fn files(&self) -> Vec<&Path> {
        self.tensors.files()
    }

    /// The tokenizer that came with the weights.
    ///
    /// # Errors
    /// [`Error::NoTokenizer`] with what was looked for, or [`Error::Tokenizer`] if it cannot be used.
    pub fn tokenizer(&self) -> Result<Tokenizer> {
        self.tokenizer_later()()
    }

    /// Reads the tokenizer when it is called, also after the checkpoint is gone.
    pub(crate) fn tokenizer_later(&self) -> impl FnOnce() -> Result<Tokenizer> + Send + 'static {
        let (source, config, metadata) = (self.source.clone(), self.config.clone(), self.metadata.clone());
        move || match metadata {
            Some(metadata) => tokenizer::from_metadata(&source, &metadata),
            None => tokenizer::from_folder(&source, &config),
        }
    }

    /// Digests what the tokenizer is read from (blake3, hexadecimal), without reading it.
    pub(crate) fn tokenizer_digest_later(&self) -> impl FnOnce() -> Result<Option<String>> + Send + 'static {
        let (source, config, metadata) = (self.source.clone(), self.config.clone(), self.metadata.clone());
        move || match metadata {
            Some(metadata) => Ok(tokenizer::digest_of_metadata(&metadata)),
            None => tokenizer::digest_of_folder(&source, &config),
        }
    }

    fn read(located: Located) -> Result<Self> {
        match located {
            Located::Folder(folder) => Self::open_folder(&folder),
            Located::Gguf(path) => Self::open_gguf(&path),
        }
    }

    fn open_folder(folder: &Path) -> Result<Self> {
        let mut tensors = Tensors::default();
        form::read(folder, &mut tensors)?;
        let config = read_json(&folder.join("config.json"))?;
        Ok(Self { config, tensors, source: folder.to_owned(), metadata: None })
    }

    fn open_gguf(path: &Path) -> Result<Self> {
        let gguf = Gguf::open(path)?;
        let (config, tensors) = gguf.translate()?;
        Ok(Self { config, tensors, source: path.to_owned(), metadata: Some(Arc::new(gguf.metadata)) })
    }
}

/// A JSON file that holds one object.
pub(crate) fn read_json(path: &Path) -> Result<Map<String, Value>> {
    let text = fs::read(path).map_err(|cause| Error::Io { path: path.to_owned(), cause })?;
    serde_json::from_slice(&text).map_err(|e| Error::Damaged { path: path.to_owned(), what: e.to_string() })
}

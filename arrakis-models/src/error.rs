//! Everything that can go wrong between a model's name and its tensors.

use std::fmt::Write as _;
use std::io;
use std::path::PathBuf;

/// Result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong; each message names the file and the thing in it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The operating system refused.
    #[error("cannot read `{}`: {cause}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        cause: io::Error,
    },

    /// The model's name is no folder, no file and no repository of the local cache.
    #[error(
        "no model `{model}`: looked for {}; give a folder, a `.gguf` file, or a hub id with its owner, `OWNER/NAME`, \
         which is downloaded",
        listed(looked)
    )]
    NoSuchModel {
        /// The name given.
        model: String,
        /// Where it was looked for.
        looked: Vec<PathBuf>,
    },

    /// The model was not in the local cache and could not be downloaded.
    #[error("cannot download {file} of `{model}`: {cause}; a folder or a `.gguf` file needs no network")]
    Download {
        /// The name given.
        model: String,
        /// The file wanted, or what else was asked of the hub.
        file: String,
        /// What the system said.
        cause: String,
    },

    /// The model is not in the local cache, and downloads are switched off.
    #[error("`{model}` is not in the cache `{}`, and `HF_HUB_OFFLINE` forbids to download it", cache.display())]
    Offline {
        /// The name given.
        model: String,
        /// Where it was looked for.
        cache: PathBuf,
    },

    /// A file that is no model by itself.
    #[error("`{}` is no model: give a folder, a `.gguf` file or a hub id", path.display())]
    NoModelFile {
        /// The file.
        path: PathBuf,
    },

    /// A folder without weights of a known format.
    #[error(
        "`{}` has no `model.safetensors`, no `pytorch_model.bin`, the index of neither, and no `.gguf` file",
        folder.display()
    )]
    NoWeights {
        /// The folder.
        folder: PathBuf,
    },

    /// A pickle that names something of Python's that no state dict needs.
    #[error("`{}` asks for `{global}`, which is not supported in a state dict; nothing of it was run", path.display())]
    ForeignGlobal {
        /// The file.
        path: PathBuf,
        /// What it asks for, with its module.
        global: String,
    },

    /// A folder with several models.
    #[error("`{}` has several models: name one of {}", folder.display(), listed(files))]
    Ambiguous {
        /// The folder.
        folder: PathBuf,
        /// The candidates.
        files: Vec<PathBuf>,
    },

    /// A file that is not what its name says, or is cut short.
    #[error("`{}` is damaged: {what}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },

    /// A tensor whose place in its file cannot be right.
    #[error("tensor `{tensor}` in `{}`: {what}", path.display())]
    DamagedTensor {
        /// The file.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// What is wrong.
        what: String,
    },

    /// A file that is sound but says something Arrakis does not do.
    #[error("`{}`: {what} is not supported", path.display())]
    Unsupported {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },

    /// A shard that the index names does not exist.
    #[error("`{}` puts tensor `{tensor}` in `{shard}`, which does not exist beside it", index.display())]
    MissingShard {
        /// The index.
        index: PathBuf,
        /// The shard.
        shard: String,
        /// The tensor.
        tensor: String,
    },

    /// A tensor is not in the shard in which the index puts it.
    #[error("`{}` has no tensor `{tensor}`, though the index puts it there", shard.display())]
    MissingFromShard {
        /// The shard.
        shard: PathBuf,
        /// The tensor.
        tensor: String,
    },

    /// Two files, or two names in one file, give the same tensor.
    #[error("tensor `{tensor}` is given twice, in `{}` and in `{}`", first.display(), second.display())]
    Duplicate {
        /// The tensor.
        tensor: String,
        /// The first file.
        first: PathBuf,
        /// The second file.
        second: PathBuf,
    },

    /// A tensor was asked for that the checkpoint does not have.
    #[error("no tensor `{tensor}`{}", suggestion(nearest.as_deref()))]
    NoSuchTensor {
        /// The tensor.
        tensor: String,
        /// The nearest name there is.
        nearest: Option<String>,
    },

    /// LibTorch would not make the tensor.
    #[error("LibTorch refused tensor `{tensor}`: {cause}")]
    Torch {
        /// The tensor.
        tensor: String,
        /// What the system said.
        cause: String,
    },

    /// The checkpoint has no tokenizer.
    #[error("no tokenizer: looked for {}; give token ids instead of text", listed(looked))]
    NoTokenizer {
        /// Where it was looked for.
        looked: Vec<PathBuf>,
    },

    /// The tokenizer's file cannot be used.
    #[error("tokenizer of `{}`: {what}", path.display())]
    Tokenizer {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },

    /// A text that should be one token is several, or none.
    #[error("`{text}` is not one token: it splits into {}", pieces_listed(pieces))]
    NotOneToken {
        /// The text.
        text: String,
        /// The tokens it splits into.
        pieces: Vec<String>,
    },

    /// A config without a known `model_type`.
    #[error("family `{family}` is not known; known are {}", known.join(", "))]
    UnknownFamily {
        /// What the config says.
        family: String,
        /// The families there are.
        known: Vec<&'static str>,
    },

    /// A config field that is missing, is not honoured or has a value that is not.
    #[error("config of family `{family}`: {what}")]
    Config {
        /// The family.
        family: String,
        /// What is wrong, naming the field.
        what: String,
    },

    /// A tensor that the family needs and the checkpoint lacks.
    #[error("the checkpoint has no tensor `{tensor}`{}", suggestion(nearest.as_deref()))]
    MissingWeight {
        /// The tensor.
        tensor: String,
        /// The tensor there is that is most like it.
        nearest: Option<String>,
    },

    /// Tensors that nothing in the family reads.
    #[error("the checkpoint has tensors that this family does not read: {}", joined(tensors.iter().cloned()))]
    LeftoverWeights {
        /// The tensors.
        tensors: Vec<String>,
    },

    /// A tensor of another shape than the config says.
    #[error("tensor `{tensor}` has shape {found:?} where the config asks for {expected:?}")]
    WrongShape {
        /// The tensor.
        tensor: String,
        /// What the config asks for.
        expected: Vec<i64>,
        /// What the checkpoint has.
        found: Vec<i64>,
    },

    /// An unembedding that the config ties to the embedding and the checkpoint stores with other values.
    #[error(
        "`{unembed}` is stored with other values than `{embed}`, and the config ties them; say `tie_word_embeddings: false`"
    )]
    Untied {
        /// The unembedding.
        unembed: String,
        /// The embedding.
        embed: String,
    },

    /// An error of the core.
    #[error(transparent)]
    Core(#[from] arrakis_core::Error),

    /// A token id outside the vocabulary.
    #[error("token id {id} is outside the vocabulary of {vocab}")]
    NoSuchToken {
        /// The id.
        id: i64,
        /// How many tokens there are.
        vocab: usize,
    },
}

fn listed(paths: &[PathBuf]) -> String {
    joined(paths.iter().map(|path| path.display().to_string()))
}

fn pieces_listed(pieces: &[String]) -> String {
    if pieces.is_empty() { "nothing".to_owned() } else { joined(pieces.iter().cloned()) }
}

fn joined(items: impl Iterator<Item = String>) -> String {
    let mut text = String::new();
    for (i, item) in items.enumerate() {
        let _ = write!(text, "{}`{item}`", if i == 0 { "" } else { ", " });
    }
    text
}

fn suggestion(nearest: Option<&str>) -> String {
    nearest.map_or_else(String::new, |name| format!("; the nearest is `{name}`"))
}

impl From<tch::TchError> for Error {
    fn from(error: tch::TchError) -> Self {
        Self::Core(error.into())
    }
}

impl From<Error> for arrakis_core::Error {
    fn from(error: Error) -> Self {
        match error {
            Error::Core(error) => error,
            Error::NotOneToken { text, pieces } => Self::NotOneToken { text, pieces },
            Error::NoTokenizer { .. } => Self::NoTokenizer,
            error => Self::Other(Box::new(error)),
        }
    }
}

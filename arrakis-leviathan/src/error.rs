//! What can go wrong between a corpus, a configuration and a trained model.

use std::path::{Path, PathBuf};

/// The result of everything fallible in this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error of Leviathan.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An error of a pass, an edit or a tensor.
    #[error(transparent)]
    Core(#[from] arrakis_core::Error),
    /// An error of a checkpoint or a tokenizer.
    #[error(transparent)]
    Models(#[from] arrakis_models::Error),
    /// An error of a file that is written whole or not at all.
    #[error(transparent)]
    Bench(arrakis_bench::Error),
    /// A configuration that describes no model.
    #[error("{what}: {why}")]
    Config {
        /// The field, or the text that was to be read.
        what: String,
        /// What is wrong with it, and the cure.
        why: String,
    },
    /// A corpus that cannot be trained on.
    #[error("corpus `{}`: {why}", .path.display())]
    Corpus {
        /// Its file.
        path: PathBuf,
        /// What is wrong with it, and the cure.
        why: String,
    },
    /// A folder that holds another training than the one asked for.
    #[error(
        "`{}` was trained with another `{field}`: {there} there, {asked} asked for; resume with the same or choose \
         another folder", .folder.display()
    )]
    OtherTraining {
        /// The folder.
        folder: PathBuf,
        /// The field that differs.
        field: String,
        /// Its value in the folder.
        there: String,
        /// Its value as asked for.
        asked: String,
    },
    /// A file of a training that is not what it should be.
    #[error("`{}` is damaged: {why}", .path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// A number that became infinite or not a number.
    #[error("step {step}, seed {seed}: `{place}` is not finite; lower the learning rate or clip gradients more")]
    NotFinite {
        /// The step.
        step: u64,
        /// The seed.
        seed: u64,
        /// The first hook point, or the weight whose gradient it is.
        place: String,
    },
    /// A file that cannot be read or written.
    #[error("cannot {verb} `{}`: {source}", .path.display())]
    File {
        /// `read`, `write`, `make` …
        verb: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

impl Error {
    /// The error of an operation on a file, for `map_err`.
    pub(crate) fn file(verb: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::File { verb, path, source }
    }

    /// A configuration that describes no model.
    pub(crate) fn config(what: impl Into<String>, why: impl Into<String>) -> Self {
        Self::Config { what: what.into(), why: why.into() }
    }
}

impl From<tch::TchError> for Error {
    fn from(error: tch::TchError) -> Self {
        Self::Core(error.into())
    }
}

impl From<serde_json::Error> for Error {
    fn from(error: serde_json::Error) -> Self {
        Self::Core(error.into())
    }
}

impl From<arrakis_bench::Error> for Error {
    /// An error of this crate's that a run brings back is what it was.
    fn from(error: arrakis_bench::Error) -> Self {
        match error {
            arrakis_bench::Error::Core(error) => Self::Core(error),
            arrakis_bench::Error::Other(error) => match error.downcast::<Self>() {
                Ok(own) => *own,
                Err(other) => Self::Bench(arrakis_bench::Error::Other(other)),
            },
            other => Self::Bench(other),
        }
    }
}

impl From<Error> for arrakis_bench::Error {
    /// So that a training is the work of a run, which knows cancellation by its error.
    fn from(error: Error) -> Self {
        match error {
            Error::Core(error) => Self::Core(error),
            Error::Bench(error) => error,
            other => Self::Other(Box::new(other)),
        }
    }
}

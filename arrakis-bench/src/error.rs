//! What can go wrong while experiments are run, written and read.

use std::path::{Path, PathBuf};

/// The result of everything fallible in this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error of the bench or of its log.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An error of a tool, a model or a shape.
    #[error(transparent)]
    Core(#[from] arrakis_core::Error),
    /// An error of an experiment's own.
    #[error(transparent)]
    Other(#[from] Box<dyn std::error::Error + Send + Sync>),
    /// A tool or experiment that panicked.
    #[error("`{name}` panicked: {message}")]
    Panicked {
        /// The tool or experiment.
        name: String,
        /// What it said.
        message: String,
    },
    /// Something asked for in a way that has no meaning, with the cure.
    #[error("{0}")]
    Usage(String),
    /// An experiment that this program does not contain.
    #[error("there is no experiment `{name}` in this program{}", hint(.nearest.as_deref()))]
    UnknownExperiment {
        /// What was asked for.
        name: String,
        /// The known name most like it.
        nearest: Option<String>,
    },
    /// A name of more than one experiment.
    #[error("`{name}` is the name of two experiments, `{first}` and `{second}`; give more of the path")]
    TwoExperiments {
        /// What was asked for.
        name: String,
        /// One of them.
        first: String,
        /// Another.
        second: String,
    },
    /// Arguments that an experiment does not take.
    #[error("`{experiment}`: {why}")]
    Arguments {
        /// The experiment.
        experiment: String,
        /// What is wrong.
        why: String,
    },
    /// A name of no tool and of no experiment.
    #[error("there is no tool and no experiment `{name}` in this program{}", hint(.nearest.as_deref()))]
    UnknownWork {
        /// What was asked for.
        name: String,
        /// The known name most like it.
        nearest: Option<String>,
    },
    /// A run of an experiment that this program does not contain.
    #[error(
        "run `{id}` is of experiment `{name}` in `{owner}`, which this program does not contain; use `{program} rerun {id}`"
    )]
    Elsewhere {
        /// The run.
        id: String,
        /// The experiment.
        name: String,
        /// The crate that holds it, with its version.
        owner: String,
        /// The program that made the run.
        program: String,
    },
    /// A run that cannot be done again.
    #[error("run `{id}` cannot be done again: {why}")]
    NoRerun {
        /// The run.
        id: String,
        /// Why.
        why: String,
    },
    /// A model that is not the one of a run.
    #[error("run `{id}` was made with another model: its {what} was {was}, and is {is}")]
    OtherModel {
        /// The run.
        id: String,
        /// In what it differs: `digest`, `dtype` …
        what: &'static str,
        /// What it was.
        was: String,
        /// What it is.
        is: String,
    },
    /// A console that cannot be written to.
    #[error("cannot write to the console: {0}")]
    Console(#[source] std::io::Error),
    /// A study that cannot be run.
    #[error("study of `{name}`: {why}")]
    Study {
        /// The tool or experiment.
        name: String,
        /// What is wrong, and the cure.
        why: String,
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
    /// A file that a parameter names and that cannot be used.
    #[error("parameter `{parameter}` names `{path}`, {why}")]
    FileParameter {
        /// The parameter.
        parameter: String,
        /// The file.
        path: String,
        /// Why it cannot be used.
        why: String,
    },
    /// A file outside the log that is not what it was when a run read or wrote it.
    #[error("run `{id}` {did} `{path}`, {change}; {cure}")]
    OtherFile {
        /// The run.
        id: String,
        /// `read` or `wrote`.
        did: &'static str,
        /// The file.
        path: String,
        /// What digest it had, and what is there now.
        change: String,
        /// What can be done.
        cure: &'static str,
    },
    /// A file of the log that is not what it should be.
    #[error("`{}` is damaged: {why}", .path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// A run written by a later version.
    #[error("`{}` has format {format} and this version reads up to {known}; use a newer arrakis", .path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its format.
        format: u32,
        /// The newest format that is read.
        known: u32,
    },
    /// A place in a folder that is not there.
    #[error("cannot write `{}`: there is no folder `{}`", .path.display(), .parent.display())]
    NoFolder {
        /// The place.
        path: PathBuf,
        /// The folder.
        parent: PathBuf,
    },
    /// A folder that is looked through as a log and is none.
    #[error("`{}` is no log: it has no folder `runs` with runs in it; `--log DIR` says where the log is", .folder.display())]
    NoLog {
        /// The folder.
        folder: PathBuf,
    },
    /// A run that is not in the log.
    #[error("there is no run `{id}` in `{}`", .folder.display())]
    NoRun {
        /// What was asked for.
        id: String,
        /// The log.
        folder: PathBuf,
    },
    /// The beginning of more than one id.
    #[error("`{id}` begins {count} runs, {first} and {second} among them; give more of it")]
    Ambiguous {
        /// What was asked for.
        id: String,
        /// How many runs begin with it.
        count: usize,
        /// One of them.
        first: String,
        /// Another.
        second: String,
    },
    /// A file that is no plugin, or none that works with this program.
    #[error("cannot load the plugin `{}`: {why}", .path.display())]
    Plugin {
        /// The file.
        path: PathBuf,
        /// What stops it, and the cure.
        why: String,
    },
    /// A run without a result.
    #[error("run `{id}` has no result: it is {status}{}", .error.as_ref().map(|why| format!(" ({why})")).unwrap_or_default())]
    NoResult {
        /// The run.
        id: String,
        /// Its status.
        status: crate::Status,
        /// Its error, if it failed.
        error: Option<String>,
    },
    /// A run whose result is of another kind than was asked for.
    #[error("the result of run `{id}` is of kind `{kind}`; read it as that")]
    OtherResult {
        /// The run.
        id: String,
        /// The kind of its result.
        kind: crate::Outcome,
    },
    /// A run that has no code of its own.
    #[error("run `{id}` has no source: it is no run of an experiment")]
    NoSource {
        /// The run.
        id: String,
    },
    /// An experiment that the log has not.
    #[error("there is no version of an experiment `{name}` in the log{}", hint(.nearest.as_deref()))]
    NoVersions {
        /// What was asked for.
        name: String,
        /// The known name most like it.
        nearest: Option<String>,
    },
    /// A place that is taken by something else.
    #[error("`{}` is there already and is something else; choose another place", .path.display())]
    Taken {
        /// The place.
        path: PathBuf,
    },
    /// A query that has no meaning.
    #[error("`{term}`: {why}")]
    Query {
        /// The term or field.
        term: String,
        /// What is wrong with it, and the cure.
        why: String,
    },
    /// A run at work, which cannot be removed.
    #[error("run `{id}` is at work; end its process first")]
    AtWork {
        /// The run.
        id: String,
    },
    /// Something recorded where no run is at work.
    #[error("a {what} belongs to a run; record it in an experiment, or within `conduct`")]
    NoRunAtWork {
        /// What was recorded.
        what: &'static str,
    },
    /// Fewer samples than a test needs.
    #[error("{what} has {found} of at least {needed} samples; draw more")]
    TooFewSamples {
        /// What they are for.
        what: String,
        /// How many there are.
        found: usize,
        /// How many are needed.
        needed: usize,
    },
    /// A sample that is no finite number, or so great a one that its square is none.
    #[error(
        "sample {place} is {value}, and tests need finite numbers below 1e150; find where it comes from, or leave it out"
    )]
    SampleNotFinite {
        /// Its place, from 0.
        place: usize,
        /// What it is.
        value: f64,
    },
    /// Samples without any variance, which no test can compare a difference with.
    #[error(
        "{what} is constant, or varies by rounding alone, so there is nothing to compare a difference with; let what \
         varies vary: other seeds, other prompts"
    )]
    NoVariance {
        /// What is constant.
        what: String,
    },
}

impl Error {
    /// The error of an operation on a file, for `map_err`.
    pub(crate) fn file(verb: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::File { verb, path, source }
    }

    /// A damaged file.
    pub(crate) fn damaged(path: &Path, why: impl Into<String>) -> Self {
        Self::Damaged { path: path.to_path_buf(), why: why.into() }
    }
}

/// The name that was meant, perhaps, at the end of a message.
pub(crate) fn hint(name: Option<&str>) -> String {
    name.map(|name| format!("; the nearest is `{name}`")).unwrap_or_default()
}

impl From<Error> for arrakis_core::Error {
    /// So that a function whose errors are core's can use the bench.
    fn from(error: Error) -> Self {
        match error {
            Error::Core(error) => error,
            other => Self::Other(Box::new(other)),
        }
    }
}

//! What can go wrong, with the thing named and the cure where it is known.

use std::path::PathBuf;

use crate::{HookPoint, SweepPlan};

/// The result of everything fallible in this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error of Arrakis' core.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A selector, point or site that the model does not have.
    #[error("`{name}` matches no hook point of this model{}", hint(.nearest.as_deref()))]
    UnknownPoint {
        /// What was asked for.
        name: String,
        /// The known name most like it.
        nearest: Option<String>,
    },
    /// A point that was not kept in this run.
    #[error("`{point}` was not kept in this run; add `.keep(\"{point}\")` to the trace")]
    NotKept {
        /// The point asked for.
        point: String,
    },
    /// A weight that the model does not have.
    #[error("this model has no weight `{name}`{}", hint(.nearest.as_deref()))]
    UnknownWeight {
        /// What was asked for.
        name: String,
        /// The known name most like it.
        nearest: Option<String>,
    },
    /// An edit changed the shape, kind or device of a value.
    #[error("the edit at `{point}` turned {before} into {after}; an edit keeps shape, kind and device")]
    EditChanged {
        /// Where the edit was made.
        point: HookPoint,
        /// Shape, kind and device before.
        before: String,
        /// Shape, kind and device after.
        after: String,
    },
    /// An edit that has no meaning at a point.
    #[error("the edit at `{point}` {why}")]
    Edit {
        /// Where the edit was to be made.
        point: HookPoint,
        /// What is wrong.
        why: String,
    },
    /// An index past the end.
    #[error("{what} {index} is out of range: there are {len}")]
    OutOfRange {
        /// What is counted: `head`, `position`, `layer` …
        what: String,
        /// The index asked for.
        index: i64,
        /// How many there are.
        len: i64,
    },
    /// A token id that the vocabulary does not have.
    #[error("token id {token} at row {row}, position {position} is not in the vocabulary of {vocab}")]
    Token {
        /// The id.
        token: i64,
        /// Its row in the batch.
        row: usize,
        /// Its position in the row.
        position: usize,
        /// The size of the vocabulary.
        vocab: i64,
    },
    /// A prompt without tokens.
    #[error("the prompt is empty; give at least one token in every row")]
    EmptyPrompt,
    /// A prompt longer than the model's context.
    #[error("the prompt has {len} positions and this model's context holds {context}; shorten the prompt")]
    TooLong {
        /// Positions of the prompt.
        len: i64,
        /// Positions the model has.
        context: i64,
    },
    /// A text that must be one token and is not.
    #[error("`{text}` is not one token: it splits into {}; give one of them, or a token id", listed(pieces))]
    NotOneToken {
        /// The text.
        text: String,
        /// The tokens it is made of.
        pieces: Vec<String>,
    },
    /// The model has no tokenizer.
    #[error("this model has no tokenizer; give token ids in place of text")]
    NoTokenizer,
    /// A shape whose labels and numbers do not match.
    #[error("`{what}` wants {expected} and has {found}")]
    Labels {
        /// The title of the shape.
        what: String,
        /// What is wanted.
        expected: String,
        /// What was found.
        found: String,
    },
    /// Something invalid that came from outside.
    #[error("{what}: {why}")]
    Invalid {
        /// What it is.
        what: String,
        /// What is wrong with it, and the cure.
        why: String,
    },
    /// A tool that is not registered.
    #[error("there is no tool `{name}`{}; `arrakis tools` lists them", tools_like(.nearest.as_deref(), others))]
    UnknownTool {
        /// What was asked for.
        name: String,
        /// The known name most like it.
        nearest: Option<String>,
        /// Where none is like it: tools of a subject of that name, or whose help begins with a line that has the word.
        others: Vec<String>,
    },
    /// Parameters that a tool does not take.
    #[error("`{tool}`: {why}; `arrakis tools show {tool}` lists its fields")]
    Parameters {
        /// The tool.
        tool: String,
        /// What is wrong.
        why: String,
    },
    /// A tool of a name that another one has.
    #[error("tool `{name}` of `{other}` is there already, from `{owner}`; load one of the two")]
    ToolTaken {
        /// The name.
        name: String,
        /// Who has it.
        owner: String,
        /// Who brings another.
        other: String,
    },
    /// A panic on the other side of a plugin's boundary.
    #[error("`{what}` panicked: {message}")]
    Panicked {
        /// The tool, or what it was in.
        what: String,
        /// What it said.
        message: String,
    },
    /// A device that is not there.
    #[error("device `{device}` is not available: {why}")]
    Device {
        /// The device asked for.
        device: String,
        /// What is missing, and the cure.
        why: String,
    },
    /// What a sweep would have run, had it not been asked for its plan only.
    #[error("{0}")]
    Planned(Box<SweepPlan>),
    /// A run that would hold more than it may.
    #[error(
        "the run would hold {bytes} bytes of activations and may hold {limit}; keep fewer points, or give it fewer rows \
         or positions at a time"
    )]
    TooMuchMemory {
        /// Bytes that it would hold.
        bytes: u64,
        /// Bytes that it may hold.
        limit: u64,
    },
    /// The work was cancelled.
    #[error("cancelled")]
    Cancelled,
    /// An error of LibTorch.
    #[error("LibTorch: {0}")]
    Torch(String),
    /// JSON that is not what it should be.
    #[error("JSON: {0}")]
    Json(#[from] serde_json::Error),
    /// A file that cannot be read or written.
    #[error("cannot {verb} `{}`: {source}", .path.display())]
    File {
        /// `read`, `write`, `make` …
        verb: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// An error of another crate: a model, a tool, a plugin.
    #[error(transparent)]
    Other(Box<dyn std::error::Error + Send + Sync>),
}

impl From<tch::TchError> for Error {
    fn from(error: tch::TchError) -> Self {
        Self::Torch(without_backtrace(&error.to_string()).to_owned())
    }
}

/// What LibTorch says, without the C++ backtrace behind it, which the plain forms of tch write escaped.
///
/// ```
/// assert_eq!(arrakis_core::without_backtrace("no such axis\nException raised from here"), "no such axis");
/// ```
#[must_use]
pub fn without_backtrace(text: &str) -> &str {
    let end = ["\nException raised", "\\nException raised"].iter().filter_map(|mark| text.find(mark)).min();
    text[..end.unwrap_or(text.len())].trim_end()
}

fn listed(pieces: &[String]) -> String {
    let quoted: Vec<String> = pieces.iter().map(|piece| format!("`{piece}`")).collect();
    if quoted.is_empty() { "nothing".into() } else { quoted.join(", ") }
}

fn hint(name: Option<&str>) -> String {
    name.map(|name| format!("; the nearest is `{name}`")).unwrap_or_default()
}

fn tools_like(nearest: Option<&str>, others: &[String]) -> String {
    if others.is_empty() { hint(nearest) } else { format!(", but {}", listed(others)) }
}

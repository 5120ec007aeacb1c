//! What can go wrong while drawing, with the thing named and the cure where it is known.

use std::path::PathBuf;

/// The result of everything fallible in this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error of Arrakis' pictures.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file name whose ending names no picture format.
    #[error("`{}` is no folder and does not end in `.svg`, `.png` or `.html`; the ending says which of them to draw", .path.display())]
    Format {
        /// The file.
        path: PathBuf,
    },
    /// A shape without a single number.
    #[error("`{title}` has nothing to draw: {why}")]
    Empty {
        /// The title of the shape.
        title: String,
        /// What is missing.
        why: String,
    },
    /// A part that is no picture.
    #[error("a {shape} cannot be drawn; pictures are made of grids, series, rankings and stacks")]
    NoPicture {
        /// What the part is.
        shape: &'static str,
    },
    /// A shape whose numbers and labels do not match.
    #[error("`{title}` wants {expected} {what} and has {found}")]
    Count {
        /// The title of the shape.
        title: String,
        /// What is counted.
        what: &'static str,
        /// How many there should be.
        expected: usize,
        /// How many there are.
        found: usize,
    },
    /// Two shapes that are to be compared and have other rows or columns.
    #[error("`{title}` compares {first} with {second} cells; rows and columns must have the same labels")]
    Unlike {
        /// The title of the comparison.
        title: String,
        /// The size of the first.
        first: String,
        /// The size of the second.
        second: String,
    },
    /// A kind of plot that there is not.
    #[error("there is no kind of plot `{name}`{}; `arrakis plot` lists them", .nearest.as_ref().map(|name| format!("; the nearest is `{name}`")).unwrap_or_default())]
    UnknownKind {
        /// What was asked for.
        name: String,
        /// The known name most like it.
        nearest: Option<String>,
    },
    /// A kind of plot that what it was given does not make.
    #[error("`{kind}` {why}")]
    Kind {
        /// The kind.
        kind: String,
        /// What is missing, and the cure.
        why: String,
    },
    /// A style that no picture can have.
    #[error("style: `{field}` is {found} and must lie between {least} and {most}")]
    Style {
        /// The field.
        field: &'static str,
        /// Its number.
        found: f64,
        /// The least it may be.
        least: f64,
        /// The most it may be.
        most: f64,
    },
    /// A file that cannot be written.
    #[error("cannot write `{}`: {source}", .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Two parts of an answer whose names make one file name.
    #[error("two parts would both be drawn to `{}`; give them names that differ in letters or digits", .path.display())]
    SameFile {
        /// The file.
        path: PathBuf,
    },
    /// A picture that its format refuses.
    #[error("cannot encode the picture: {0}")]
    Encode(String),
    /// The font that ships with this crate is damaged.
    #[error("the font of the pictures cannot be read")]
    Font,
    /// An error of the shapes.
    #[error(transparent)]
    Core(#[from] arrakis_core::Error),
}

impl From<tch::TchError> for Error {
    fn from(error: tch::TchError) -> Self {
        Self::Core(error.into())
    }
}

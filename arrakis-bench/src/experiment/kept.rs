//! What is kept of a result: an answer, if it is one or a shape of one, else JSON.

use arrakis_core::{Answer, Part};
use serde::Serialize;
use serde_json::Value;

use crate::{Result, json};

/// What is kept of the result of an experiment.
#[derive(Debug, Clone)]
pub enum Kept {
    /// An answer, which prints and draws itself; a lone shape is its part `result`.
    Answer(Answer),
    /// Anything else, as JSON.
    Json(Value),
}

/// What a function returns: a `Result`, by whatever name.
pub trait Returned {
    /// The value of success.
    type Value;
    /// The error.
    type Error;
}

impl<T, E> Returned for std::result::Result<T, E> {
    type Value = T;
    type Error = E;
}

/// A value of which something is to be kept.
///
/// `(&&&Keep(value)).keep()` is the first of [`KeepAnswer`], [`KeepPart`] and [`KeepJson`] that the type of the value
/// allows: a method of a type with more `&` is found first.
pub struct Keep<'a, T>(pub &'a T);

/// Values that are answers.
pub trait KeepAnswer {
    /// The answer.
    fn keep(&self) -> Result<Kept>;
}

impl<T: Clone + Into<Answer>> KeepAnswer for &&Keep<'_, T> {
    fn keep(&self) -> Result<Kept> {
        Ok(Kept::Answer(self.0.clone().into()))
    }
}

/// Values that are a shape of an answer.
pub trait KeepPart {
    /// An answer of one part.
    fn keep(&self) -> Result<Kept>;
}

impl<T: Clone + Into<Part>> KeepPart for &Keep<'_, T> {
    fn keep(&self) -> Result<Kept> {
        Ok(Kept::Answer(Answer::new().with("result", self.0.clone())))
    }
}

/// Values that are written as JSON.
pub trait KeepJson {
    /// The JSON.
    fn keep(&self) -> Result<Kept>;
}

impl<T: Serialize> KeepJson for Keep<'_, T> {
    fn keep(&self) -> Result<Kept> {
        Ok(Kept::Json(json::to_value(self.0)?))
    }
}

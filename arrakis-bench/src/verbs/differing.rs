//! What two runs differ in, as text.

use serde_json::Value;

use super::{Said, lines};
use crate::{Diff, Difference, Result};

/// What two runs differ in; where no number does, words say how many are equal.
pub(super) fn said(diff: &Diff, json: bool) -> Result<Said> {
    if json {
        return Said::json_of(diff);
    }
    let shown = |value: &Option<Value>| value.as_ref().map_or("(absent)".to_owned(), ToString::to_string);
    let changes = diff.asked.iter().chain(&diff.environment);
    let mut said: Vec<String> =
        changes.map(|change| format!("{}: {} and {}", change.field, shown(&change.a), shown(&change.b))).collect();
    let parts: Vec<&Difference> = diff.results.iter().chain(&diff.metrics).collect();
    said.extend(parts.iter().filter(|part| !part.is_none()).map(ToString::to_string));
    said.extend(diff.files.iter().map(|file| format!("file {file} differs")));
    said.extend(diff.calls.iter().map(|call| format!("{call} differs")));
    said.extend(diff.notes.iter().cloned());
    let words = if diff.same_numbers() {
        let numbers: usize = parts.iter().map(|part| part.numbers).sum();
        format!("all {numbers} numbers of the results are equal\n")
    } else {
        String::new()
    };
    Ok(Said { words, ..Said::results(diff.code.clone().unwrap_or_default() + &lines(said)) })
}

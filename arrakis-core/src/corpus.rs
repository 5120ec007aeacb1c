//! A corpus: many texts, read in windows that fit a model.

use std::fs;
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{Error, Model, Result, Tokens};

/// Many texts: a file of them, the texts themselves, or rows of token ids.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Corpus {
    /// A file: `.json` holds an array of texts, `.jsonl` a text or an object with `text` on each line, anything else is
    /// one text.
    File(#[schemars(extend("x-file" = "read"))] PathBuf),
    /// Texts, one document each.
    Texts(Vec<String>),
    /// Rows of token ids, one document each.
    Rows(Vec<Vec<i64>>),
}

/// A piece of a document that a model reads at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Window {
    /// The document's place in the corpus.
    pub document: usize,
    /// The place of the window's first token in the document.
    pub start: usize,
    /// The token ids.
    pub ids: Vec<i64>,
}

impl Corpus {
    /// The token ids of every document, in order; an error if there is none, or if one has no token.
    pub fn documents(&self, model: &dyn Model) -> Result<Vec<Vec<i64>>> {
        let encode = |texts: &[String]| texts.iter().map(|text| model.encode(text)).collect::<Result<Vec<Vec<i64>>>>();
        let documents = match self {
            Self::File(file) => encode(&texts(file)?)?,
            Self::Texts(texts) => encode(texts)?,
            Self::Rows(rows) => rows.clone(),
        };
        if documents.is_empty() {
            return Err(Error::Invalid { what: "corpus".into(), why: "it holds no document".into() });
        }
        match documents.iter().position(Vec::is_empty) {
            None => Ok(documents),
            Some(place) => {
                Err(Error::Invalid { what: format!("document {place} of the corpus"), why: "it is empty".into() })
            }
        }
    }

    /// Every document in windows of at most `width` tokens, one after the other without overlap.
    ///
    /// A window is read as a text of its own: its first token has nothing before it.
    pub fn windows(&self, model: &dyn Model, width: usize) -> Result<Vec<Window>> {
        let context = model.dims().context;
        if width == 0 || width > context {
            let why = format!("give a number in 1..={context}, what the model's context holds");
            return Err(Error::Invalid { what: format!("window of {width} tokens"), why });
        }
        let documents = self.documents(model)?;
        let cut = |(document, ids): (usize, &Vec<i64>)| {
            let pieces = ids.chunks(width).enumerate();
            pieces.map(|(piece, ids)| Window { document, start: piece * width, ids: ids.to_vec() }).collect::<Vec<_>>()
        };
        Ok(documents.iter().enumerate().flat_map(cut).collect())
    }
}

impl Window {
    /// Windows as one batch, padded on the right where they differ in length.
    pub fn batch(windows: &[Self]) -> Result<Tokens> {
        Tokens::from_rows(&windows.iter().map(|window| window.ids.clone()).collect::<Vec<_>>())
    }
}

impl From<Vec<String>> for Corpus {
    fn from(texts: Vec<String>) -> Self {
        Self::Texts(texts)
    }
}

impl From<&Path> for Corpus {
    fn from(file: &Path) -> Self {
        Self::File(file.to_owned())
    }
}

fn texts(file: &Path) -> Result<Vec<String>> {
    let invalid = |why: String| Error::Invalid { what: format!("corpus `{}`", file.display()), why };
    let whole = fs::read_to_string(file).map_err(|error| invalid(error.to_string()))?;
    let text = |value: Value, place: usize| match value {
        Value::String(text) => Ok(text),
        Value::Object(mut fields) => match fields.remove("text") {
            Some(Value::String(text)) => Ok(text),
            _ => Err(invalid(format!("entry {place} has no `text`"))),
        },
        _ => Err(invalid(format!("entry {place} is neither a text nor an object with `text`"))),
    };
    match file.extension().and_then(|extension| extension.to_str()) {
        Some("json") => {
            let entries: Vec<Value> = serde_json::from_str(&whole).map_err(|error| invalid(error.to_string()))?;
            entries.into_iter().enumerate().map(|(place, entry)| text(entry, place)).collect()
        }
        Some("jsonl") => {
            let lines = whole.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
            let entry = |(place, line): (usize, &str)| {
                text(
                    serde_json::from_str(line).map_err(|error| invalid(format!("line {}: {error}", place + 1)))?,
                    place,
                )
            };
            lines.map(entry).collect()
        }
        _ => Ok(vec![whole]),
    }
}

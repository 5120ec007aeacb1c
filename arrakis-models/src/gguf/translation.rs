//! From ggml's names to those of Hugging Face: nothing is passed over that changes the function.

use std::cell::RefCell;
use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::{Gguf, Metadata, Place, gpt2, llama};
use crate::error::{Error, Result};
use crate::tensors::{Layout, Tensors};

/// Config and tensors of a file, as Hugging Face names them.
pub(super) fn translate(gguf: &Gguf) -> Result<(Map<String, Value>, Tensors)> {
    let metadata = &gguf.metadata;
    if let Some(kind) = metadata.text("general.type")?.filter(|kind| *kind != "model") {
        return Err(gguf.unsupported(format!("`general.type` = `{kind}`")));
    }
    if let Some(parts) = metadata.integer("split.count")?.filter(|parts| *parts > 1) {
        return Err(gguf.unsupported(format!("a model split over {parts} files (`gguf-split --merge` joins them)")));
    }
    let architecture = metadata
        .text("general.architecture")?
        .ok_or_else(|| metadata.wrong("general.architecture", "there, and it says what the model is"))?;
    let keys = Keys { metadata, architecture, read: RefCell::default() };
    let config = match architecture {
        "llama" => llama::config(gguf, &keys)?,
        "gpt2" => gpt2::config(gguf, &keys)?,
        other => return Err(gguf.unsupported(format!("architecture `{other}` in GGUF (`llama` and `gpt2` are)"))),
    };
    keys.all_read(gguf)?;
    let mut tensors = Tensors::default();
    for place in &gguf.tensors {
        let named = match architecture {
            "llama" => llama::tensor(&place.name, &keys)?,
            _ => gpt2::tensor(&place.name),
        };
        match named {
            Named::As(name, layout) => tensors.insert(name, gguf.stored(fitting(gguf, place, &layout)?, layout))?,
            Named::InConfig => {}
            Named::Nothing => {
                return Err(gguf.unsupported(format!("tensor `{}` of a `{architecture}` model", place.name)));
            }
        }
    }
    Ok((config, tensors))
}

/// A tensor whose shape allows its layout to be undone.
fn fitting<'a>(gguf: &Gguf, place: &'a Place, layout: &Layout) -> Result<&'a Place> {
    let fits = match *layout {
        Layout::Same | Layout::Strided(_) => true,
        Layout::Transposed => place.shape.len() == 2,
        Layout::RotaryPairs { n_heads } => place.shape.first().is_some_and(|rows| rows % (2 * n_heads) == 0),
    };
    if fits {
        return Ok(place);
    }
    Err(Error::DamagedTensor {
        path: gguf.file.path().to_owned(),
        tensor: place.name.clone(),
        what: format!("shape {:?} does not fit the heads of the model", place.shape),
    })
}

/// What becomes of a tensor.
pub(super) enum Named {
    /// It is a weight of this name, stored so.
    As(String, Layout),
    /// It is said in the config.
    InConfig,
    /// It has no place in this architecture.
    Nothing,
}

/// Splits `blk.3.attn_q.weight` into 3, `attn_q` and `weight`.
pub(super) fn in_block(name: &str) -> Option<(usize, &str, &str)> {
    let (layer, rest) = name.strip_prefix("blk.")?.split_once('.')?;
    let (part, kind) = rest.split_once('.')?;
    Some((layer.parse().ok()?, part, kind)).filter(|_| matches!(kind, "weight" | "bias"))
}

/// The metadata under an architecture's name, with note of what was read.
pub(super) struct Keys<'a> {
    metadata: &'a Metadata,
    architecture: &'a str,
    read: RefCell<BTreeSet<String>>,
}

impl Keys<'_> {
    pub(super) fn integer(&self, key: &str) -> Result<Option<u64>> {
        self.metadata.integer(&self.full(key))
    }

    pub(super) fn float(&self, key: &str) -> Result<Option<f64>> {
        self.metadata.float(&self.full(key))
    }

    pub(super) fn text(&self, key: &str) -> Result<Option<&str>> {
        self.metadata.text(&self.full(key))
    }

    /// A size that must be there: from one to 2³¹ - 1.
    pub(super) fn size(&self, key: &str) -> Result<u64> {
        let size = self.integer(key)?.filter(|size| (1..1 << 31).contains(size));
        size.ok_or_else(|| self.metadata.wrong(&self.full(key), "there as a size"))
    }

    /// A size that need not be there.
    pub(super) fn size_or(&self, key: &str, default: u64) -> Result<u64> {
        if self.integer(key)?.is_none() { Ok(default) } else { self.size(key) }
    }

    /// A float that must be there.
    pub(super) fn number(&self, key: &str) -> Result<f64> {
        self.float(key)?.ok_or_else(|| self.metadata.wrong(&self.full(key), "there as a number"))
    }

    /// Keys that change nothing here.
    pub(super) fn harmless(&self, keys: &[&str]) {
        for key in keys {
            self.full(key);
        }
    }

    fn full(&self, key: &str) -> String {
        let full = format!("{}.{key}", self.architecture);
        self.read.borrow_mut().insert(full.clone());
        full
    }

    fn all_read(&self, gguf: &Gguf) -> Result<()> {
        let read = self.read.borrow();
        let prefix = format!("{}.", self.architecture);
        match self.metadata.keys().find(|key| key.starts_with(&prefix) && !read.contains(*key)) {
            Some(key) => Err(gguf.unsupported(format!("metadata `{key}`"))),
            None => Ok(()),
        }
    }
}

/// Adds the ids of the tokens that begin and end a text.
pub(super) fn special_tokens(config: &mut Map<String, Value>, metadata: &Metadata) -> Result<()> {
    for name in ["bos", "eos"] {
        if let Some(id) = metadata.integer(&format!("tokenizer.ggml.{name}_token_id"))? {
            config.insert(format!("{name}_token_id"), json!(id));
        }
    }
    Ok(())
}

/// Rows of the embedding, which must be what the metadata say if they say it.
pub(super) fn vocab(gguf: &Gguf, keys: &Keys) -> Result<i64> {
    let said = keys.integer("vocab_size")?;
    let place = gguf.place("token_embd.weight");
    let place = place.ok_or_else(|| Error::NoSuchTensor { tensor: "token_embd.weight".to_owned(), nearest: None })?;
    match place.shape[..] {
        [rows, _] if said.is_none_or(|said| said == rows as u64) => Ok(rows),
        _ => Err(Error::DamagedTensor {
            path: gguf.file.path().to_owned(),
            tensor: place.name.clone(),
            what: format!("shape {:?} does not fit a vocabulary of {}", place.shape, said.unwrap_or_default()),
        }),
    }
}

//! Tokenizers of Hugging Face folders: `tokenizer.json`, with the special tokens that the files beside it name.

use std::fs;
use std::path::Path;

use serde_json::{Map, Value};
use tokenizers::tokenizer::Tokenizer as Inner;

use super::{Special, Tokenizer};
use crate::checkpoint::read_json;
use crate::error::{Error, Result};

/// The tokenizer itself.
const FILE: &str = "tokenizer.json";

/// Files that name BOS and EOS by their text, the first that does being right.
const NAMING: [&str; 2] = ["tokenizer_config.json", "special_tokens_map.json"];

/// Tokenizer classes that add BOS unless they are told not to.
const ADD_BOS: [&str; 6] = [
    "LlamaTokenizer",
    "LlamaTokenizerFast",
    "CodeLlamaTokenizer",
    "CodeLlamaTokenizerFast",
    "GemmaTokenizer",
    "GemmaTokenizerFast",
];

/// The tokenizer of a folder whose model has the given config.
pub(crate) fn from_folder(folder: &Path, config: &Map<String, Value>) -> Result<Tokenizer> {
    let path = folder.join(FILE);
    if !path.exists() {
        return Err(Error::NoTokenizer { looked: vec![path] });
    }
    let inner = Inner::from_file(&path).map_err(|e| Error::Tokenizer { path: path.clone(), what: e.to_string() })?;
    let mut says = Vec::new();
    for name in NAMING {
        let path = folder.join(name);
        says.push(if path.exists() { read_json(&path)? } else { Map::new() });
    }
    let named = |key: &str| says.iter().find_map(|map| text(map.get(key)?)).and_then(|text| inner.token_to_id(text));
    let numbered = |key: &str| {
        let id = config.get(key).and_then(|value| value.as_array().map_or(Some(value), |ids| ids.first()))?;
        u32::try_from(id.as_u64()?).ok().filter(|id| inner.id_to_token(*id).is_some())
    };
    let class = says[0].get("tokenizer_class").and_then(Value::as_str);
    let by_class = class.filter(|class| ADD_BOS.contains(class)).map(|_| true);
    let special = Special {
        bos: named("bos_token").or_else(|| numbered("bos_token_id")),
        eos: named("eos_token").or_else(|| numbered("eos_token_id")),
        add_bos: says[0].get("add_bos_token").and_then(Value::as_bool).or(by_class),
        add_eos: says[0].get("add_eos_token").and_then(Value::as_bool),
    };
    Tokenizer::new(inner, path, special)
}

/// Blake3 over the files of a folder's tokenizer and what its model's config says of tokens; nothing if there is none.
pub(crate) fn digest_of_folder(folder: &Path, config: &Map<String, Value>) -> Result<Option<String>> {
    if !folder.join(FILE).exists() {
        return Ok(None);
    }
    let mut hasher = blake3::Hasher::new_derive_key("arrakis tokenizer of a folder 1");
    for name in [FILE].into_iter().chain(NAMING) {
        let path = folder.join(name);
        if path.exists() {
            let bytes = fs::read(&path).map_err(|cause| Error::Io { path, cause })?;
            hasher.update(format!("\n{name} {}\n", bytes.len()).as_bytes());
            hasher.update_rayon(&bytes);
        }
    }
    for key in ["bos_token_id", "eos_token_id"] {
        hasher.update(format!("\n{key} {}", config.get(key).unwrap_or(&Value::Null)).as_bytes());
    }
    Ok(Some(hasher.finalize().to_hex().to_string()))
}

/// A token's text, given as it is or as the `content` of an added token.
fn text(token: &Value) -> Option<&str> {
    token.as_str().or_else(|| token.get("content")?.as_str())
}

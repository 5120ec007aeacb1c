//! What the tokens of a model are: single characters, or pairs merged into longer pieces.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;
use std::path::Path;
use std::str::FromStr;

use arrakis_models::Tokenizer;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokenizers::decoders::byte_level::ByteLevel as ByteDecoder;
use tokenizers::decoders::fuse::Fuse;
use tokenizers::models::TrainerWrapper;
use tokenizers::models::bpe::{BPE, BpeTrainer};
use tokenizers::models::wordlevel::WordLevel;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::tokenizer::{SplitDelimiterBehavior, Tokenizer as Inner};
use tokenizers::{DecoderWrapper, ModelWrapper, PreTokenizerWrapper};

use crate::{Error, Result};

/// The name of a vocabulary's file.
pub(crate) const FILE: &str = "tokenizer.json";

/// How a text is cut into tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Cut {
    /// Every character is a token; the vocabulary is the characters of the corpus.
    Characters,
    /// Byte pairs are merged until there are this many tokens (Sennrich et al. 2016).
    Bpe(usize),
}

impl fmt::Display for Cut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Characters => f.write_str("characters"),
            Self::Bpe(size) => write!(f, "bpe:{size}"),
        }
    }
}

impl FromStr for Cut {
    type Err = Error;

    /// `characters` or `bpe:SIZE`.
    fn from_str(text: &str) -> Result<Self> {
        let size = text.strip_prefix("bpe:").and_then(|size| size.parse().ok());
        match (text, size) {
            ("characters", _) => Ok(Self::Characters),
            (_, Some(size)) if size > 256 => Ok(Self::Bpe(size)),
            (_, Some(_)) => Err(Error::config(format!("cut `{text}`"), "there are 256 bytes, so a size is above 256")),
            _ => Err(Error::config(format!("cut `{text}`"), "a text is cut by `characters` or `bpe:SIZE`")),
        }
    }
}

/// A tokenizer, and the text of the file that describes it.
#[derive(Debug)]
pub struct Vocabulary {
    pub(crate) json: String,
    pub(crate) tokenizer: Tokenizer,
}

impl Vocabulary {
    /// The vocabulary of a text: its characters in order, or the pairs that merging finds in it.
    ///
    /// # Errors
    /// A text that has fewer than two tokens.
    pub fn of(text: &str, cut: Cut) -> Result<Self> {
        let inner = match cut {
            Cut::Characters => characters(text)?,
            Cut::Bpe(size) => pairs(text, size)?,
        };
        let vocabulary = Self::from_json(inner.to_string(false).map_err(wrong)?, Path::new(FILE))?;
        if vocabulary.len() < 2 {
            return Err(Error::config(
                "vocabulary",
                "the text has fewer than two tokens, so there is nothing to learn",
            ));
        }
        Ok(vocabulary)
    }

    /// The vocabulary that a `tokenizer.json` describes; `name` stands for it in errors.
    pub fn from_json(json: String, name: &Path) -> Result<Self> {
        Ok(Self { tokenizer: Tokenizer::from_json(json.as_bytes(), name)?, json })
    }

    /// The number of tokens.
    #[must_use]
    pub fn len(&self) -> usize {
        self.tokenizer.vocab_size()
    }

    /// Whether there are no tokens.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The tokens of a long text.
    ///
    /// # Errors
    /// A character that the vocabulary does not have.
    pub fn encode(&self, text: &str) -> Result<Vec<i64>> {
        if !self.by_character() {
            return Ok(self.tokenizer.encode(text)?);
        }
        let mut known: HashMap<char, i64> = HashMap::new();
        let mut ids = Vec::with_capacity(text.len());
        for character in text.chars() {
            let id = match known.entry(character) {
                Entry::Occupied(found) => *found.get(),
                Entry::Vacant(place) => *place.insert(self.tokenizer.id_of(character.encode_utf8(&mut [0; 4]))?),
            };
            ids.push(id);
        }
        Ok(ids)
    }

    /// Whether every token is one character, which is looked up far quicker than a text is cut.
    fn by_character(&self) -> bool {
        self.json.contains("\"WordLevel\"")
    }
}

fn wrong(error: impl fmt::Display) -> Error {
    Error::config("vocabulary", error.to_string())
}

fn characters(text: &str) -> Result<Inner> {
    let mut found: Vec<char> = text.chars().collect();
    found.sort_unstable();
    found.dedup();
    let vocabulary = found.iter().enumerate().map(|(id, character)| (character.to_string(), id as u32)).collect();
    let model = WordLevel::builder().vocab(vocabulary).build().map_err(wrong)?;
    let mut inner = Inner::new(model);
    let every = Split::new(SplitPattern::Regex("(?s).".into()), SplitDelimiterBehavior::Isolated, false);
    inner.with_pre_tokenizer(Some(PreTokenizerWrapper::Split(every.map_err(wrong)?)));
    inner.with_decoder(Some(DecoderWrapper::Fuse(Fuse::new())));
    Ok(inner)
}

fn pairs(text: &str, size: usize) -> Result<Inner> {
    let mut inner = Inner::new(ModelWrapper::BPE(BPE::default()));
    inner.with_pre_tokenizer(Some(PreTokenizerWrapper::ByteLevel(ByteLevel::new(false, true, true))));
    inner.with_decoder(Some(DecoderWrapper::ByteLevel(ByteDecoder::default())));
    let trainer = BpeTrainer::builder()
        .vocab_size(size)
        .show_progress(false)
        .initial_alphabet(ByteLevel::alphabet().into_iter().collect());
    let mut trainer = TrainerWrapper::BpeTrainer(trainer.build());
    inner.train(&mut trainer, text.split_inclusive('\n')).map_err(wrong)?;
    Ok(inner)
}

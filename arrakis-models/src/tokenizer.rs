//! Text to token ids and back.

mod bytes;
mod gguf;
mod huggingface;

use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use tokenizers::tokenizer::Tokenizer as Inner;

use crate::error::{Error, Result};

pub(crate) use gguf::{digest_of_metadata, from_metadata};
pub(crate) use huggingface::{digest_of_folder, from_folder};

/// Text to token ids and back, with the special tokens that the model's own tokenizer adds.
#[derive(Debug)]
pub struct Tokenizer {
    inner: Inner,
    path: PathBuf,
    special: Special,
    /// A token of plain letters, before which another is read as in the middle of a text.
    anchor: Option<(u32, String)>,
}

/// The tokens that begin and end a text.
#[derive(Debug, Default, Clone, Copy)]
struct Special {
    bos: Option<u32>,
    eos: Option<u32>,
    /// Whether `encode` begins with BOS; `None` leaves it to the tokenizer's own post-processor.
    add_bos: Option<bool>,
    /// Whether `encode` ends with EOS; `None` leaves it to the tokenizer's own post-processor.
    add_eos: Option<bool>,
}

impl Tokenizer {
    /// The tokenizer that the text of a `tokenizer.json` describes; `name` stands for its file in errors.
    ///
    /// # Errors
    /// [`Error::Tokenizer`] if it describes none.
    pub fn from_json(json: &[u8], name: &Path) -> Result<Self> {
        let inner = Inner::from_bytes(json);
        let inner = inner.map_err(|e| Error::Tokenizer { path: name.to_owned(), what: e.to_string() })?;
        Self::new(inner, name.to_owned(), Special::default())
    }

    fn new(mut inner: Inner, path: PathBuf, mut special: Special) -> Result<Self> {
        let wrong = |what: String| Error::Tokenizer { path: path.clone(), what };
        inner.with_truncation(None).map_err(|e| wrong(e.to_string()))?.with_padding(None);
        let added = inner.encode_fast("", true).map_err(|e| wrong(e.to_string()))?;
        let (first, last) = (added.get_ids().first().copied(), added.get_ids().last().copied());
        for (add, id, own) in [(&mut special.add_bos, special.bos, first), (&mut special.add_eos, special.eos, last)] {
            if *add == Some(id.is_some() && id == own) {
                *add = None;
            } else if *add == Some(true) && id.is_none() {
                return Err(wrong("it adds a BOS or EOS token and does not say which".to_owned()));
            }
        }
        let mut tokenizer = Self { inner, path, special, anchor: None };
        tokenizer.anchor = ('a'..='z').find_map(|letter| tokenizer.letter(letter));
        Ok(tokenizer)
    }

    /// The ids of a text, with the special tokens around it that transformers adds by default.
    ///
    /// Special tokens written in the text (`<|im_end|>`) are recognised. Text of no length gives the added tokens only.
    ///
    /// # Errors
    /// [`Error::Tokenizer`] if the tokenizer has no token for a part of the text and none for what is unknown.
    pub fn encode(&self, text: &str) -> Result<Vec<i64>> {
        let Special { bos, eos, add_bos, add_eos } = self.special;
        let strips = |add: Option<bool>| add == Some(false);
        let mut ids: Vec<i64> = self.ids(text, !(strips(add_bos) || strips(add_eos)))?;
        if let (Some(bos), Some(true)) = (bos, add_bos) {
            ids.insert(0, bos.into());
        }
        if let (Some(eos), Some(true)) = (eos, add_eos) {
            ids.push(eos.into());
        }
        Ok(ids)
    }

    /// The text of ids, special tokens included; an id without a token is written `<123>`.
    #[must_use]
    pub fn decode(&self, ids: &[i64]) -> String {
        let known = |id: &i64| u32::try_from(*id).ok().filter(|id| self.inner.id_to_token(*id).is_some());
        let mut text = String::new();
        for run in ids.chunk_by(|a, b| known(a).is_some() == known(b).is_some()) {
            let tokens: Vec<u32> = run.iter().filter_map(known).collect();
            match self.inner.decode(&tokens, false) {
                Ok(decoded) if !tokens.is_empty() => text.push_str(&decoded),
                _ => text.extend(run.iter().map(|id| format!("<{id}>"))),
            }
        }
        text
    }

    /// The text of one token as it prints in the middle of a text, a leading space included.
    ///
    /// A byte that is part of a character prints as `<0xE2>`, an id without a token as `<123>`.
    #[must_use]
    pub fn token(&self, id: i64) -> String {
        let text = self.in_a_text(id);
        if text.contains('\u{fffd}') {
            return bytes::spelled(&self.inner, id).unwrap_or_else(|| format!("{text} [{id}]"));
        }
        text
    }

    /// The text of one token in the middle of a text, `�` for parts of characters.
    fn in_a_text(&self, id: i64) -> String {
        if let Some((anchor, letter)) = &self.anchor {
            let both = self.decode(&[i64::from(*anchor), id]);
            if let Some(text) = both.strip_prefix(letter) {
                return text.to_owned();
            }
        }
        self.decode(&[id])
    }

    /// The id of the one token that a text is.
    ///
    /// # Errors
    /// [`Error::NotOneToken`] with the tokens that it splits into.
    pub fn id_of(&self, text: &str) -> Result<i64> {
        let ids = self.ids(text, false)?;
        if let [id] = ids[..] {
            return Ok(id);
        }
        // Where a space is put before every text, ` Mary` is the token of `Mary`.
        if let Some([id]) = text.strip_prefix(' ').map(|rest| self.ids(rest, false)).transpose()?.as_deref()
            && self.token(*id) == text
        {
            return Ok(*id);
        }
        let pieces = ids.iter().map(|id| self.token(*id)).collect();
        Err(Error::NotOneToken { text: text.to_owned(), pieces })
    }

    /// The token that begins a text, if there is one.
    #[must_use]
    pub fn bos(&self) -> Option<i64> {
        self.special.bos.map(i64::from)
    }

    /// The token that ends a text, if there is one.
    #[must_use]
    pub fn eos(&self) -> Option<i64> {
        self.special.eos.map(i64::from)
    }

    /// Number of tokens, special ones included; a model may have more rows of embedding.
    #[must_use]
    pub fn vocab_size(&self) -> usize {
        self.inner.get_vocab_size(true)
    }

    fn ids(&self, text: &str, special: bool) -> Result<Vec<i64>> {
        let encoding = self.inner.encode_fast(text, special).map_err(|error| {
            let alone = |letter: &char| self.inner.encode_fast(letter.to_string(), false).is_err();
            let what = match text.chars().find(alone) {
                Some(letter) => {
                    format!("it has no token for {letter:?} of the text, and none for what is unknown; leave it out")
                }
                None => error.to_string(),
            };
            Error::Tokenizer { path: self.path.clone(), what }
        })?;
        Ok(encoding.get_ids().iter().copied().map(i64::from).collect())
    }

    fn letter(&self, letter: char) -> Option<(u32, String)> {
        let id = self.inner.token_to_id(&letter.to_string())?;
        let text = self.inner.decode(&[id], false).ok()?;
        (text == letter.to_string()).then_some((id, text))
    }
}

/// A value of a checkpoint that is made when it is first asked for.
type Lazy<T> = LazyLock<Result<T>, Box<dyn FnOnce() -> Result<T> + Send>>;

/// A tokenizer that is read when it is first asked for: a big vocabulary takes longer to read than weights to map.
pub(crate) struct Later {
    tokenizer: Lazy<Tokenizer>,
    digest: Lazy<Option<String>>,
}

impl Later {
    pub(crate) fn new(
        read: impl FnOnce() -> Result<Tokenizer> + Send + 'static,
        digest: impl FnOnce() -> Result<Option<String>> + Send + 'static,
    ) -> Self {
        Self { tokenizer: LazyLock::new(Box::new(read)), digest: LazyLock::new(Box::new(digest)) }
    }

    /// The digest of what the tokenizer is read from; nothing if there is none.
    pub(crate) fn digest(&self) -> arrakis_core::Result<Option<String>> {
        self.digest.as_ref().map(Clone::clone).map_err(unusable)
    }

    /// The tokenizer; nothing if there is none, an error if it cannot be used.
    pub(crate) fn get(&self) -> arrakis_core::Result<Option<&Tokenizer>> {
        match &*self.tokenizer {
            Ok(tokenizer) => Ok(Some(tokenizer)),
            Err(Error::NoTokenizer { .. }) => Ok(None),
            Err(error) => Err(unusable(error)),
        }
    }
}

fn unusable(error: &Error) -> arrakis_core::Error {
    arrakis_core::Error::Invalid { what: "model".into(), why: error.to_string() }
}

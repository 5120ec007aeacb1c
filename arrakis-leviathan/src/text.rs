//! A text to learn from: its tokens, the first nine tenths to train on and the rest to be judged by.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use arrakis_core::Stream;
use tch::Tensor;

use crate::vocabulary::{Cut, Vocabulary};
use crate::{Error, Result};

/// A text to learn from.
#[derive(Debug)]
pub struct Text {
    /// What its tokens are; pairs are merged by the training part alone.
    pub vocabulary: Arc<Vocabulary>,
    /// blake3 of the whole text and of the vocabulary, hexadecimal.
    pub digest: String,
    /// Token ids to train on.
    pub(crate) training: Vec<i64>,
    /// Token ids to be judged by.
    pub(crate) validation: Vec<i64>,
    /// Characters to a token in the validation part: what turns a loss for each token into one for each character.
    pub characters_per_token: f64,
}

impl Text {
    /// Reads a text file, whose own characters or pairs become the vocabulary.
    ///
    /// # Errors
    /// A file that cannot be read, is not UTF-8, or is too short.
    pub fn read(path: &Path, cut: Cut) -> Result<Self> {
        Self::of(path, &read(path)?, cut)
    }

    /// Reads a text file into the tokens of a vocabulary.
    ///
    /// # Errors
    /// As in [`read`](Self::read), and characters that the vocabulary does not have.
    pub fn read_as(path: &Path, vocabulary: Arc<Vocabulary>) -> Result<Self> {
        let text = read(path)?;
        Self::encoded(&text, split(path, &text)?, vocabulary)
    }

    /// The text itself; `path` stands for it in errors.
    pub fn of(path: &Path, text: &str, cut: Cut) -> Result<Self> {
        let parts = split(path, text)?;
        // Characters that only the validation part has are tokens too: they exist, and are never foreseen.
        let vocabulary = Vocabulary::of(if cut == Cut::Characters { text } else { parts.0 }, cut)?;
        Self::encoded(text, parts, Arc::new(vocabulary))
    }

    fn encoded(text: &str, (training, judged): (&str, &str), vocabulary: Arc<Vocabulary>) -> Result<Self> {
        let validation = vocabulary.encode(judged)?;
        Ok(Self {
            digest: blake3::Hasher::new()
                .update(text.as_bytes())
                .update(vocabulary.json.as_bytes())
                .finalize()
                .to_hex()
                .to_string(),
            training: vocabulary.encode(training)?,
            characters_per_token: judged.chars().count() as f64 / validation.len().max(1) as f64,
            validation,
            vocabulary,
        })
    }

    /// An error if a part is shorter than one window of `context` tokens and the token after it.
    pub fn check(&self, path: &Path, context: usize) -> Result<()> {
        let parts = [("training", self.training.len()), ("validation", self.validation.len())];
        match parts.into_iter().find(|(_, len)| *len <= context) {
            Some((part, len)) => {
                let why = format!(
                    "its {part} part has {len} tokens and a window of {context} needs one more than that; give a longer \
                     text or a shorter context"
                );
                Err(Error::Corpus { path: path.to_owned(), why })
            }
            None => Ok(()),
        }
    }

    /// A loss in nats for each token as bits for each character of the validation part.
    pub(crate) fn bits_per_character(&self, nats_per_token: f64) -> f64 {
        nats_per_token / std::f64::consts::LN_2 / self.characters_per_token
    }

    /// Windows of a step, `rows` for each seed, and the tokens that follow: twice `[seed * rows, context]`.
    ///
    /// A seed's windows depend on the seed and the step alone.
    pub(crate) fn windows(&self, seeds: &[u64], step: u64, rows: usize, context: usize) -> Result<(Tensor, Tensor)> {
        let room = (self.training.len() - context) as u64;
        let mut starts = Vec::with_capacity(seeds.len() * rows);
        for seed in seeds {
            let mut stream = Stream::new(*seed, &format!("windows of step {step}"));
            starts.extend((0..rows).map(|_| stream.below(room) as usize));
        }
        cut(&self.training, &starts, context)
    }

    /// Windows to be judged by, the same ones always: `most` of those that follow each other, evenly spread, or all.
    pub(crate) fn judged(&self, most: Option<usize>, context: usize) -> Vec<usize> {
        let count = (self.validation.len() - 1) / context;
        let chosen = most.unwrap_or(count).clamp(1, count);
        (0..chosen).map(|window| window * count / chosen * context).collect()
    }

    /// Windows of the validation part, and the tokens that follow: twice `[window, context]`.
    pub(crate) fn judged_windows(&self, starts: &[usize], context: usize) -> Result<(Tensor, Tensor)> {
        cut(&self.validation, starts, context)
    }
}

fn read(path: &Path) -> Result<String> {
    let bytes = fs::read(path).map_err(Error::file("read", path))?;
    String::from_utf8(bytes).map_err(|error| Error::Corpus {
        path: path.to_owned(),
        why: format!("byte {} is not UTF-8; convert the file first", error.utf8_error().valid_up_to()),
    })
}

/// The first nine tenths of the characters, and the rest.
fn split<'t>(path: &Path, text: &'t str) -> Result<(&'t str, &'t str)> {
    let characters = text.chars().count();
    let place = text.char_indices().nth(characters * 9 / 10).map_or(text.len(), |(place, _)| place);
    let (training, validation) = text.split_at(place);
    if training.is_empty() || validation.is_empty() {
        let why = format!("{characters} characters are too few to train on nine tenths and judge by the rest");
        return Err(Error::Corpus { path: path.to_owned(), why });
    }
    Ok((training, validation))
}

fn cut(ids: &[i64], starts: &[usize], context: usize) -> Result<(Tensor, Tensor)> {
    let part = |shift: usize| -> Result<Tensor> {
        let rows: Vec<i64> =
            starts.iter().flat_map(|start| &ids[start + shift..start + shift + context]).copied().collect();
        Ok(Tensor::f_from_slice(&rows)?.f_view([starts.len() as i64, context as i64])?)
    };
    Ok((part(0)?, part(1)?))
}

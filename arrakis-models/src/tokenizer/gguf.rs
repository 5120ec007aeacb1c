//! Tokenizers of GGUF metadata: byte-level BPE as in GPT-2, and SentencePiece BPE as in Llama 2.

use std::path::Path;

use tokenizers::decoders::byte_fallback::ByteFallback;
use tokenizers::decoders::fuse::Fuse;
use tokenizers::decoders::sequence::Sequence as Decoders;
use tokenizers::decoders::strip::Strip;
use tokenizers::models::bpe::{BPE, Vocab};
use tokenizers::normalizers::{NFC, Prepend, Replace, Sequence as Normalizers};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::sequence::Sequence as PreTokenizers;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::tokenizer::{SplitDelimiterBehavior, Tokenizer as Inner};
use tokenizers::{AddedToken, PreTokenizerWrapper};

use super::{Special, Tokenizer};
use crate::error::{Error, Result};
use crate::gguf::Metadata;

/// llama.cpp's token types.
const UNKNOWN: i64 = 2;
const CONTROL: i64 = 3;
const USER_DEFINED: i64 = 4;

/// How llama.cpp splits text before merging, by the name in `tokenizer.ggml.pre`.
struct Splitting {
    names: &'static [&'static str],
    /// Applied one after the other, each to the pieces of the one before.
    patterns: &'static [&'static str],
    /// A piece that is a token is not merged from its bytes; BOS is added unless the file says otherwise.
    llama3: bool,
    /// Hugging Face's tokenizer composes characters first.
    composes: bool,
}

const GPT2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)";

const SPLITTINGS: [Splitting; 5] = [
    Splitting {
        names: &["default"],
        patterns: &[r"[\p{P}\$\+<=>\^~\|]+", GPT2, r"\p{N}+", "[0-9][0-9][0-9]"],
        llama3: false,
        composes: false,
    },
    Splitting { names: &["gpt-2", "phi-2", "mpt", "olmo", "jais"], patterns: &[GPT2], llama3: false, composes: false },
    Splitting {
        names: &["smollm", "starcoder", "refact", "command-r", "codeshell"],
        patterns: &[r"\p{N}", GPT2],
        llama3: false,
        composes: false,
    },
    Splitting {
        names: &["llama-bpe", "llama3", "llama-v3"],
        patterns: &[
            r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
        ],
        llama3: true,
        composes: false,
    },
    Splitting {
        names: &["qwen2", "deepseek-r1-qwen"],
        patterns: &[
            r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
        ],
        llama3: false,
        composes: true,
    },
];

/// Blake3 over the metadata that the tokenizer is made of; nothing if there is none.
pub(crate) fn digest_of_metadata(metadata: &Metadata) -> Option<String> {
    const PREFIX: &str = "tokenizer.";
    metadata.keys().any(|key| key.starts_with(PREFIX)).then(|| {
        let mut hasher = blake3::Hasher::new_derive_key("arrakis tokenizer of a gguf file 1");
        metadata.digest(PREFIX, &mut hasher);
        hasher.finalize().to_hex().to_string()
    })
}

/// The tokenizer that a GGUF file describes.
pub(crate) fn from_metadata(path: &Path, metadata: &Metadata) -> Result<Tokenizer> {
    let wrong = |what: String| Error::Tokenizer { path: path.to_owned(), what };
    let Some(model) = metadata.text("tokenizer.ggml.model")?.filter(|model| *model != "none") else {
        return Err(Error::NoTokenizer { looked: vec![path.to_owned()] });
    };
    let tokens = metadata.texts("tokenizer.ggml.tokens")?.unwrap_or_default();
    let mut vocab = Vocab::with_capacity(tokens.len());
    for (id, token) in (0_u32..).zip(&tokens) {
        if let Some(other) = vocab.insert((*token).to_owned(), id) {
            return Err(wrong(format!("tokens {other} and {id} are both `{token}`")));
        }
    }
    let types = metadata.integers("tokenizer.ggml.token_type")?.unwrap_or_default();
    let (mut inner, adds_bos) = match model {
        "gpt2" => byte_level(metadata, vocab).map_err(|what| wrong(what.to_string()))?,
        "llama" => (sentence_piece(metadata, vocab, &tokens, &types).map_err(|what| wrong(what.to_string()))?, true),
        other => return Err(wrong(format!("model `{other}` is not supported (`gpt2` and `llama` are)"))),
    };
    let of = |wanted: &[i64], special| {
        let chosen = tokens.iter().zip(&types).filter(|(_, kind)| wanted.contains(kind));
        chosen.map(|(token, _)| AddedToken::from(*token, special).normalized(false)).collect::<Vec<_>>()
    };
    inner.add_special_tokens(of(&[CONTROL, UNKNOWN], true)).map_err(|e| wrong(e.to_string()))?;
    inner.add_tokens(of(&[USER_DEFINED], false)).map_err(|e| wrong(e.to_string()))?;
    let id = |key: &str| -> Result<Option<u32>> {
        let id = metadata.integer(&format!("tokenizer.ggml.{key}_token_id"))?;
        Ok(id.and_then(|id| u32::try_from(id).ok()).filter(|id| (*id as usize) < tokens.len()))
    };
    let bos = id("bos")?;
    let special = Special {
        bos,
        eos: id("eos")?,
        add_bos: Some(metadata.bool("tokenizer.ggml.add_bos_token")?.unwrap_or(adds_bos && bos.is_some())),
        add_eos: Some(metadata.bool("tokenizer.ggml.add_eos_token")?.unwrap_or(false)),
    };
    Tokenizer::new(inner, path.to_owned(), special)
}

/// Byte-level BPE, and whether it adds BOS where the file does not say.
fn byte_level(metadata: &Metadata, vocab: Vocab) -> tokenizers::Result<(Inner, bool)> {
    let pre = metadata.text("tokenizer.ggml.pre")?.unwrap_or("default");
    let splitting = SPLITTINGS.iter().find(|splitting| splitting.names.contains(&pre));
    let splitting = splitting.ok_or_else(|| {
        let known = SPLITTINGS.iter().flat_map(|splitting| splitting.names).copied().collect::<Vec<_>>().join(", ");
        format!("pre-tokenizer `{pre}` is not supported ({known} are)")
    })?;
    let merges = metadata.texts("tokenizer.ggml.merges")?.ok_or("it has no `tokenizer.ggml.merges`")?;
    let merges = merges.into_iter().map(|merge| match merge.split_once(' ') {
        Some((left, right)) => Ok((left.to_owned(), right.to_owned())),
        None => Err(format!("merge `{merge}` is not two tokens")),
    });
    let merges = merges.collect::<Result<Vec<_>, _>>()?;
    let model = BPE::builder().vocab_and_merges(vocab, merges).ignore_merges(splitting.llama3).build()?;
    let mut inner = Inner::new(model);
    let mut pieces: Vec<PreTokenizerWrapper> = Vec::new();
    for pattern in splitting.patterns {
        let pattern = SplitPattern::Regex((*pattern).to_owned());
        pieces.push(Split::new(pattern, SplitDelimiterBehavior::Isolated, false)?.into());
    }
    pieces.push(ByteLevel::new(false, true, false).into());
    if splitting.composes {
        inner.with_normalizer(Some(NFC))?;
    }
    inner.with_pre_tokenizer(Some(PreTokenizers::new(pieces))).with_decoder(Some(ByteLevel::default()));
    Ok((inner, splitting.llama3))
}

/// SentencePiece BPE: a pair merges if its union is a token, that of the highest score first.
fn sentence_piece(metadata: &Metadata, vocab: Vocab, tokens: &[&str], types: &[i64]) -> tokenizers::Result<Inner> {
    let scores = metadata.floats("tokenizer.ggml.scores")?.ok_or("it has no `tokenizer.ggml.scores`")?;
    if scores.len() != tokens.len() {
        return Err(format!("{} scores for {} tokens", scores.len(), tokens.len()).into());
    }
    let merges = merges(&vocab, tokens, &scores)?;
    let unknown = types.iter().position(|kind| *kind == UNKNOWN).and_then(|id| tokens.get(id)).copied();
    let mut builder = BPE::builder().vocab_and_merges(vocab, merges).fuse_unk(true).byte_fallback(true);
    if let Some(unknown) = unknown {
        builder = builder.unk_token(unknown.to_owned());
    }
    let mut inner = Inner::new(builder.build()?);
    let mut normalizers = Vec::new();
    let mut decoders = vec![Replace::new("▁", " ")?.into(), ByteFallback::new().into(), Fuse::new().into()];
    if metadata.bool("tokenizer.ggml.add_space_prefix")?.unwrap_or(true) {
        normalizers.push(Prepend::new("▁".to_owned()).into());
        decoders.push(Strip::new(' ', 1, 0).into());
    }
    normalizers.push(Replace::new(" ", "▁")?.into());
    inner.with_normalizer(Some(Normalizers::new(normalizers)))?.with_decoder(Some(Decoders::new(decoders)));
    Ok(inner)
}

/// Every way to make a token of two, the tokens of highest score first.
///
/// SentencePiece takes the leftmost of pairs with equal scores, whichever tokens they make, which ranks cannot say;
/// so different tokens must differ in score.
fn merges(vocab: &Vocab, tokens: &[&str], scores: &[f64]) -> Result<Vec<(String, String)>, String> {
    let mut found = Vec::new();
    for (token, score) in tokens.iter().zip(scores) {
        let cuts = token.char_indices().skip(1).map(|(at, _)| token.split_at(at));
        let pairs = cuts.filter_map(|(left, right)| Some((vocab.get_key_value(left)?, vocab.get_key_value(right)?)));
        let pairs: Vec<_> = pairs.map(|((left, _), (right, _))| (left.clone(), right.clone())).collect();
        if !pairs.is_empty() {
            found.push((*score, *token, pairs));
        }
    }
    found.sort_by(|a, b| b.0.total_cmp(&a.0));
    if let Some([(_, one, _), (_, other, _)]) = found.array_windows().find(|[a, b]| a.0.total_cmp(&b.0).is_eq()) {
        return Err(format!("tokens `{one}` and `{other}` have the same score, which orders no merges"));
    }
    Ok(found.into_iter().flat_map(|(_, _, pairs)| pairs).collect())
}

//! Tokenizers of folders and of GGUF metadata.

use std::fs;

use arrakis_models::{Checkpoint, Error, Tokenizer};
use serde_json::{Value, json};

use super::gguf::writer::Writer;
use super::gguf::{llama, opened};
use super::{message, open};
use crate::fixtures::shared;

fn integers(numbers: &[i32]) -> Vec<u8> {
    numbers.iter().flat_map(|number| number.to_le_bytes()).collect()
}

/// Byte-level BPE over a few letters: ` ab` is a token, `ba` is not.
fn byte_level(pre: &str) -> Writer {
    llama()
        .text("tokenizer.ggml.model", "gpt2")
        .text("tokenizer.ggml.pre", pre)
        .texts("tokenizer.ggml.tokens", &["<|end|>", "a", "b", "Ġ", "1", "ab", "Ġab", "Ã", "©", "11", "{x}"])
        .texts("tokenizer.ggml.merges", &["a b", "Ġ ab", "1 1"])
        .array("tokenizer.ggml.token_type", 5, 11, &integers(&[3, 1, 1, 1, 1, 1, 1, 1, 1, 1, 4]))
        .u32("tokenizer.ggml.eos_token_id", 0)
}

/// SentencePiece over a few letters.
fn sentence_piece(scores: [f32; 8]) -> Writer {
    let scores: Vec<u8> = scores.iter().flat_map(|score| score.to_le_bytes()).collect();
    llama()
        .text("tokenizer.ggml.model", "llama")
        .texts("tokenizer.ggml.tokens", &["<unk>", "<s>", "▁", "a", "b", "▁a", "ab", "<0xC3>"])
        .array("tokenizer.ggml.token_type", 5, 8, &integers(&[2, 3, 1, 1, 1, 1, 1, 6]))
        .array("tokenizer.ggml.scores", 6, 8, &scores)
        .u32("tokenizer.ggml.bos_token_id", 1)
}

fn tokenizer(writer: &Writer) -> Result<Tokenizer, Error> {
    opened(writer).unwrap().tokenizer()
}

/// A folder with weights, this `tokenizer.json` and this `tokenizer_config.json`.
fn folder(tokenizer: &[u8], config: &Value) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let weights = b"\x02\0\0\0\0\0\0\0{}";
    let config = config.to_string();
    for (name, bytes) in [
        ("model.safetensors", weights.as_slice()),
        ("config.json", b"{}"),
        ("tokenizer.json", tokenizer),
        ("tokenizer_config.json", config.as_bytes()),
    ] {
        fs::write(folder.path().join(name), bytes).unwrap();
    }
    folder
}

/// A `tokenizer.json` of whole words.
fn words() -> Vec<u8> {
    let special = |id: u32, content: &str| {
        json!({"id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false,
               "normalized": false, "special": true})
    };
    json!({
        "version": "1.0",
        "truncation": {"direction": "Right", "max_length": 2, "strategy": "LongestFirst", "stride": 0},
        "padding": null,
        "added_tokens": [special(0, "<s>"), special(1, "</s>")],
        "normalizer": null,
        "pre_tokenizer": {"type": "Whitespace"},
        "post_processor": null,
        "decoder": null,
        "model": {"type": "WordLevel", "vocab": {"<s>": 0, "</s>": 1, "the": 2, "cat": 3, "?": 4}, "unk_token": "?"},
    })
    .to_string()
    .into_bytes()
}

#[test]
fn byte_level_bpe_of_gguf() {
    let tokens = tokenizer(&byte_level("smollm")).unwrap();
    assert_eq!(tokens.encode("ab ab").unwrap(), [5, 6]);
    assert_eq!(tokens.encode("11").unwrap(), [4, 4], "every digit stands alone, so `11` never merges");
    assert_eq!(tokens.encode("a<|end|>{x}").unwrap(), [1, 0, 10]);
    assert_eq!(tokens.encode("é").unwrap(), [7, 8]);
    assert_eq!(tokens.encode("").unwrap(), [0_i64; 0]);
    assert_eq!(tokens.decode(&[5, 6, 0, 7, 8, -1]), "ab ab<|end|>é<-1>");
    assert_eq!([6, 7, 8, 99].map(|id| tokens.token(id)), [" ab", "<0xC3>", "<0xA9>", "<99>"]);
    assert_eq!((tokens.bos(), tokens.eos(), tokens.vocab_size()), (None, Some(0), 11));
    assert_eq!(tokens.id_of(" ab").unwrap(), 6);
    assert_eq!(message(tokens.id_of("ba")), "`ba` is not one token: it splits into `b`, `a`");
    assert_eq!(message(tokens.id_of("")), "`` is not one token: it splits into nothing");
}

#[test]
fn the_splitting_is_the_one_that_the_file_names() {
    for (pre, ids) in [("gpt-2", vec![9]), ("llama-bpe", vec![9]), ("qwen2", vec![4, 4]), ("default", vec![9])] {
        assert_eq!(tokenizer(&byte_level(pre)).unwrap().encode("11").unwrap(), ids, "{pre}");
    }
    let text = message(tokenizer(&byte_level("tekken")));
    assert!(text.contains("`tekken`") && text.contains("smollm"), "{text}");
}

#[test]
fn sentence_piece_of_gguf() {
    let tokens = tokenizer(&sentence_piece([0.0, 0.0, -3.0, -4.0, -5.0, -2.0, -1.0, 0.0])).unwrap();
    assert_eq!(tokens.encode("ab").unwrap(), [1, 2, 6], "`ab` has a higher score than ` a`");
    assert_eq!(tokens.decode(&[2, 6, 5]), "ab a");
    assert_eq!([5, 6, 1, 7].map(|id| tokens.token(id)), [" a", "ab", "<s>", "<0xC3>"]);
    assert_eq!((tokens.id_of("a").unwrap(), tokens.id_of(" a").unwrap()), (5, 5));
    let other = tokenizer(&sentence_piece([0.0, 0.0, -3.0, -4.0, -5.0, -1.0, -2.0, 0.0])).unwrap();
    assert_eq!(other.encode("ab").unwrap(), [1, 5, 4]);
    let bare = sentence_piece([0.0, 0.0, -3.0, -4.0, -5.0, -1.0, -2.0, 0.0])
        .value("tokenizer.ggml.add_bos_token", 7, &[0])
        .value("tokenizer.ggml.add_space_prefix", 7, &[0]);
    assert_eq!(tokenizer(&bare).unwrap().encode("ab a").unwrap(), [6, 5]);
    let text = message(tokenizer(&sentence_piece([0.0; 8])));
    assert!(text.contains("the same score"), "{text}");
}

#[test]
fn a_tokenizer_that_cannot_be_used_is_refused_by_name() {
    for (file, word) in [
        (llama(), "no tokenizer"),
        (llama().text("tokenizer.ggml.model", "none"), "no tokenizer"),
        (llama().text("tokenizer.ggml.model", "bert"), "`bert`"),
        (llama().text("tokenizer.ggml.model", "gpt2"), "tokenizer.ggml.merges"),
        (llama().text("tokenizer.ggml.model", "llama"), "tokenizer.ggml.scores"),
        (llama().text("tokenizer.ggml.model", "gpt2").texts("tokenizer.ggml.tokens", &["a", "a"]), "both `a`"),
        (llama().text("tokenizer.ggml.model", "gpt2").texts("tokenizer.ggml.merges", &["ab"]), "`ab`"),
        (llama().text("tokenizer.ggml.model", "gpt2").texts("tokenizer.ggml.merges", &["a b"]), "a"),
        (llama().text("tokenizer.ggml.model", "gpt2").u32("tokenizer.ggml.tokens", 1), "`tokenizer.ggml.tokens`"),
        (byte_level("smollm").value("tokenizer.ggml.add_bos_token", 7, &[1]), "does not say which"),
    ] {
        let text = message(tokenizer(&file));
        assert!(text.contains("model.gguf") && text.contains(word), "{word}: {text}");
    }
    let broken = folder(b"{", &json!({}));
    assert!(message(open(broken.path()).unwrap().tokenizer()).contains("tokenizer.json"));
    fs::remove_file(broken.path().join("tokenizer.json")).unwrap();
    let text = message(open(broken.path()).unwrap().tokenizer());
    assert!(text.contains("no tokenizer") && text.contains("tokenizer.json"), "{text}");
}

#[test]
fn special_tokens_are_added_as_the_config_says() {
    let ids = |config: Value| {
        let folder = folder(&words(), &config);
        open(folder.path()).unwrap().tokenizer().unwrap().encode("the cat the cat").unwrap()
    };
    let plain = vec![2, 3, 2, 3];
    assert_eq!(ids(json!({})), plain, "and `truncation` of the file is not applied");
    assert_eq!(ids(json!({"bos_token": "<s>"})), plain);
    assert_eq!(ids(json!({"bos_token": "<s>", "add_bos_token": false})), plain);
    assert_eq!(ids(json!({"bos_token": "<s>", "add_bos_token": true})), [0, 2, 3, 2, 3]);
    assert_eq!(ids(json!({"bos_token": {"content": "<s>"}, "tokenizer_class": "LlamaTokenizer"})), [0, 2, 3, 2, 3]);
    assert_eq!(ids(json!({"eos_token": "</s>", "add_eos_token": true})), [2, 3, 2, 3, 1]);
}

#[test]
fn gpt2_and_stories_of_the_shared_folder() {
    let Some(shared) = shared() else { return };
    let gpt2 = fs::read(shared.join("tokenizers/gpt2/tokenizer.json")).unwrap();
    let tokens = open(folder(&gpt2, &json!({"bos_token": "<|endoftext|>"})).path()).unwrap().tokenizer().unwrap();
    let text = "When Mary and John went to the store, John gave 12 drinks\n\n  to";
    assert_eq!(tokens.decode(&tokens.encode(text).unwrap()), text);
    assert_eq!((tokens.id_of(" Mary").unwrap(), tokens.bos()), (5335, Some(50256)));
    assert_eq!(tokens.token(5335), " Mary");
    let parts: Vec<String> = tokens.encode("😀").unwrap().into_iter().map(|id| tokens.token(id)).collect();
    assert_eq!(parts, ["<0xF0><0x9F><0x98>", "<0x80>"]);
    let labels: std::collections::HashSet<String> = (0..50257).map(|id| tokens.token(id)).collect();
    assert_eq!(labels.len(), 50257, "every token has a name of its own");

    let stories = Checkpoint::open(shared.join("models/stories260K").to_str().unwrap()).unwrap();
    let tokens = stories.tokenizer().unwrap();
    let reference = fs::read(shared.join("models/stories260K.reference.json")).unwrap();
    let reference: Value = serde_json::from_slice(&reference).unwrap();
    let ids = tokens.encode(reference["text"].as_str().unwrap()).unwrap();
    assert_eq!(json!(ids), reference["ids"]);
    assert_eq!([1, 403, 407].map(|id| tokens.token(id)), ["<s>", " Once", " upon"]);
}

//! Damaged files of every kind: mutations of sound ones are read or refused, without a panic and in bounded memory.
//!
//! `ARRAKIS_FUZZ_CASES` says how many of each kind; each case is drawn from its number, so that it can be had again.

use std::fs;
use std::path::Path;

use arrakis_core::Stream;
use arrakis_models::{Checkpoint, Decoder, LoadOptions};
use serde_json::{Map, Value, json};

use super::{gguf, open, pickle};
use crate::{allocated, fixtures};

/// Bytes that reading anything may take, however small the file.
const FLOOR: usize = 64 << 10;

const NUMBERS: [u64; 12] =
    [0, 1, 2, 255, 256, 65_535, 1 << 31, u32::MAX as u64, 1 << 32, i64::MAX as u64, 1 << 63, u64::MAX];

fn cases() -> u64 {
    std::env::var("ARRAKIS_FUZZ_CASES").map_or(2000, |count| count.parse().expect("ARRAKIS_FUZZ_CASES is a number"))
}

/// Reads mutations of `seeds`; memory may be `factor` times the input and `floor`. `read` says whether it was accepted.
fn survive(
    kind: &str,
    seeds: &[Vec<u8>],
    (factor, floor): (usize, usize),
    mutate: impl Fn(&[u8], &mut Stream) -> Vec<u8>,
    mut read: impl FnMut(&[u8]) -> bool,
) {
    let (mut accepted, mut greatest) = (0, 0);
    for case in 0..cases() {
        let mut stream = Stream::new(case, kind);
        let bytes = mutate(&seeds[stream.below(seeds.len() as u64) as usize], &mut stream);
        let most = allocated::most(|| accepted += u64::from(read(&bytes)));
        assert!(most <= factor * bytes.len() + floor, "{kind} {case}: {most} bytes for {}", bytes.len());
        greatest = greatest.max(most);
    }
    fixtures::say(&format!("{kind}: {} cases, {accepted} accepted, at most {greatest} bytes of memory", cases()));
}

/// One to four changes to bytes.
fn mutated(seed: &[u8], stream: &mut Stream) -> Vec<u8> {
    let mut bytes = seed.to_vec();
    for _ in 0..=stream.below(4) {
        let at = stream.below(bytes.len() as u64 + 1) as usize;
        let span = at..(at + stream.below(16) as usize).min(bytes.len());
        let number = NUMBERS[stream.below(NUMBERS.len() as u64) as usize].to_le_bytes();
        let number = &number[..1 << stream.below(4)];
        match stream.below(8) {
            0..=2 if at < bytes.len() => bytes[at] ^= 1 << stream.below(8),
            3 if at < bytes.len() => bytes[at] = stream.below(256) as u8,
            4 => bytes.iter_mut().skip(at).zip(number).for_each(|(byte, new)| *byte = *new),
            5 => drop(bytes.splice(at..at, number.iter().copied())),
            6 => drop(bytes.splice(span, [])),
            7 => drop(bytes.splice(at..at, bytes[span].to_vec())),
            _ => bytes.truncate(at),
        }
    }
    bytes
}

/// Whether a file opens and gives all its tensors.
fn reads(model: &Path) -> bool {
    let Ok(checkpoint) = open(model) else { return false };
    checkpoint.tensors.names().all(|name| {
        let tensor = checkpoint.tensors.get(name);
        tensor.is_ok_and(|tensor| Some(tensor.size().as_slice()) == checkpoint.tensors.shape(name))
    })
}

/// Survives damage to `file` in a folder that has a config besides.
fn survive_in_folder(kind: &str, file: &str, seeds: &[Vec<u8>], factor: usize) {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("config.json"), "{}").unwrap();
    survive(kind, seeds, (factor, FLOOR), mutated, |bytes| {
        fs::write(folder.path().join(file), bytes).unwrap();
        reads(folder.path())
    });
}

#[test]
fn safetensors() {
    let entry = |first: u64| json!({"dtype": "F32", "shape": [2, 3], "data_offsets": [first, first + 24]});
    let file = |header: Value| {
        let header = header.to_string();
        [(header.len() as u64).to_le_bytes().as_slice(), header.as_bytes(), &[1; 72]].concat()
    };
    let plain = file(json!({"a": entry(0), "b": entry(24), "c": entry(48)}));
    let other = json!({"dtype": "BF16", "shape": [4, 9], "data_offsets": [0, 72]});
    let told = file(json!({"__metadata__": {"format": "pt"}, "w": other}));
    survive_in_folder("safetensors", "model.safetensors", &[plain, told], 64);
}

#[test]
fn bin() {
    survive_in_folder(
        "bin",
        "pytorch_model.bin",
        &[pickle::archive(), pickle::wide_archive(), pickle::before_zip()],
        pickle::FACTOR,
    );
}

#[test]
fn gguf() {
    let small = gguf::llama();
    let told = gguf::llama().every_type().tensor("blk.0.ffn_up.weight", &[2, 32], 8, &[1; 68]);
    let turned = gguf::llama().tensor("blk.0.attn_q.weight", &[8, 2], 0, &gguf::floats(0..16));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    survive("gguf", &[small.bytes(), told.bytes(), turned.bytes()], (64, FLOOR), mutated, |bytes| {
        fs::write(&path, bytes).unwrap();
        reads(&path)
    });
}

/// A change to one field of a config, or to its bytes.
fn misconfigured(seed: &[u8], stream: &mut Stream) -> Vec<u8> {
    if stream.below(4) == 0 {
        return mutated(seed, stream);
    }
    let mut config: Map<String, Value> = serde_json::from_slice(seed).unwrap();
    for _ in 0..=stream.below(3) {
        let mut fields = &mut config;
        let at = stream.below(fields.len() as u64) as usize;
        let key = fields.keys().nth(at).unwrap().clone();
        if fields[&key].as_object().is_some_and(|inner| !inner.is_empty()) && stream.below(4) > 0 {
            fields = fields[&key].as_object_mut().unwrap();
        }
        let at = stream.below(fields.len() as u64) as usize;
        let key = fields.keys().nth(at).unwrap().clone();
        let number = NUMBERS[stream.below(NUMBERS.len() as u64) as usize];
        let value = match stream.below(10) {
            0 => Value::Null,
            1 => json!(true),
            2 => json!(""),
            3 => json!([]),
            4 => json!([[["global"], number]]),
            5 => json!(-1),
            6 => json!(1e300),
            7 => json!(1e-300),
            8 => json!(number as f64 / 2.0),
            _ => json!(number),
        };
        fields.insert(key, value);
    }
    serde_json::to_vec(&config).unwrap()
}

#[test]
fn configs() {
    let mut seeds = Vec::new();
    let mut checkpoints = Vec::new();
    for folder in fixtures::model_folders().into_iter().filter(|f| f.starts_with(fixtures::root().join("tests"))) {
        for name in ["config.json", "config.v5.json"] {
            seeds.push(fs::read(folder.join(name)).unwrap());
        }
        checkpoints.push(open(&folder).unwrap());
    }
    // The blocks of a decoder are as many as its weights, and its windows as many as a config may say: 65,535.
    survive("config", &seeds, (64, 4 << 20), misconfigured, |bytes| {
        let Ok(config) = serde_json::from_slice::<Map<String, Value>>(bytes) else { return false };
        let family = config.get("model_type").cloned();
        let like = |checkpoint: &&mut Checkpoint| checkpoint.config.get("model_type") == family.as_ref();
        checkpoints.iter_mut().filter(like).any(|checkpoint| {
            let own = std::mem::replace(&mut checkpoint.config, config.clone());
            let decoder = Decoder::from_checkpoint(checkpoint, &LoadOptions::default());
            checkpoint.config = own;
            decoder.is_ok()
        })
    });
}

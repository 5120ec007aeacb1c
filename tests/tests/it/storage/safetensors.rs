//! Safetensors, single and sharded.

use std::collections::BTreeMap;
use std::fs;

use ::safetensors::tensor::TensorView;
use ::safetensors::{Dtype, serialize};
use arrakis_core::remembered::FileIdentity;
use proptest::prelude::*;
use serde_json::json;
use tch::{Kind, Tensor};
use tempfile::TempDir;

use super::{message, open};

/// Two float tensors and a scalar, as a file's bytes.
fn small() -> Vec<u8> {
    let a: Vec<u8> = (0..6).flat_map(|i| (i as f32 / 2.0).to_le_bytes()).collect();
    let b: Vec<u8> = [1.0_f32, -2.5].iter().flat_map(|&x| half::bf16::from_f32(x).to_le_bytes()).collect();
    let tensors = BTreeMap::from([
        ("a", TensorView::new(Dtype::F32, vec![2, 3], &a).unwrap()),
        ("b", TensorView::new(Dtype::BF16, vec![2], &b).unwrap()),
        ("count", TensorView::new(Dtype::I64, vec![], &[7, 0, 0, 0, 0, 0, 0, 0]).unwrap()),
    ]);
    serialize(&tensors, None).unwrap()
}

/// A folder with an empty config and the given files.
fn folder(files: &[(&str, &[u8])]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("config.json"), "{}").unwrap();
    for (name, bytes) in files {
        fs::write(folder.path().join(name), bytes).unwrap();
    }
    folder
}

/// A file with the given header and so many bytes of data.
fn file(header: &str, data: usize) -> Vec<u8> {
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend_from_slice(header.as_bytes());
    bytes.resize(bytes.len() + data, 0);
    bytes
}

fn refused(bytes: &[u8]) -> String {
    let folder = folder(&[("model.safetensors", bytes)]);
    let text = message(open(folder.path()));
    assert!(text.contains("model.safetensors"), "{text}");
    text
}

fn shard(name: &'static str, value: f32) -> Vec<u8> {
    serialize([(name, TensorView::new(Dtype::F32, vec![1], &value.to_le_bytes()).unwrap())], None).unwrap()
}

#[test]
fn a_file_is_read_to_the_bit() {
    let folder = folder(&[("model.safetensors", &small())]);
    let checkpoint = open(folder.path()).unwrap();
    let tensors = &checkpoint.tensors;
    assert_eq!(tensors.names().collect::<Vec<_>>(), ["a", "b", "count"]);
    assert_eq!((tensors.shape("a"), tensors.kind("a")), (Some(&[2, 3][..]), Some(Kind::Float)));
    assert_eq!(tensors.bytes(), 24 + 4 + 8);
    assert_eq!(tensors.get("a").unwrap(), Tensor::from_slice(&[0.0_f32, 0.5, 1.0, 1.5, 2.0, 2.5]).view([2, 3]));
    let b = tensors.get("b").unwrap();
    assert_eq!(b.kind(), Kind::BFloat16);
    assert_eq!(b.to_kind(Kind::Float), Tensor::from_slice(&[1.0_f32, -2.5]));
    let count = tensors.get("count").unwrap();
    assert_eq!((count.size(), count.int64_value(&[])), (vec![], 7));
}

#[test]
fn tensors_are_not_copied_and_outlive_the_checkpoint() {
    let folder = folder(&[("model.safetensors", &small())]);
    let checkpoint = open(folder.path()).unwrap();
    let first = checkpoint.tensors.get("a").unwrap();
    let second = checkpoint.tensors.get("a").unwrap();
    assert_eq!(first.data_ptr(), second.data_ptr());
    drop((checkpoint, second));
    drop(folder);
    assert_eq!(first.sum(Kind::Float).double_value(&[]), 7.5);
}

#[test]
fn writing_to_a_tensor_leaves_the_file_alone() {
    let folder = folder(&[("model.safetensors", &small())]);
    let mut a = open(folder.path()).unwrap().tensors.get("a").unwrap();
    let _ = a.fill_(9.0);
    assert_eq!(fs::read(folder.path().join("model.safetensors")).unwrap(), small());
}

#[test]
fn a_misaligned_tensor_is_copied() {
    let header = r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#;
    for pad in 0..4 {
        let mut bytes = file(&format!("{header}{}", " ".repeat(pad)), 0);
        bytes.extend([1.5_f32, -3.0].iter().flat_map(|x| x.to_le_bytes()));
        let folder = folder(&[("model.safetensors", &bytes)]);
        let a = open(folder.path()).unwrap().tensors.get("a").unwrap();
        assert_eq!(a, Tensor::from_slice(&[1.5_f32, -3.0]));
        assert_eq!(a.data_ptr() as usize % 4, 0);
    }
}

#[test]
fn an_empty_tensor_is_a_tensor() {
    let bytes = file(r#"{"e":{"dtype":"F16","shape":[0,3],"data_offsets":[0,0]}}"#, 0);
    let folder = folder(&[("model.safetensors", &bytes)]);
    assert_eq!(open(folder.path()).unwrap().tensors.get("e").unwrap().size(), [0, 3]);
}

#[test]
fn every_truncation_is_refused() {
    let whole = small();
    for length in 0..whole.len() {
        refused(&whole[..length]);
    }
    assert!(refused(&whole[..whole.len() - 1]).contains("tensor `"), "the tensor that is cut is named");
    let longer = [whole.as_slice(), &[0]].concat();
    assert!(refused(&longer).contains("1 bytes after the last tensor"));
}

#[test]
fn a_header_that_lies_is_refused_by_name() {
    let one = |dtype: &str, shape: &str, offsets: &str| {
        format!(r#"{{"w":{{"dtype":"{dtype}","shape":{shape},"data_offsets":{offsets}}}}}"#)
    };
    for (header, data, word) in [
        (one("F32", "[2]", "[0,4]"), 4, "do not hold"),
        (one("F32", "[1]", "[4,8]"), 8, "4 bytes after the tensor before it"),
        (one("F32", "[1]", "[4,0]"), 4, "`w`"),
        (one("F32", "[1]", "[0,18446744073709551615]"), 4, "cut short"),
        (one("F32", "[4294967296,4294967296,4]", "[0,0]"), 0, "do not hold"),
        (one("F32", "[-1]", "[0,4]"), 4, "`w`"),
        (one("U32", "[1]", "[0,4]"), 4, "`U32` is not supported"),
        (one("Q7", "[1]", "[0,4]"), 4, "Q7"),
        (r#"{"v":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"w":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}}"#.into(), 12, "overlaps"),
        ("[]".into(), 0, "no JSON object"),
        ("{\"w\":".into(), 0, "no JSON object"),
    ] {
        let text = refused(&file(&header, data));
        assert!(text.contains(word), "{header}: {text}");
    }
    assert!(refused(&u64::MAX.to_le_bytes()).contains("no safetensors file"));
    assert!(refused(b"version https://git-lfs.github.com/spec/v1\n").contains("no safetensors file"));
}

#[test]
fn shards_are_read_through_their_index() {
    let index = json!({"weight_map": {"a": "one.safetensors", "b": "two.safetensors"}}).to_string();
    let (one, two) = (shard("a", 1.0), shard("b", 2.0));
    let files = [
        ("one.safetensors", one.as_slice()),
        ("two.safetensors", two.as_slice()),
        ("model.safetensors.index.json", index.as_bytes()),
    ];
    let folder = folder(&files);
    let checkpoint = open(folder.path()).unwrap();
    assert_eq!(checkpoint.files().len(), 2);
    assert_eq!(checkpoint.tensors.get("b").unwrap(), Tensor::from_slice(&[2.0_f32]));
    assert_eq!(message(checkpoint.tensors.get("c")), "no tensor `c`");
}

#[test]
fn shards_that_do_not_match_their_index_are_refused_by_name() {
    let (one, two) = (shard("a", 1.0), shard("b", 2.0));
    let text = |map: serde_json::Value, files: &[(&str, &[u8])]| {
        let folder = folder(files);
        fs::write(folder.path().join("model.safetensors.index.json"), map.to_string()).unwrap();
        message(open(folder.path()))
    };
    let both = json!({"weight_map": {"a": "one.safetensors", "b": "two.safetensors"}});
    let missing = text(both.clone(), &[("one.safetensors", &one)]);
    assert!(missing.contains("`two.safetensors`") && missing.contains("`b`"), "{missing}");
    let absent = text(both.clone(), &[("one.safetensors", &one), ("two.safetensors", &shard("c", 0.0))]);
    assert!(absent.contains("two.safetensors` has no tensor `b`"), "{absent}");
    let twice = text(both, &[("one.safetensors", &one), ("two.safetensors", &shard("a", 0.0))]);
    assert!(twice.contains("`a` is given twice"), "{twice}");
    let unlisted = json!({"weight_map": {"a": "one.safetensors"}});
    let files = file(
        r#"{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"z":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}}"#,
        2,
    );
    let leftover = text(unlisted, &[("one.safetensors", &files), ("two.safetensors", &two)]);
    assert!(leftover.contains("`z` is in a shard but not in the index"), "{leftover}");
    let outside = text(json!({"weight_map": {"a": "../one.safetensors"}}), &[]);
    assert!(outside.contains("`../one.safetensors`"), "{outside}");
    let empty = text(json!({}), &[]);
    assert!(empty.contains("weight_map"), "{empty}");
}

#[test]
fn a_folder_without_readable_weights_says_what_to_do() {
    let text = message(open(folder(&[]).path()));
    assert!(text.contains("no `model.safetensors`"), "{text}");
    let folder = folder(&[("model.safetensors", &small())]);
    fs::remove_file(folder.path().join("config.json")).unwrap();
    assert!(message(open(folder.path())).contains("config.json"));
    fs::write(folder.path().join("config.json"), "[1]").unwrap();
    assert!(message(open(folder.path())).contains("config.json"));
}

proptest! {
    #[test]
    fn any_damage_is_read_or_refused(at in 0..200_usize, byte: u8, length in 0..300_usize) {
        let mut bytes = small();
        let last = bytes.len() - 1;
        bytes[at.min(last)] = byte;
        bytes.truncate(length);
        let folder = folder(&[("model.safetensors", &bytes)]);
        if let Ok(checkpoint) = open(folder.path()) {
            for name in checkpoint.tensors.names() {
                let tensor = checkpoint.tensors.get(name).unwrap();
                prop_assert_eq!(tensor.size(), checkpoint.tensors.shape(name).unwrap());
            }
        }
    }

    #[test]
    fn any_header_is_read_or_refused(
        shape in prop::collection::vec(0..5_u64, 0..4),
        first in 0..20_u64,
        last in 0..20_u64,
        data in 0..20_usize,
    ) {
        let header = json!({"w": {"dtype": "F16", "shape": shape, "data_offsets": [first, last]}}).to_string();
        let folder = folder(&[("model.safetensors", &file(&header, data))]);
        if let Ok(checkpoint) = open(folder.path()) {
            prop_assert_eq!(checkpoint.tensors.get("w").unwrap().numel() * 2, data);
        }
    }
}

#[test]
fn a_file_that_was_replaced_is_another_to_those_who_remember() {
    let folder = tempfile::tempdir().unwrap();
    let (path, other) = (folder.path().join("weights"), folder.path().join("others"));
    let identity = |opened: &fs::File| FileIdentity::of(&path, &opened.metadata().unwrap()).unwrap();
    fs::write(&path, "old").unwrap();
    let old = fs::File::open(&path).unwrap();
    let before = identity(&old);
    assert_eq!(before, identity(&fs::File::open(&path).unwrap()));
    fs::write(&other, "new").unwrap();
    fs::rename(&other, &path).unwrap();
    assert_ne!(before, identity(&fs::File::open(&path).unwrap()));
}

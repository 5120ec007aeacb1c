//! PyTorch's `.bin`: what is sound is read to the bit, what is hostile is an error that names it, and nothing is run.

pub(super) mod writer;

use std::fs;

use arrakis_core::Model as _;
use arrakis_models::{Checkpoint, Error, LoadOptions, load};
use proptest::prelude::*;
use safetensors::SafeTensors;
use serde_json::json;
use tch::{Kind, Tensor};
use tempfile::TempDir;

use super::{gguf::floats, message, open};
use crate::{allocated, fixtures};
use writer::{Described, global, int, legacy, pickle, state, storage, text, zip, zip64};

/// Bytes of memory that reading takes for each of the file's, at most.
pub(super) const FACTOR: usize = 256;

/// A folder with an empty config and the given files.
fn folder(files: &[(&str, &[u8])]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("config.json"), "{}").unwrap();
    for (name, bytes) in files {
        fs::write(folder.path().join(name), bytes).unwrap();
    }
    folder
}

fn opened(bytes: &[u8]) -> Result<Checkpoint, Error> {
    open(folder(&[("pytorch_model.bin", bytes)]).path())
}

fn refused(bytes: &[u8]) -> String {
    let text = message(opened(bytes));
    assert!(text.contains("pytorch_model.bin"), "{text}");
    text
}

/// Two tensors of one storage, one of them turned and beginning in its midst.
fn shared() -> Vec<Described> {
    let turned = Described { offset: 2, shape: vec![2, 2], strides: vec![1, 2], ..Described::whole("turned", "0", 6) };
    vec![Described { shape: vec![2, 3], strides: vec![3, 1], ..Described::whole("plain", "0", 6) }, turned]
}

pub(super) fn archive() -> Vec<u8> {
    let (state, data) = (state(&shared()), floats(0..6));
    zip(&[("m/data.pkl", &state), ("m/byteorder", b"little"), ("m/data/0", &data), ("m/version", b"3\n")])
}

pub(super) fn wide_archive() -> Vec<u8> {
    zip64(&[("m/data.pkl", &state(&shared())), ("m/data/0", &floats(0..6))])
}

pub(super) fn before_zip() -> Vec<u8> {
    legacy(&state(&shared()), &[("0", 4, &floats(0..6))])
}

/// An archive with one storage of six floats.
fn with(pickle: &[u8]) -> Vec<u8> {
    zip(&[("m/data.pkl", pickle), ("m/data/0", &floats(0..6))])
}

#[test]
fn every_form_is_read_to_the_bit() {
    for bytes in [archive(), wide_archive(), before_zip()] {
        let tensors = opened(&bytes).unwrap().tensors;
        assert_eq!(tensors.names().collect::<Vec<_>>(), ["plain", "turned"]);
        let plain = tensors.get("plain").unwrap();
        assert_eq!(plain, Tensor::from_slice(&[0.0_f32, 1.0, 2.0, 3.0, 4.0, 5.0]).view([2, 3]));
        let turned = tensors.get("turned").unwrap();
        assert_eq!((turned.size(), turned.stride()), (vec![2, 2], vec![1, 2]));
        assert_eq!(turned, Tensor::from_slice(&[2.0_f32, 4.0, 3.0, 5.0]).view([2, 2]));
    }
}

#[test]
fn stored_members_are_not_copied_and_outlive_the_checkpoint() {
    let tensors = opened(&archive()).unwrap().tensors;
    let (plain, turned) = (tensors.get("plain").unwrap(), tensors.get("turned").unwrap());
    assert_eq!(turned.data_ptr().addr() - plain.data_ptr().addr(), 8);
    drop(tensors);
    assert_eq!(turned.sum(Kind::Float).double_value(&[]), 14.0);
}

#[test]
fn every_kind_has_a_storage_and_a_parameter_is_its_tensor() {
    for (element, kind, size) in [
        ("Bool", Kind::Bool, 1),
        ("Byte", Kind::Uint8, 1),
        ("Char", Kind::Int8, 1),
        ("Short", Kind::Int16, 2),
        ("Int", Kind::Int, 4),
        ("Long", Kind::Int64, 8),
        ("Half", Kind::Half, 2),
        ("BFloat16", Kind::BFloat16, 2),
        ("Float", Kind::Float, 4),
        ("Double", Kind::Double, 8),
    ] {
        let tensor = Described { element, ..Described::whole("w", "0", 2) };
        let parameter =
            [global("torch._utils", "_rebuild_parameter"), b"(".to_vec(), tensor.opcodes(), b"\x88NtR".to_vec()];
        let state = pickle(&[b"}".to_vec(), text("w"), parameter.concat(), b"s".to_vec()].concat());
        let tensors = opened(&zip(&[("m/data.pkl", &state), ("m/data/0", &vec![1; 2 * size])])).unwrap().tensors;
        assert_eq!((tensors.kind("w"), tensors.get("w").unwrap().numel()), (Some(kind), 2));
    }
    let untyped = [
        text("w"),
        global("torch._utils", "_rebuild_tensor_v3"),
        b"((".to_vec(),
        [text("storage"), global("torch.storage", "UntypedStorage"), text("0"), text("cpu"), int(24)].concat(),
        b"tQK\x00K\x06\x85K\x01\x85\x89N".to_vec(),
        global("torch", "float32"),
        b"tR".to_vec(),
    ];
    let state = pickle(&[b"}", untyped.concat().as_slice(), b"s"].concat());
    assert_eq!(opened(&with(&state)).unwrap().tensors.get("w").unwrap().double_value(&[5]), 5.0);
}

#[test]
fn a_protocol_of_another_time_says_the_same() {
    // Protocol 4: a frame, short texts, STACK_GLOBAL and MEMOIZE.
    let short = |text: &str| [b"\x8c".as_slice(), &[text.len() as u8], text.as_bytes(), b"\x94"].concat();
    let global = |module: &str, name: &str| [short(module), short(name), b"\x93\x94".to_vec()].concat();
    let state = [
        b"\x80\x04\x95\0\0\0\0\0\0\0\0}\x94".to_vec(),
        short("w"),
        global("torch._utils", "_rebuild_tensor_v2"),
        b"((".to_vec(),
        [short("storage"), global("torch", "FloatStorage"), short("0"), short("cpu")].concat(),
        b"K\x06t\x94QK\x00K\x06\x85\x94K\x01\x85\x94\x89}t\x94R\x94s.".to_vec(),
    ];
    assert_eq!(opened(&with(&state.concat())).unwrap().tensors.shape("w"), Some(&[6][..]));
}

#[test]
fn a_model_of_strided_weights_is_the_same_model() {
    let golden = fixtures::root().join("tests/golden/llama");
    let bytes = fs::read(golden.join("model.safetensors")).unwrap();
    let weights = SafeTensors::deserialize(&bytes).unwrap();
    let (mut described, mut members) = (Vec::new(), Vec::new());
    for (i, (name, weight)) in weights.iter().enumerate() {
        let shape: Vec<i64> = weight.shape().iter().map(|&n| n as i64).collect();
        let tensor = Tensor::from_data_size(weight.data(), &shape, Kind::Float);
        let turned = tensor.t_copy().reshape([-1]);
        let key: &'static str = i.to_string().leak();
        let strides = if shape.len() == 2 { vec![1, shape[0]] } else { vec![1] };
        let name: &'static str = name.to_owned().leak();
        described.push(Described { shape, strides, ..Described::whole(name, key, tensor.numel() as i64) });
        let values = Vec::<f32>::try_from(turned).unwrap();
        members.push((format!("m/data/{key}"), values.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>()));
    }
    let state = state(&described);
    let mut all = vec![("m/data.pkl", state.as_slice())];
    all.extend(members.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice())));
    let folder = folder(&[("pytorch_model.bin", &zip(&all))]);
    fs::copy(golden.join("config.json"), folder.path().join("config.json")).unwrap();
    let digest = |path: &str| load(path, &LoadOptions::default()).unwrap().digest().unwrap();
    assert_eq!(digest(folder.path().to_str().unwrap()), digest(golden.to_str().unwrap()));
}

#[test]
fn safetensors_are_preferred_and_shards_are_read_through_their_index() {
    let golden = fixtures::root().join("tests/golden/llama-bf16/model.safetensors");
    let both = folder(&[("pytorch_model.bin", b"no"), ("model.safetensors", &fs::read(golden).unwrap())]);
    assert!(open(both.path()).unwrap().files()[0].ends_with("model.safetensors"));
    let shard = |name| zip(&[("m/data.pkl", &state(&[Described::whole(name, "0", 6)])), ("m/data/0", &floats(0..6))]);
    let index = json!({"weight_map": {"a": "one.bin", "b": "two.bin"}}).to_string();
    let files =
        [("one.bin", shard("a")), ("two.bin", shard("b")), ("pytorch_model.bin.index.json", index.into_bytes())];
    let files: Vec<(&str, &[u8])> = files.iter().map(|(name, bytes)| (*name, bytes.as_slice())).collect();
    let checkpoint = open(folder(&files).path()).unwrap();
    assert_eq!((checkpoint.files().len(), checkpoint.tensors.len()), (2, 2));
    let text = message(open(folder(&files[1..]).path()));
    assert!(text.contains("`one.bin`") && text.contains("`a`"), "{text}");
    let text = message(open(folder(&[]).path()));
    assert!(text.contains("pytorch_model.bin") && text.contains("model.safetensors"), "{text}");
}

#[test]
fn what_a_hostile_pickle_asks_for_is_named_and_not_run() {
    let folder = tempfile::tempdir().unwrap();
    let sign = folder.path().join("ran");
    let command = text(&format!("touch {}", sign.display()));
    let call = |named: Vec<u8>| [named, b"(".to_vec(), command.clone(), b"tR".to_vec()].concat();
    let stacked = [text("builtins"), text("eval"), b"\x93".to_vec()].concat();
    let class = [b"(".to_vec(), command.clone(), b"ios\nsystem\n".to_vec()].concat();
    let object = [b"(".to_vec(), global("collections", "OrderedDict"), command.clone(), b"o".to_vec()].concat();
    for (opcodes, word) in [
        (call(global("posix", "system")), "`posix.system`"),
        (call(global("os", "system")), "`os.system`"),
        (call(stacked), "`builtins.eval`"),
        (call(global("torch", "load")), "`torch.load`"),
        (
            call(global("torch._utils", "_rebuild_tensor_v2.__globals__")),
            "`torch._utils._rebuild_tensor_v2.__globals__`",
        ),
        (class, "`os.system`"),
        (b"(icollections\nOrderedDict\n".to_vec(), "`INST`"),
        (object, "`OBJ`"),
        ([global("collections", "OrderedDict"), b")\x81".to_vec()].concat(), "`NEWOBJ`"),
        ([global("collections", "OrderedDict"), b")}\x92".to_vec()].concat(), "`NEWOBJ_EX`"),
        (b"\x82\x01".to_vec(), "`EXT1`"),
        (b"\x83\x01\x00".to_vec(), "`EXT2`"),
        (b"\x84\x01\x00\x00\x00".to_vec(), "`EXT4`"),
        (b"Pstorage\n".to_vec(), "`PERSID`"),
        (b"I1\n".to_vec(), "`INT`"),
        (b"\xff".to_vec(), "0xff"),
        (b"\x80\x09".to_vec(), "protocol 9"),
        ([text("a"), b")R".to_vec()].concat(), "`REDUCE`"),
        ([global("torch", "FloatStorage"), b")R".to_vec()].concat(), "`REDUCE` of Storage"),
        ([global("collections", "OrderedDict"), command, b"\x85R".to_vec()].concat(), "`REDUCE` of OrderedDict"),
        (b"]]b".to_vec(), "`BUILD`"),
    ] {
        for bytes in [with(&pickle(&opcodes)), legacy(&pickle(&opcodes), &[])] {
            let text = refused(&bytes);
            assert!(text.contains(word), "{word}: {text}");
        }
    }
    assert!(!sign.exists());
}

#[test]
fn a_pickle_that_breaks_its_machine_is_refused() {
    for (opcodes, word) in [
        (b"h\x05".to_vec(), "5 of the memo was never set"),
        (b"j\xff\xff\xff\xff".to_vec(), "4294967295 of the memo"),
        (b"}r\xff\xff\xff\xff".to_vec(), "4294967295 of the memo is set before 0"),
        (b"q\x00".to_vec(), "given nothing"),
        (b"0".to_vec(), "`POP`"),
        (b"".to_vec(), "takes a value where there is none"),
        (b"t".to_vec(), "takes a mark where there is none"),
        (b"}(s".to_vec(), "takes a value where there is none"),
        (b"}(Nu".to_vec(), "without a value"),
        (b"NNa".to_vec(), "no list"),
        (b"NQ".to_vec(), "`BINPERSID`"),
        (b"}}".to_vec(), "leaves 1 values"),
        (b"NN\x93".to_vec(), "without two texts"),
        (b"X\xff\xff\xff\xffab".to_vec(), "ends at byte"),
        (b"\x8d\xff\xff\xff\xff\xff\xff\xff\xffab".to_vec(), "ends at byte"),
        (b"X\x01\x00\x00\x00\xff".to_vec(), "not UTF-8"),
        (vec![b'('; 1000], "containers are open"),
        (vec![b'N'; 100_000], "values wait"),
        ([vec![b'c'], vec![b'a'; 1000]].concat(), "has no end"),
        (b"]".to_vec(), "no dict of tensors"),
        (b"}K\x01Ns".to_vec(), "no text"),
    ] {
        let text = refused(&with(&pickle(&opcodes)));
        assert!(text.contains(word), "{word}: {text}");
    }
}

#[test]
fn depth_and_bulk_cost_memory_in_proportion() {
    let n = 200_000;
    let nested = [b")".to_vec(), vec![0x85; n]].concat();
    let dicts: Vec<u8> =
        (0..n / 50_000).flat_map(|_| [b"(".to_vec(), vec![b'}'; 50_000], b"t".to_vec()].concat()).collect();
    let memo = [b"]".to_vec(), vec![0x94; n]].concat();
    let recalled = [b"](".to_vec(), b"h\x00".repeat(n)].concat();
    let lists = [b")".to_vec(), b"](h\x00e".repeat(n / 100)].concat();
    let cycle = [b"}q\x00".to_vec(), [text("w"), b"h\x00s".to_vec()].concat().repeat(n / 100)].concat();
    for opcodes in [nested, dicts, memo, recalled, lists, cycle] {
        let bytes = with(&pickle(&opcodes));
        let most = allocated::most(|| {
            refused(&bytes);
        });
        assert!(most <= FACTOR * bytes.len(), "{most} bytes for {}", bytes.len());
    }
}

#[test]
fn a_tensor_that_lies_is_refused_by_name() {
    let whole = Described { shape: vec![2, 3], strides: vec![3, 1], ..Described::whole("w", "0", 6) };
    let most = i64::MAX;
    for (tensor, word) in [
        (Described { count: 7, ..whole.clone() }, "should have 7 Float elements"),
        (Described { count: 5, ..whole.clone() }, "should have 5 Float elements"),
        (Described { count: -6, ..whole.clone() }, "-6 elements"),
        (Described { count: most, ..whole.clone() }, "should have"),
        (Described { element: "Double", ..whole.clone() }, "6 Double elements"),
        (Described { key: "1", ..whole.clone() }, "storage `1` is not in the file"),
        (Described { key: "../version", ..whole.clone() }, "is not in the file"),
        (Described { offset: 1, ..whole.clone() }, "do not fit a storage of 6"),
        (Described { offset: -1, ..whole.clone() }, "offset has -1"),
        (Described { offset: most, ..whole.clone() }, "do not fit"),
        (Described { strides: vec![-3, 1], ..whole.clone() }, "strides has -3"),
        (Described { strides: vec![4, 1], ..whole.clone() }, "do not fit"),
        (Described { strides: vec![most, most], ..whole.clone() }, "do not fit"),
        (Described { shape: vec![-2, 3], ..whole.clone() }, "shape has -2"),
        (Described { shape: vec![most, most], strides: vec![0, 0], ..whole.clone() }, "do not fit"),
        (Described { shape: vec![1 << 40], strides: vec![0], ..whole.clone() }, "do not fit"),
        (Described { shape: vec![6], ..whole.clone() }, "1 axes and 2 strides"),
        (Described { shape: vec![1; 9], strides: vec![1; 9], ..whole.clone() }, "9 axes"),
    ] {
        let text = refused(&with(&state(&[tensor])));
        assert!(text.contains("tensor `w`") && text.contains(word), "{word}: {text}");
    }
    let named = |value: Vec<u8>| refused(&with(&pickle(&[b"}".to_vec(), text("w"), value, b"s".to_vec()].concat())));
    for value in
        [b"K\x01".to_vec(), b"}".to_vec(), storage("Float", "0", 6), global("torch", "float32"), b"G12345678".to_vec()]
    {
        let text = named(value);
        assert!(text.contains("tensor `w`") && text.contains("it is no tensor"), "{text}");
    }
    let no_storage = [global("torch._utils", "_rebuild_tensor_v2"), b"(NK\x00))\x89NtR".to_vec()].concat();
    assert!(named(no_storage).contains("it has no storage"));
    let negative = whole.opcodes();
    let negative = [&negative[..negative.len() - 2], b"}", &text("neg"), b"\x88stR"].concat();
    assert!(named(negative).contains("metadata"));
    assert!(refused(&with(&state(&[whole.clone(), whole]))).contains("`w` is given twice"));
}

#[test]
fn a_scalar_an_empty_tensor_and_a_tensor_of_ones_are_tensors() {
    let scalar = Described { shape: vec![], strides: vec![], offset: 5, ..Described::whole("scalar", "0", 6) };
    let empty = Described { shape: vec![0, 3], strides: vec![3, 1], offset: 9, ..Described::whole("empty", "0", 6) };
    let ones = Described { shape: vec![1, 6, 1], strides: vec![99, 1, 7], ..Described::whole("ones", "0", 6) };
    let tensors = opened(&with(&state(&[scalar, empty]))).unwrap().tensors;
    assert_eq!(tensors.get("scalar").unwrap().double_value(&[]), 5.0);
    assert_eq!(tensors.get("empty").unwrap().size(), [0, 3]);
    let tensors = opened(&with(&state(&[ones]))).unwrap().tensors;
    assert!(tensors.get("ones").unwrap().is_contiguous());
}

#[test]
fn every_truncation_is_refused() {
    for whole in [archive(), wide_archive(), before_zip()] {
        let folder = folder(&[]);
        for length in 0..whole.len() {
            fs::write(folder.path().join("pytorch_model.bin"), &whole[..length]).unwrap();
            let text = message(open(folder.path()));
            assert!(text.contains("pytorch_model.bin"), "{length}: {text}");
        }
    }
    let longer = [before_zip().as_slice(), &[0]].concat();
    assert!(refused(&longer).contains("1 bytes after the last storage"));
}

#[test]
fn an_archive_that_lies_is_refused() {
    let state = state(&shared());
    let data = floats(0..6);
    let replaced = |from: &[u8], to: &[u8], last: bool| {
        let mut bytes = archive();
        let mut found = bytes.windows(from.len()).enumerate().filter(|(_, window)| *window == from).map(|(at, _)| at);
        let at = if last { found.next_back() } else { found.next() }.unwrap();
        bytes[at..at + to.len()].copy_from_slice(to);
        refused(&bytes)
    };
    for (bytes, word) in [
        (zip(&[("m/data.pkl", &state), ("m/byteorder", b"big"), ("m/data/0", &data)]), "byte order"),
        (zip(&[("m/data/0", &data)]), "`data.pkl`"),
        (zip(&[("m/data.pkl", &state), ("n/data.pkl", &state)]), "`data.pkl`"),
        (zip(&[("m/data.pkl", &state), ("m/data/0", &data), ("m/data/0", &data)]), "`m/data/0` is given twice"),
        (zip(&[("m/data.pkl", &state), ("m/data/0", &data[..20])]), "storage `0` should have 6"),
        (zip(&[("m/data.pkl", &state), ("n/data/0", &data)]), "storage `0` is not in the file"),
        (zip(&[]), "it is no PyTorch file"),
        (b"version https://git-lfs.github.com/spec/v1\n".to_vec(), "it is no PyTorch file"),
        (pickle(&int(7)), "magic number"),
    ] {
        let text = refused(&bytes);
        assert!(text.contains(word), "{word}: {text}");
    }
    // A compressed member; one that begins elsewhere; a directory of more members, and beyond the end.
    let entry = [b"PK\x01\x02".as_slice(), &[0; 6]].concat();
    assert!(replaced(&entry, &[&entry[..], &[8]].concat(), true).contains("compressed"));
    assert!(replaced(b"PK\x03\x04", b"PK\x03\x05", true).contains("does not begin"));
    let end = [b"PK\x05\x06".as_slice(), &[0; 4], &[4, 0, 4, 0]].concat();
    assert!(replaced(&end, &[&end[..10], &[255, 255]].concat(), true).contains("directory"));
    assert!(replaced(&end, &[&end[..], &[255, 255, 255]].concat(), true).contains("cut short"));
}

#[test]
fn a_legacy_file_that_lies_is_refused() {
    let state = state(&shared());
    let (data, key) = (floats(0..6), "0");
    let good = before_zip();
    let little = good.windows(13).position(|window| window == b"little_endian").unwrap() + 13;
    let mut big = good.clone();
    big[little] = 0x89;
    let mut sized = good.clone();
    let size = good.len() - data.len() - 8;
    sized[size..size + 8].copy_from_slice(&u64::MAX.to_le_bytes());
    for (bytes, word) in [
        (big, "byte order"),
        (sized, "storage `0` has 18446744073709551615 elements and should have 6"),
        (legacy(&state, &[]), "storage `0` is not in the file"),
        (legacy(&state, &[(key, 4, &data), (key, 4, &data)]), "storage `0` is given twice"),
        (legacy(&state, &[("other", 4, &data)]), "no tensor has storage `other`"),
        (legacy(&state, &[(key, 4, &data[..20])]), "has 5 elements and should have 6"),
    ] {
        let text = refused(&bytes);
        assert!(text.contains(word), "{word}: {text}");
    }
}

proptest! {
    #[test]
    fn any_opcodes_are_read_or_refused(opcodes in prop::collection::vec(any::<u8>(), 0..200)) {
        for bytes in [with(&opcodes), with(&pickle(&opcodes)), legacy(&opcodes, &[])] {
            let _ = opened(&bytes);
        }
    }

    #[test]
    fn any_place_is_read_or_refused(
        count in 0..9_i64,
        offset in -1..8_i64,
        shape in prop::collection::vec(-1..5_i64, 0..4),
        strides in prop::collection::vec(-1..7_i64, 0..4),
    ) {
        let tensor = Described { count, offset, shape: shape.clone(), strides, ..Described::whole("w", "0", 6) };
        if let Ok(checkpoint) = opened(&with(&state(&[tensor]))) {
            let tensor = checkpoint.tensors.get("w").unwrap();
            prop_assert_eq!(tensor.size(), shape);
            let sum = tensor.sum(Kind::Double).double_value(&[]);
            prop_assert!((0.0..=5.0 * 6.0).contains(&sum));
        }
    }
}

//! GGUF: every block format against ggml's own reader, the translation to Hugging Face's names, and damage.

pub(super) mod writer;

use std::path::Path;

use arrakis_models::Checkpoint;
use half::{bf16, f16};
use proptest::prelude::*;
use safetensors::SafeTensors;
use serde_json::json;
use tch::{Kind, Tensor};

use super::{message, open};
use writer::Writer;
pub(super) use writer::floats;

const F32: u32 = 0;

/// The metadata of a llama of two heads of four dimensions, one of keys and values, and no blocks worth the name.
pub(super) fn llama() -> Writer {
    Writer::new()
        .text("general.architecture", "llama")
        .u32("llama.block_count", 1)
        .u32("llama.context_length", 64)
        .u32("llama.embedding_length", 8)
        .u32("llama.feed_forward_length", 16)
        .u32("llama.attention.head_count", 2)
        .u32("llama.attention.head_count_kv", 1)
        .f32("llama.attention.layer_norm_rms_epsilon", 1e-5)
        .tensor("token_embd.weight", &[2, 8], F32, &floats(0..16))
}

pub(super) fn opened(writer: &Writer) -> Result<Checkpoint, arrakis_models::Error> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    std::fs::write(&path, writer.bytes()).unwrap();
    open(&path)
}

fn refused(writer: &Writer) -> String {
    let text = message(opened(writer));
    assert!(text.contains("model.gguf"), "{text}");
    text
}

#[test]
fn every_block_format_gives_the_values_of_ggml() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/gguf/blocks.safetensors");
    let bytes = std::fs::read(path).unwrap();
    let golden = SafeTensors::deserialize(&bytes).unwrap();
    let types =
        [("Q4_0", 2), ("Q4_1", 3), ("Q5_0", 6), ("Q5_1", 7), ("Q8_0", 8), ("Q4_K", 12), ("Q5_K", 13), ("Q6_K", 14)];
    for (name, id) in types {
        let blocks = golden.tensor(&format!("{name}.blocks")).unwrap();
        let values = golden.tensor(&format!("{name}.values")).unwrap();
        let shape: Vec<u64> = values.shape().iter().map(|&n| n as u64).collect();
        let file = llama().tensor("blk.0.ffn_up.weight", &shape, id, blocks.data());
        let tensor = opened(&file).unwrap().tensors.get("model.layers.0.mlp.up_proj.weight").unwrap();
        assert_eq!(tensor.kind(), Kind::Float);
        let ours: Vec<f32> = tensor.view(-1).try_into().unwrap();
        let theirs = values.data().as_chunks().0.iter().map(|&b| f32::from_le_bytes(b));
        assert!(ours.iter().map(|x| x.to_bits()).eq(theirs.map(f32::to_bits)), "{name}");
    }
}

#[test]
fn many_blocks_are_spread_as_one_by_one() {
    let block: Vec<u8> = (0..34).collect();
    let data: Vec<u8> =
        (0..20_000_u32).flat_map(|i| [&f16::from_f32(i as f32 / 64.0).to_le_bytes(), &block[2..]].concat()).collect();
    let file = llama().tensor("output.weight", &[20_000, 32], 8, &data);
    let tensor = opened(&file).unwrap().tensors.get("lm_head.weight").unwrap();
    for row in [0, 1, 4095, 4096, 12_345, 19_999] {
        let scale = f16::from_f32(row as f32 / 64.0).to_f64();
        assert_eq!(tensor.double_value(&[row, 5]), scale * 7.0);
    }
}

#[test]
fn plain_tensors_are_not_copied_and_keep_their_kind() {
    let half: Vec<u8> = [1.5, -2.0].iter().flat_map(|&x| f16::from_f32(x).to_le_bytes()).collect();
    let brain: Vec<u8> = [1.5, -2.0].iter().flat_map(|&x| bf16::from_f32(x).to_le_bytes()).collect();
    let file = llama()
        .tensor("output_norm.weight", &[2], F32, &floats([1, -1]))
        .tensor("blk.0.attn_norm.weight", &[2], 1, &half)
        .tensor("blk.0.ffn_norm.weight", &[2], 30, &brain);
    let tensors = opened(&file).unwrap().tensors;
    for (name, kind) in [
        ("model.norm.weight", Kind::Float),
        ("model.layers.0.input_layernorm.weight", Kind::Half),
        ("model.layers.0.post_attention_layernorm.weight", Kind::BFloat16),
    ] {
        assert_eq!(tensors.kind(name), Some(kind));
        assert_eq!(tensors.get(name).unwrap().data_ptr(), tensors.get(name).unwrap().data_ptr());
    }
    let brain = tensors.get("model.layers.0.post_attention_layernorm.weight").unwrap();
    assert_eq!(brain.to_kind(Kind::Float), Tensor::from_slice(&[1.5_f32, -2.0]));
}

#[test]
fn metadata_of_every_type_are_read() {
    let file = llama().every_type();
    let config = opened(&file).unwrap().config;
    assert_eq!(config["model_type"], "llama");
    assert_eq!(config["rms_norm_eps"], json!(1e-5), "the shortest decimal, not 9.99999974e-6");
    assert_eq!((&config["head_dim"], &config["vocab_size"]), (&json!(4), &json!(2)));
    assert_eq!(config["tie_word_embeddings"], true);
    let untied = llama().tensor("output.weight", &[2, 8], F32, &floats(0..16));
    assert_eq!(opened(&untied).unwrap().config["tie_word_embeddings"], false);
}

#[test]
fn rotary_pairs_are_undone() {
    // Two heads of four rows: llama.cpp stores each as its rows 0, 2, 1, 3.
    let row = |i: i32| floats([i * 10, i * 10 + 1]);
    let stored: Vec<u8> = [0, 2, 1, 3, 4, 6, 5, 7].into_iter().flat_map(row).collect();
    let file = llama()
        .tensor("blk.0.attn_q.weight", &[8, 2], F32, &stored)
        .tensor("blk.0.attn_q.bias", &[8], F32, &floats([0, 2, 1, 3, 4, 6, 5, 7]))
        .tensor("blk.0.attn_k.weight", &[4, 2], F32, &stored[..32]);
    let checkpoint = opened(&file).unwrap();
    assert_eq!(checkpoint.config["attention_bias"], true);
    let get = |name: &str| checkpoint.tensors.get(&format!("model.layers.0.self_attn.{name}")).unwrap();
    let wanted = Tensor::from_slice(&(0..8).map(|i| i as f32 * 10.0).collect::<Vec<_>>());
    assert_eq!(get("q_proj.weight").select(1, 0), wanted);
    assert_eq!(get("q_proj.bias"), Tensor::arange(8, (Kind::Float, tch::Device::Cpu)));
    assert_eq!(get("k_proj.weight").select(1, 0), wanted.narrow(0, 0, 4));
}

#[test]
fn gpt2_is_turned_back() {
    let file = Writer::new()
        .text("general.architecture", "gpt2")
        .u32("gpt2.block_count", 1)
        .u32("gpt2.context_length", 64)
        .u32("gpt2.embedding_length", 2)
        .u32("gpt2.feed_forward_length", 8)
        .u32("gpt2.attention.head_count", 1)
        .f32("gpt2.attention.layer_norm_epsilon", 1e-5)
        .u32("tokenizer.ggml.bos_token_id", 1)
        .tensor("token_embd.weight", &[3, 2], F32, &floats(0..6))
        .tensor("blk.0.attn_qkv.weight", &[6, 2], F32, &floats(0..12))
        .tensor("blk.0.attn_qkv.bias", &[6], F32, &floats(0..6));
    let checkpoint = opened(&file).unwrap();
    let weight = checkpoint.tensors.get("transformer.h.0.attn.c_attn.weight").unwrap();
    assert_eq!(checkpoint.tensors.shape("transformer.h.0.attn.c_attn.weight"), Some(&[2, 6][..]));
    assert_eq!(weight, Tensor::arange(12, (Kind::Float, tch::Device::Cpu)).view([6, 2]).tr());
    assert_eq!(checkpoint.tensors.shape("transformer.h.0.attn.c_attn.bias"), Some(&[6][..]));
    let config = &checkpoint.config;
    assert_eq!((&config["n_embd"], &config["n_inner"], &config["bos_token_id"]), (&json!(2), &json!(8), &json!(1)));
}

#[test]
fn rope_scaling_is_translated_or_refused() {
    let scaling = |writer: Writer| opened(&writer).map(|checkpoint| checkpoint.config["rope_scaling"].clone());
    assert_eq!(scaling(llama()).unwrap(), json!(null));
    let linear = llama().text("llama.rope.scaling.type", "linear").f32("llama.rope.scaling.factor", 2.5);
    assert_eq!(scaling(linear).unwrap(), json!({"rope_type": "linear", "factor": 2.5}));
    let yarn = llama()
        .text("llama.rope.scaling.type", "yarn")
        .f32("llama.rope.scaling.factor", 4.0)
        .u32("llama.rope.scaling.original_context_length", 16);
    let wanted = json!({"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16});
    assert_eq!(scaling(yarn).unwrap(), wanted);
    let long = llama().text("llama.rope.scaling.type", "longrope");
    assert!(refused(&long).contains("`llama.rope.scaling.type` = `longrope`"));
    let scaled = llama().f32("llama.rope.scaling.attn_factor", 1.5);
    assert!(refused(&scaled).contains("attn_factor"));
}

#[test]
fn llama3_frequency_factors_are_recognised() {
    // Heads of four with theta 10: 8192 / 2π and a √10-th of it are far above four turns, so give a small context.
    let with = |factors: &[f32]| {
        let data: Vec<u8> = factors.iter().flat_map(|f| f.to_le_bytes()).collect();
        llama().f32("llama.rope.freq_base", 10_000.0).u32("llama.rope.scaling.original_context_length", 16).tensor(
            "rope_freqs.weight",
            &[2],
            F32,
            &data,
        )
    };
    let turns = 16.0 / std::f64::consts::TAU;
    let smooth = (turns - 1.0) / 3.0;
    let between = (1.0 / ((1.0 - smooth) / 8.0 + smooth)) as f32;
    let wanted = json!({
        "rope_type": "llama3",
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 16,
    });
    assert_eq!(opened(&with(&[between, 8.0])).unwrap().config["rope_scaling"], wanted);
    assert_eq!(opened(&with(&[1.0, 1.0])).unwrap().config["rope_scaling"], json!(null));
    assert!(refused(&with(&[2.0, 8.0])).contains("`rope_freqs.weight`"));
    assert!(refused(&with(&[f32::NAN, 8.0])).contains("`rope_freqs.weight`"));
}

#[test]
fn what_would_change_the_function_is_refused_by_name() {
    for (file, word) in [
        (llama().u32("llama.attention.sliding_window", 8), "`llama.attention.sliding_window`"),
        (llama().u32("llama.expert_count", 8), "8 experts"),
        (llama().u32("llama.rope.dimension_count", 2), "`rope.dimension_count`"),
        (llama().u32("llama.vocab_size", 3), "vocabulary of 3"),
        (llama().u32("split.count", 2), "2 files"),
        (llama().text("general.type", "adapter"), "`adapter`"),
        (llama().tensor("blk.0.attn_q_norm.weight", &[2], F32, &floats(0..2)), "`blk.0.attn_q_norm.weight`"),
        (llama().tensor("blk.0.attn_q.weight", &[3], F32, &floats(0..3)), "`blk.0.attn_q.weight`"),
        (llama().tensor("output.weight", &[256], 10, &[0; 84]), "`Q2_K`"),
        (llama().tensor("output.weight", &[1], 99, &[0; 4]), "type 99"),
        (llama().tensor("output.weight", &[33], 8, &[0; 64]), "33"),
        (Writer::new().text("general.architecture", "mamba"), "`mamba`"),
        (Writer::new(), "`general.architecture`"),
        (Writer::new().text("general.architecture", "llama"), "`llama."),
    ] {
        let text = refused(&file);
        assert!(text.contains(word), "{word}: {text}");
    }
}

#[test]
fn hostile_files_are_refused() {
    let small = || Writer::new().text("general.architecture", "llama");
    let overlapping = llama().tensor("output.weight", &[2, 8], F32, &floats(0..16)).offset_of_last(32);
    assert!(refused(&overlapping).contains("overlaps"));
    let unaligned = llama().tensor("output.weight", &[2, 8], F32, &floats(0..16)).offset_of_last(65);
    assert!(refused(&unaligned).contains("multiple of 32"));
    let far = llama().tensor("output.weight", &[2, 8], F32, &floats(0..16)).offset_of_last(1 << 40);
    assert!(refused(&far).contains("cut short"));
    let twice = llama().tensor("token_embd.weight", &[2, 8], F32, &floats(0..16));
    let text = refused(&twice);
    assert!(text.contains("`token_embd.weight`") && text.contains("given twice"), "{text}");
    let again = llama().u32("llama.block_count", 2);
    assert!(refused(&again).contains("`llama.block_count` is given twice"));
    let huge = llama().tensor("output.weight", &[1 << 40, 1 << 40], F32, &[]);
    assert!(refused(&huge).contains("`output.weight`"));
    refused(&small().counts(u64::MAX, 1));
    refused(&small().counts(0, u64::MAX));
    refused(&small().array("llama.x", 4, u64::MAX, &[]));
    refused(&small().array("llama.x", 8, 1 << 60, &[0; 64]));
    let mut nested = Vec::new();
    for _ in 0..100_000 {
        nested.extend(9_u32.to_le_bytes());
        nested.extend(1_u64.to_le_bytes());
    }
    refused(&small().array("llama.x", 9, 1, &nested));
    refused(&small().u32("general.alignment", 0));
    assert!(refused(&small().version(1)).contains("version 1"));
    assert!(refused(&small().version(3 << 24)).contains("big-endian"));
}

#[test]
fn every_truncation_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    let whole = llama().every_type().tensor("output.weight", &[2, 8], F32, &floats(0..16)).bytes();
    for length in 0..whole.len() {
        std::fs::write(&path, &whole[..length]).unwrap();
        assert!(message(open(&path)).contains("model.gguf"), "{length}");
    }
}

proptest! {
    #[test]
    fn any_damage_is_read_or_refused(at: prop::sample::Index, byte: u8, at2: prop::sample::Index, byte2: u8) {
        let mut bytes = llama()
            .every_type()
            .tensor("blk.0.attn_q.weight", &[8, 32], 8, &[1; 8 * 34])
            .tensor("rope_freqs.weight", &[2], F32, &floats([1, 1]))
            .bytes();
        let length = bytes.len();
        bytes[at.index(length)] = byte;
        bytes[at2.index(length)] = byte2;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.gguf");
        std::fs::write(&path, bytes).unwrap();
        if let Ok(checkpoint) = open(&path) {
            for name in checkpoint.tensors.names() {
                let tensor = checkpoint.tensors.get(name).unwrap();
                prop_assert_eq!(tensor.size(), checkpoint.tensors.shape(name).unwrap());
            }
        }
    }
}

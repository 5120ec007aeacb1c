//! The checkpoints that the benches run: random weights, made once.

use std::fs;
use std::path::{Path, PathBuf};

use arrakis::prelude::*;
use arrakis_core::Stream;
use safetensors::{Dtype, tensor::TensorView};

/// The model of GPT-2-small's sizes, mapped.
pub(crate) fn model() -> Decoder {
    loaded(&folder())
}

/// A model of Llama's shape, 6 layers of 512, mapped.
#[allow(dead_code)]
pub(crate) fn llama() -> Decoder {
    let block = [
        ("input_layernorm.weight", vec![512]),
        ("self_attn.q_proj.weight", vec![512, 512]),
        ("self_attn.k_proj.weight", vec![256, 512]),
        ("self_attn.v_proj.weight", vec![256, 512]),
        ("self_attn.o_proj.weight", vec![512, 512]),
        ("post_attention_layernorm.weight", vec![512]),
        ("mlp.gate_proj.weight", vec![1376, 512]),
        ("mlp.up_proj.weight", vec![1376, 512]),
        ("mlp.down_proj.weight", vec![512, 1376]),
    ];
    let ends = [
        ("model.embed_tokens.weight", vec![32_000, 512]),
        ("model.norm.weight", vec![512]),
        ("lm_head.weight", vec![32_000, 512]),
    ];
    let config = serde_json::json!({
        "model_type": "llama", "hidden_size": 512, "intermediate_size": 1376, "num_hidden_layers": 6,
        "num_attention_heads": 8, "num_key_value_heads": 4, "vocab_size": 32_000, "max_position_embeddings": 2048,
        "rms_norm_eps": 1e-5, "hidden_act": "silu", "tie_word_embeddings": false,
    });
    loaded(&made("llama-6x512", &config, ("model.layers", 6, &block), &ends))
}

/// The folder of a random GPT-2-small, made if it is not there.
pub(crate) fn folder() -> PathBuf {
    let block = [
        ("ln_1.weight", vec![768]),
        ("ln_1.bias", vec![768]),
        ("attn.c_attn.weight", vec![768, 2304]),
        ("attn.c_attn.bias", vec![2304]),
        ("attn.c_proj.weight", vec![768, 768]),
        ("attn.c_proj.bias", vec![768]),
        ("ln_2.weight", vec![768]),
        ("ln_2.bias", vec![768]),
        ("mlp.c_fc.weight", vec![768, 3072]),
        ("mlp.c_fc.bias", vec![3072]),
        ("mlp.c_proj.weight", vec![3072, 768]),
        ("mlp.c_proj.bias", vec![768]),
    ];
    let ends = [
        ("wte.weight", vec![50_257, 768]),
        ("wpe.weight", vec![1024, 768]),
        ("ln_f.weight", vec![768]),
        ("ln_f.bias", vec![768]),
    ];
    let config = serde_json::json!({ "model_type": "gpt2", "n_embd": 768, "n_layer": 12, "n_head": 12 });
    made("gpt2-small", &config, ("h", 12, &block), &ends)
}

type Shapes<'a> = &'a [(&'a str, Vec<usize>)];

fn loaded(folder: &Path) -> Decoder {
    arrakis::prelude::load(&folder.to_string_lossy(), &LoadOptions::default()).expect("the checkpoint loads")
}

/// The folder of a random checkpoint of that name, made if it is not there.
fn made(name: &str, config: &serde_json::Value, blocks: (&str, usize, Shapes<'_>), ends: Shapes<'_>) -> PathBuf {
    let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/bench-models");
    let folder = std::env::var_os("ARRAKIS_BENCH_MODELS").map_or(target, PathBuf::from).join(name);
    let file = folder.join("model.safetensors");
    if !file.exists() {
        fs::create_dir_all(&folder).expect("a folder for the model");
        fs::write(folder.join("config.json"), config.to_string()).expect("its config");
        let (prefix, layers, block) = blocks;
        let named = |layer| block.iter().map(move |(name, shape)| (format!("{prefix}.{layer}.{name}"), shape.clone()));
        let ends = ends.iter().map(|(name, shape)| ((*name).to_owned(), shape.clone()));
        write_weights(&file, (0..layers).flat_map(named).chain(ends));
    }
    folder
}

fn write_weights(path: &Path, shapes: impl Iterator<Item = (String, Vec<usize>)>) {
    let mut stream = Stream::new(0, "bench weights");
    let mut random = |shape: &[usize]| -> Vec<u8> {
        let numbers = (0..shape.iter().product()).map(|_| (stream.uniform() - 0.5) as f32 * 0.07);
        numbers.flat_map(f32::to_le_bytes).collect()
    };
    let weights: Vec<(String, Vec<usize>, Vec<u8>)> = shapes
        .map(|(name, shape)| {
            let bytes = random(&shape);
            (name, shape, bytes)
        })
        .collect();
    let views = weights.iter().map(|(name, shape, bytes)| {
        (name.as_str(), TensorView::new(Dtype::F32, shape.clone(), bytes).expect("shape and bytes agree"))
    });
    safetensors::serialize_to_file(views, None, path).expect("the checkpoint is written");
}

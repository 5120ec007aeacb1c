//! The checkpoint that the benches run: random weights of GPT-2-small's sizes, made once.

use std::fs;
use std::path::{Path, PathBuf};

use arrakis::prelude::*;
use arrakis_core::Stream;
use safetensors::{Dtype, tensor::TensorView};

/// The model, mapped.
pub(crate) fn model() -> Decoder {
    arrakis::prelude::load(&folder().to_string_lossy(), &LoadOptions::default()).expect("the checkpoint loads")
}

/// The folder of a random GPT-2-small, made if it is not there.
pub(crate) fn folder() -> PathBuf {
    let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/bench-models");
    let folder = std::env::var_os("ARRAKIS_BENCH_MODELS").map_or(target, PathBuf::from).join("gpt2-small");
    if !folder.join("model.safetensors").exists() {
        fs::create_dir_all(&folder).expect("a folder for the model");
        let config = serde_json::json!({ "model_type": "gpt2", "n_embd": 768, "n_layer": 12, "n_head": 12 });
        fs::write(folder.join("config.json"), config.to_string()).expect("its config");
        write_weights(&folder.join("model.safetensors"));
    }
    folder
}

fn write_weights(path: &Path) {
    let mut shapes = vec![("wte.weight".into(), vec![50_257, 768]), ("wpe.weight".into(), vec![1024, 768])];
    for layer in 0..12 {
        let named = |name: &str, shape: &[usize]| (format!("h.{layer}.{name}"), shape.to_vec());
        shapes.extend([
            named("ln_1.weight", &[768]),
            named("ln_1.bias", &[768]),
            named("attn.c_attn.weight", &[768, 2304]),
            named("attn.c_attn.bias", &[2304]),
            named("attn.c_proj.weight", &[768, 768]),
            named("attn.c_proj.bias", &[768]),
            named("ln_2.weight", &[768]),
            named("ln_2.bias", &[768]),
            named("mlp.c_fc.weight", &[768, 3072]),
            named("mlp.c_fc.bias", &[3072]),
            named("mlp.c_proj.weight", &[3072, 768]),
            named("mlp.c_proj.bias", &[768]),
        ]);
    }
    shapes.extend([("ln_f.weight".into(), vec![768]), ("ln_f.bias".into(), vec![768])]);
    let mut stream = Stream::new(0, "bench weights");
    let mut random = |shape: &[usize]| -> Vec<u8> {
        let numbers = (0..shape.iter().product()).map(|_| (stream.uniform() - 0.5) as f32 * 0.07);
        numbers.flat_map(f32::to_le_bytes).collect()
    };
    let bytes: Vec<(String, Vec<usize>, Vec<u8>)> =
        shapes.into_iter().map(|(name, shape): (String, Vec<usize>)| (name, shape.clone(), random(&shape))).collect();
    let view = |(name, shape, bytes): &'static (String, Vec<usize>, Vec<u8>)| {
        (name.as_str(), TensorView::new(Dtype::F32, shape.clone(), bytes).expect("shape and bytes agree"))
    };
    let bytes: &'static Vec<_> = Box::leak(Box::new(bytes));
    safetensors::serialize_to_file(bytes.iter().map(view), None, path).expect("the checkpoint is written");
}

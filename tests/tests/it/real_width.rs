//! Models wide enough that their products go to oneDNN, which leaves small ones alone.

use std::fs;

use arrakis_core::{Cache, Edit, Model, ModelExt as _, Result, Site, Stream, Tokens, Weight, edit};
use arrakis_models::{Decoder, LoadOptions, load};
use serde_json::json;
use tch::{Device, Kind, Tensor};

use crate::laws::{assert_close, prompt};

const WIDTH: i64 = 256;
const VOCAB: i64 = 300;

/// Queries, keys and values in one matrix, `[in, out]`.
fn gpt2(kind: Kind) -> Decoder {
    let block = [
        ("attn.c_attn.weight", vec![WIDTH, 3 * WIDTH]),
        ("attn.c_attn.bias", vec![3 * WIDTH]),
        ("attn.c_proj.weight", vec![WIDTH, WIDTH]),
        ("attn.c_proj.bias", vec![WIDTH]),
        ("mlp.c_fc.weight", vec![WIDTH, 2 * WIDTH]),
        ("mlp.c_fc.bias", vec![2 * WIDTH]),
        ("mlp.c_proj.weight", vec![2 * WIDTH, WIDTH]),
        ("mlp.c_proj.bias", vec![WIDTH]),
        ("ln_1.weight", vec![WIDTH]),
        ("ln_1.bias", vec![WIDTH]),
        ("ln_2.weight", vec![WIDTH]),
        ("ln_2.bias", vec![WIDTH]),
    ];
    let ends = [
        ("wte.weight", vec![VOCAB, WIDTH]),
        ("wpe.weight", vec![32, WIDTH]),
        ("ln_f.weight", vec![WIDTH]),
        ("ln_f.bias", vec![WIDTH]),
    ];
    let config = json!({
        "model_type": "gpt2", "vocab_size": VOCAB, "n_positions": 32, "n_embd": WIDTH, "n_layer": 2, "n_head": 4,
        "n_inner": 2 * WIDTH,
    });
    made(&config, "h", &block, &ends, kind)
}

/// Grouped heads, a gated MLP, and matrices `[out, in]`.
fn llama(kind: Kind) -> Decoder {
    let block = [
        ("self_attn.q_proj.weight", vec![WIDTH, WIDTH]),
        ("self_attn.k_proj.weight", vec![WIDTH / 2, WIDTH]),
        ("self_attn.v_proj.weight", vec![WIDTH / 2, WIDTH]),
        ("self_attn.o_proj.weight", vec![WIDTH, WIDTH]),
        ("mlp.gate_proj.weight", vec![2 * WIDTH, WIDTH]),
        ("mlp.up_proj.weight", vec![2 * WIDTH, WIDTH]),
        ("mlp.down_proj.weight", vec![WIDTH, 2 * WIDTH]),
        ("input_layernorm.weight", vec![WIDTH]),
        ("post_attention_layernorm.weight", vec![WIDTH]),
    ];
    let ends = [
        ("model.embed_tokens.weight", vec![VOCAB, WIDTH]),
        ("model.norm.weight", vec![WIDTH]),
        ("lm_head.weight", vec![VOCAB, WIDTH]),
    ];
    let config = json!({
        "model_type": "llama", "vocab_size": VOCAB, "max_position_embeddings": 32, "hidden_size": WIDTH,
        "intermediate_size": 2 * WIDTH, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
        "rms_norm_eps": 1e-5, "hidden_act": "silu", "tie_word_embeddings": false,
    });
    made(&config, "model.layers", &block, &ends, kind)
}

/// A model of two layers with random weights.
fn made(
    config: &serde_json::Value,
    blocks: &str,
    block: &[(&str, Vec<i64>)],
    ends: &[(&str, Vec<i64>)],
    kind: Kind,
) -> Decoder {
    let mut noise = Stream::new(5, "weights of real width");
    let mut random = |name: &str, shape: &[i64]| {
        let values = noise.normals(shape).unwrap().to_kind(Kind::Float) * 0.05;
        if shape.len() == 1 && name.ends_with("weight") { values + 1.0 } else { values }
    };
    let mut tensors: Vec<(String, Tensor)> =
        ends.iter().map(|(name, shape)| ((*name).to_owned(), random(name, shape))).collect();
    for layer in 0..2 {
        for (name, shape) in block {
            tensors.push((format!("{blocks}.{layer}.{name}"), random(name, shape)));
        }
    }
    let folder = tempfile::tempdir().unwrap();
    Tensor::write_safetensors(&tensors, folder.path().join("model.safetensors")).unwrap();
    fs::write(folder.path().join("config.json"), config.to_string()).unwrap();
    load(&folder.path().to_string_lossy(), &LoadOptions { kind, device: Device::Cpu }).unwrap()
}

/// Every site that nothing but itself is computed for.
const SITES: [Site; 8] =
    [Site::Q, Site::K, Site::V, Site::Z, Site::ATTN_OUT, Site::MLP_POST, Site::MLP_OUT, Site::RESID_POST];

fn kept(model: &Decoder, tokens: &Tokens) -> Result<(Cache, Tensor)> {
    let run = SITES.iter().fold(model.trace(tokens), |trace, site| trace.keep(*site)).run()?;
    let logits = run.logits()?.shallow_clone();
    Ok((run.cache, logits))
}

#[test]
fn single_and_packed_agree_with_double() {
    for make in [gpt2, llama] {
        let (single, double, packed) = (make(Kind::Float), make(Kind::Double), make(Kind::Float).packed().unwrap());
        for (batch, len) in [(1, 1), (1, 20), (3, 17)] {
            let tokens = prompt(&double, "width", batch, len);
            let (expected, expected_logits) = kept(&double, &tokens).unwrap();
            for model in [&single, &packed] {
                let (found, logits) = kept(model, &tokens).unwrap();
                for (point, value) in expected.iter() {
                    assert_close(&found[point], value, 2e-5, format!("{point}, {batch} x {len}"));
                }
                assert_close(&logits, &expected_logits, 2e-5, format!("logits, {batch} x {len}"));
            }
        }
    }
}

#[test]
fn heads_with_inputs_of_their_own_are_those_of_one_product() {
    for make in [gpt2, llama] {
        let model = make(Kind::Float);
        let tokens = prompt(&model, "apart", 2, 11);
        let (together, _) = kept(&model, &tokens).unwrap();
        let trace = model.trace(&tokens).keep(Site::V_INPUT).keep(Site::Q).keep(Site::K).keep(Site::V);
        let apart = trace.run().unwrap().cache;
        for point in [Site::Q, Site::K, Site::V].into_iter().flat_map(|site| [site.at(0), site.at(1)]) {
            assert_close(&together[point], &apart[point], 1e-5, point);
        }
    }
}

#[test]
fn an_edited_query_matrix_is_not_passed_over() {
    for make in [gpt2, llama] {
        for model in [make(Kind::Float), make(Kind::Float).packed().unwrap()] {
            let tokens = prompt(&model, "edited", 1, 9);
            let edited = Weight::Q.at(1);
            let zero = model.with_weights(vec![(edited, model.weight(edited).unwrap().zeros_like())]).unwrap();
            let zeros = Tensor::zeros([4, WIDTH / 4], (Kind::Float, Device::Cpu));
            let bias = model.weight_if_any(Weight::Q_B.at(1)).unwrap().unwrap_or(zeros);
            let attention = |model: &dyn Model, edit: Option<Edit<'_>>| {
                let trace = model.trace(&tokens).keep(Site::ATTN_OUT.at(1));
                let trace = edit.into_iter().fold(trace, |trace, edit| trace.edit(Site::Q.at(1), edit));
                trace.run().unwrap().cache[Site::ATTN_OUT.at(1)].shallow_clone()
            };
            let (found, plain) = (attention(&*zero, None), attention(&model, None));
            assert_close(&found, &attention(&model, Some(edit::set(&bias))), 1e-5, "queries of zeros");
            assert!((found - plain).abs().max().double_value(&[]) > 1e-3);
        }
    }
}

//! Configs: what a field means, and that a field without a meaning is an error that names it.

use std::fs;

use arrakis_core::{Model as _, Residual, Site};
use arrakis_models::architecture::{Activation, MlpNorm, Positions, QkNorm, ScoreScale, Window};
use arrakis_models::{Decoder, LoadOptions, Result, families, load};
use serde_json::{Map, Value, json};

use crate::fixtures;

type Config = Map<String, Value>;

/// The model of a golden folder under a changed config.
fn with_config(folder: &str, change: impl FnOnce(&mut Config)) -> Result<Decoder> {
    let golden = fixtures::root().join("tests/golden").join(folder);
    let copy = tempfile::tempdir().unwrap();
    fs::copy(golden.join("model.safetensors"), copy.path().join("model.safetensors")).unwrap();
    let mut config: Config = serde_json::from_slice(&fs::read(golden.join("config.json")).unwrap()).unwrap();
    change(&mut config);
    fs::write(copy.path().join("config.json"), serde_json::to_vec(&config).unwrap()).unwrap();
    load(&copy.path().to_string_lossy(), &LoadOptions::default())
}

fn with_field(folder: &str, field: &str, value: Value) -> Result<Decoder> {
    with_config(folder, |config| {
        config.insert(field.into(), value);
    })
}

/// The golden folder of each family.
const GOLDEN: [&str; 9] =
    ["gemma", "gpt2", "gpt-neo", "gpt-neox", "llama", "mistral", "phi3-partial-tied", "qwen2", "stablelm"];

#[track_caller]
fn refused(model: Result<Decoder>, names: &str) {
    let error = model.err().expect("the config is refused").to_string();
    assert!(error.contains(names), "`{names}` is not in: {error}");
}

#[test]
fn a_field_that_nobody_honours_is_named() {
    assert_eq!(GOLDEN.len(), families().count());
    for folder in GOLDEN {
        for (field, value) in [("attn_logit_softcapping", json!(50.0)), ("quantization_config", json!({"bits": 4}))] {
            refused(with_field(folder, field, value), field);
            assert!(with_field(folder, field, Value::Null).is_ok(), "a null says nothing");
        }
    }
}

#[test]
fn a_rope_that_is_not_implemented_is_named() {
    for folder in GOLDEN.iter().filter(|folder| !["gpt2", "gpt-neo"].contains(folder)) {
        refused(with_field(folder, "rope_scaling", json!({"rope_type": "mrope", "mrope_section": [1, 1, 2]})), "mrope");
        refused(with_field(folder, "rope_scaling", json!({"type": "linear", "factor": 2.0, "tilt": 1.0})), "tilt");
        refused(with_field(folder, "rope_scaling", json!({"factor": 2.0})), "rope_type");
    }
    refused(with_field("gpt2", "rope_theta", json!(10_000.0)), "rope_theta");
    for folder in ["gemma", "llama", "mistral", "qwen2"] {
        refused(with_field(folder, "partial_rotary_factor", json!(0.5)), "partial_rotary_factor");
    }
    refused(with_field("stablelm", "partial_rotary_factor", json!(0.4)), "rotated");
    let short = json!({"type": "longrope", "short_factor": [1.0, 1.0, 1.0, 1.0], "long_factor": [1.0]});
    refused(with_field("phi3-longrope", "rope_scaling", short), "long_factor");
}

#[test]
fn a_value_that_is_not_implemented_is_named() {
    refused(with_field("mistral", "attention_bias", json!(true)), "attention_bias");
    refused(with_field("phi3-longrope", "lm_head_bias", json!(true)), "lm_head_bias");
    refused(with_field("gemma", "use_bidirectional_attention", json!(true)), "use_bidirectional_attention");
    refused(with_field("mistral", "sliding_window", json!(0)), "window");
    refused(with_field("qwen2-window", "layer_types", json!(["full_attention"])), "layer_types");
    refused(with_field("qwen2", "layer_types", json!(["full_attention", "sliding_attention"])), "sliding_window");
    refused(with_field("gpt-neo", "attention_layers", json!(["local", "global"])), "attention_layers");
    refused(with_field("gpt-neo", "attention_types", json!([[["global"], 18_446_744_073_709_551_615_u64]])), "blocks");
    for (folder, field) in [("llama", "hidden_act"), ("gpt-neo", "activation_function")] {
        refused(with_field(folder, field, json!("xielu")), "xielu");
    }
    for field in ["vocab_size", "hidden_size", "intermediate_size", "num_attention_heads", "num_hidden_layers"] {
        for size in [0, 1_u64 << 62] {
            assert!(with_field("llama", field, json!(size)).is_err(), "`{field}` is {size}");
        }
    }
}

#[test]
fn gemma_is_activated_as_it_was_trained() {
    let activation = |fields: Value| {
        let changed = with_config("gemma", |config| {
            config.remove("hidden_act");
            config.extend(fields.as_object().unwrap().clone());
        });
        changed.unwrap().architecture().activation
    };
    assert_eq!(activation(json!({})), Activation::GeluTanh);
    assert_eq!(activation(json!({"hidden_act": "gelu"})), Activation::GeluTanh);
    assert_eq!(activation(json!({"hidden_act": "gelu", "hidden_activation": null})), Activation::GeluTanh);
    assert_eq!(activation(json!({"hidden_act": "silu"})), Activation::Silu);
    assert_eq!(activation(json!({"hidden_act": "silu", "hidden_activation": "gelu"})), Activation::Gelu);
}

#[test]
fn a_window_that_is_absent_is_not_one_that_is_null() {
    let windows = |folder: &str, window: Option<Value>| {
        let changed = with_config(folder, |config| {
            config.remove("sliding_window");
            config.extend(window.map(|window| ("sliding_window".to_owned(), window)));
        });
        changed.unwrap().architecture().windows.clone()
    };
    let null = || Some(Value::Null);
    assert_eq!(windows("mistral", None), [Window::Sliding(4096); 2]);
    assert_eq!(windows("mistral", null()), [Window::Causal; 2]);
    assert_eq!(windows("phi3-longrope", None), [Window::Causal; 2]);
    assert_eq!(windows("qwen2-window", None), [Window::Causal, Window::Sliding(4096)]);
    assert_eq!(windows("qwen2-window", null()), [Window::Causal; 2]);
    assert_eq!(windows("qwen2", Some(json!(4))), [Window::Causal; 2]);
}

#[test]
fn axes_are_what_the_configs_say() {
    let model = |folder: &str| with_config(folder, |_| ()).unwrap();
    let neo = model("gpt-neo");
    assert_eq!(neo.architecture().score_scale, ScoreScale::One);
    assert_eq!(neo.architecture().windows, [Window::Causal, Window::Sliding(4)]);
    let neox = model("gpt-neox");
    assert_eq!((neox.dims().residual, neox.architecture().mlp_norm), (Residual::Parallel, MlpNorm::Own));
    assert_eq!(model("gpt-neox-serial").dims().residual, Residual::Serial);
    let Positions::Rotary(rope) = &neox.architecture().positions else { panic!("it rotates") };
    assert_eq!((rope.dims, neox.dims().d_head), (4, 8));
    let stable = model("stablelm-parallel");
    assert_eq!((stable.architecture().mlp_norm, stable.architecture().qk_norm), (MlpNorm::Shared, QkNorm::PerHead));
    let has = |site: Site| stable.points().contains(&site.at(0));
    assert!(has(Site::LN1_SCALE) && !has(Site::LN2_SCALE) && !has(Site::MLP_IN) && !has(Site::RESID_MID));
}

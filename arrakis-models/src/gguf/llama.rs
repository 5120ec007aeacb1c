//! Llama as llama.cpp writes it: rows of q and k in rotary pairs, frequency factors as a tensor.

use std::f64::consts::TAU;

use serde_json::{Map, Value, json};

use super::Gguf;
use super::translation::{Keys, Named, in_block, special_tokens, vocab};
use crate::error::Result;
use crate::tensors::Layout;

const FREQUENCY_FACTORS: &str = "rope_freqs.weight";

pub(super) fn config(gguf: &Gguf, keys: &Keys) -> Result<Map<String, Value>> {
    let n_heads = keys.size("attention.head_count")?;
    let d_model = keys.size("embedding_length")?;
    let d_head = keys.size_or("attention.key_length", d_model / n_heads)?;
    for (key, says) in [("attention.value_length", "values"), ("rope.dimension_count", "rotation")] {
        if let Some(other) = keys.integer(key)?.filter(|other| *other != d_head) {
            return Err(gguf.unsupported(format!("{says} of {other} of the {d_head} dimensions of a head (`{key}`)")));
        }
    }
    if let Some(experts) = keys.integer("expert_count")?.filter(|experts| *experts > 0) {
        return Err(gguf.unsupported(format!("a mixture of {experts} experts")));
    }
    keys.harmless(&["expert_used_count", "tensor_data_layout"]);
    let theta = keys.float("rope.freq_base")?.unwrap_or(10_000.0);
    let has = |part: &str| {
        gguf.tensors.iter().any(|place| in_block(&place.name).is_some_and(|(_, p, k)| p == part && k == "bias"))
    };
    let config = json!({
        "model_type": "llama",
        "vocab_size": vocab(gguf, keys)?,
        "hidden_size": d_model,
        "intermediate_size": keys.size("feed_forward_length")?,
        "num_hidden_layers": keys.size("block_count")?,
        "num_attention_heads": n_heads,
        "num_key_value_heads": keys.size_or("attention.head_count_kv", n_heads)?,
        "head_dim": d_head,
        "max_position_embeddings": keys.size("context_length")?,
        "rms_norm_eps": keys.number("attention.layer_norm_rms_epsilon")?,
        "rope_theta": theta,
        "rope_scaling": rope_scaling(gguf, keys, theta, d_head)?,
        "hidden_act": "silu",
        "attention_bias": has("attn_q"),
        "mlp_bias": has("ffn_up"),
        "tie_word_embeddings": gguf.place("output.weight").is_none(),
    });
    let Value::Object(mut config) = config else { return Ok(Map::new()) };
    special_tokens(&mut config, &gguf.metadata)?;
    Ok(config)
}

pub(super) fn tensor(name: &str, keys: &Keys) -> Result<Named> {
    let same = |name: String| Ok(Named::As(name, Layout::Same));
    match name {
        "token_embd.weight" => return same("model.embed_tokens.weight".to_owned()),
        "output_norm.weight" => return same("model.norm.weight".to_owned()),
        "output.weight" => return same("lm_head.weight".to_owned()),
        FREQUENCY_FACTORS => return Ok(Named::InConfig),
        _ => {}
    }
    let Some((layer, part, kind)) = in_block(name) else { return Ok(Named::Nothing) };
    let n_heads = keys.size("attention.head_count")?;
    let rotary = |n_heads: u64| Layout::RotaryPairs { n_heads: n_heads as i64 };
    let (part, layout) = match part {
        "attn_norm" => ("input_layernorm", Layout::Same),
        "attn_q" => ("self_attn.q_proj", rotary(n_heads)),
        "attn_k" => ("self_attn.k_proj", rotary(keys.size_or("attention.head_count_kv", n_heads)?)),
        "attn_v" => ("self_attn.v_proj", Layout::Same),
        "attn_output" => ("self_attn.o_proj", Layout::Same),
        "ffn_norm" => ("post_attention_layernorm", Layout::Same),
        "ffn_gate" => ("mlp.gate_proj", Layout::Same),
        "ffn_up" => ("mlp.up_proj", Layout::Same),
        "ffn_down" => ("mlp.down_proj", Layout::Same),
        _ => return Ok(Named::Nothing),
    };
    Ok(Named::As(format!("model.layers.{layer}.{part}.{kind}"), layout))
}

/// What Hugging Face calls `rope_scaling`; null if there is none.
fn rope_scaling(gguf: &Gguf, keys: &Keys, theta: f64, d_head: u64) -> Result<Value> {
    keys.harmless(&["rope.scaling.finetuned"]);
    let kind = keys.text("rope.scaling.type")?.unwrap_or("none").to_owned();
    let factor = keys.float("rope.scaling.factor")?.or(keys.float("rope.scale_linear")?);
    let original = keys.integer("rope.scaling.original_context_length")?;
    if let Some(scale) = keys.float("rope.scaling.attn_factor")?.filter(|scale| !is_one(*scale)) {
        return Err(gguf.unsupported(format!("`llama.rope.scaling.attn_factor` = {scale}")));
    }
    let factors = gguf.place(FREQUENCY_FACTORS).map(|place| gguf.stored(place, Layout::Same).read(FREQUENCY_FACTORS));
    let scaled = factor.filter(|factor| !is_one(*factor));
    match (kind.as_str(), scaled, factors) {
        ("none" | "linear", None, None) => Ok(Value::Null),
        ("none", None, Some(factors)) => {
            let factors = Vec::<f32>::try_from(factors?.to_kind(tch::Kind::Float))
                .map_err(|_| gguf.unsupported(format!("the shape of `{FREQUENCY_FACTORS}`")))?;
            let context = original.unwrap_or(8192);
            llama3(&factors, theta, d_head, context).ok_or_else(|| {
                gguf.unsupported(format!(
                    "`{FREQUENCY_FACTORS}` with other factors than Llama 3's for a context of {context}"
                ))
            })
        }
        ("none" | "linear", Some(factor), None) => Ok(json!({"rope_type": "linear", "factor": factor})),
        ("yarn", Some(factor), None) => {
            let mut scaling = json!({"rope_type": "yarn", "factor": factor});
            let given = [
                ("original_max_position_embeddings", original.map(Value::from)),
                ("beta_fast", keys.float("rope.scaling.yarn_beta_fast")?.map(Value::from)),
                ("beta_slow", keys.float("rope.scaling.yarn_beta_slow")?.map(Value::from)),
            ];
            for (name, value) in given {
                if let Some(value) = value {
                    scaling[name] = value;
                }
            }
            Ok(scaling)
        }
        (kind, _, factors) => {
            let also = if factors.is_some() { format!(" with `{FREQUENCY_FACTORS}`") } else { String::new() };
            Err(gguf.unsupported(format!("`llama.rope.scaling.type` = `{kind}`{also}")))
        }
    }
}

fn is_one(number: f64) -> bool {
    (number - 1.0).abs() < 1e-9
}

/// The `llama3` scaling that gives these frequency factors, if Llama 3's bounds of 1 and 4 do.
///
/// A frequency with more than four turns in the original context is kept, one with less than a turn is divided by the
/// factor, and those between go smoothly from one to the other.
fn llama3(factors: &[f32], theta: f64, d_head: u64, context: u64) -> Option<Value> {
    let (low, high) = (1.0, 4.0);
    let factor = f64::from(factors.iter().copied().fold(1.0, f32::max));
    if is_one(factor) && factors.iter().all(|f| is_one(f64::from(*f))) {
        return Some(Value::Null);
    }
    let right = factors.len() as u64 * 2 == d_head
        && factors.iter().enumerate().all(|(i, given)| {
            let turns = context as f64 * theta.powf(-2.0 * i as f64 / d_head as f64) / TAU;
            let smooth = ((turns - low) / (high - low)).clamp(0.0, 1.0);
            let expected = 1.0 / ((1.0 - smooth) / factor + smooth);
            (f64::from(*given) / expected - 1.0).abs() < 1e-3
        });
    right.then(|| {
        json!({
            "rope_type": "llama3",
            "factor": factor,
            "low_freq_factor": low,
            "high_freq_factor": high,
            "original_max_position_embeddings": context,
        })
    })
}

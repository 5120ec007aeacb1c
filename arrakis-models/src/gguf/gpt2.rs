//! GPT-2 as llama.cpp writes it: the four projections of a block transposed.

use serde_json::{Map, Value, json};

use super::Gguf;
use super::translation::{Keys, Named, in_block, special_tokens, vocab};
use crate::error::Result;
use crate::tensors::Layout;

pub(super) fn config(gguf: &Gguf, keys: &Keys) -> Result<Map<String, Value>> {
    let config = json!({
        "model_type": "gpt2",
        "vocab_size": vocab(gguf, keys)?,
        "n_positions": keys.size("context_length")?,
        "n_embd": keys.size("embedding_length")?,
        "n_inner": keys.size("feed_forward_length")?,
        "n_layer": keys.size("block_count")?,
        "n_head": keys.size("attention.head_count")?,
        "layer_norm_epsilon": keys.number("attention.layer_norm_epsilon")?,
        "activation_function": "gelu_new",
        "tie_word_embeddings": gguf.place("output.weight").is_none(),
    });
    let Value::Object(mut config) = config else { return Ok(Map::new()) };
    special_tokens(&mut config, &gguf.metadata)?;
    Ok(config)
}

pub(super) fn tensor(name: &str) -> Named {
    let same = |name: &str| Named::As(name.to_owned(), Layout::Same);
    match name {
        "token_embd.weight" => return same("transformer.wte.weight"),
        "position_embd.weight" => return same("transformer.wpe.weight"),
        "output_norm.weight" => return same("transformer.ln_f.weight"),
        "output_norm.bias" => return same("transformer.ln_f.bias"),
        "output.weight" => return same("lm_head.weight"),
        _ => {}
    }
    let Some((layer, part, kind)) = in_block(name) else { return Named::Nothing };
    let (part, projects) = match part {
        "attn_norm" => ("ln_1", false),
        "attn_qkv" => ("attn.c_attn", true),
        "attn_output" => ("attn.c_proj", true),
        "ffn_norm" => ("ln_2", false),
        "ffn_up" => ("mlp.c_fc", true),
        "ffn_down" => ("mlp.c_proj", true),
        _ => return Named::Nothing,
    };
    let layout = if projects && kind == "weight" { Layout::Transposed } else { Layout::Same };
    Named::As(format!("transformer.h.{layer}.{part}.{kind}"), layout)
}

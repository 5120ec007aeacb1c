//! Config honesty: a field that is neither honoured nor known to be harmless is an error that names it.

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::error::{Error, Result};
use crate::rope::{Rope, Scaling};

/// Fields that change nothing about what a pass computes.
const HARMLESS: &[&str] = &[
    "_attn_implementation",
    "_name_or_path",
    "architectures",
    "attention_dropout",
    "attn_pdrop",
    "bos_token_id",
    "dtype",
    "embd_pdrop",
    "eos_token_id",
    "hidden_dropout",
    "initializer_range",
    "is_llama_config",
    "model_type",
    "output_attentions",
    "output_hidden_states",
    "pad_token_id",
    "resid_pdrop",
    "return_dict",
    "task_specific_params",
    "tokenizer_class",
    "torch_dtype",
    "transformers.js_config",
    "transformers_version",
    "use_cache",
];

/// Fields that are understood at one value only.
const FIXED: &[(&str, bool)] =
    &[("add_cross_attention", false), ("is_decoder", true), ("is_encoder_decoder", false), ("rope_interleaved", false)];

/// The rotary side of a config, in whatever spelling it came.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RopeConfig {
    theta: Option<f64>,
    partial_rotary_factor: Option<f64>,
    scaling: Option<Scaling>,
}

impl RopeConfig {
    /// The rotary positions of heads of `d_head`; `theta` and `partial` stand where the config says nothing.
    pub(crate) fn rope(self, d_head: usize, context: usize, theta: f64, partial: f64) -> Rope {
        let dims = (d_head as f64 * self.partial_rotary_factor.unwrap_or(partial)) as usize;
        let scaling = self.scaling.unwrap_or(Scaling::Default {});
        Rope { dims, theta: self.theta.unwrap_or(theta), scaling, context }
    }
}

/// Reads the config of a family; `harmless` are its own fields that change nothing.
pub(crate) fn read<C: DeserializeOwned>(family: &str, config: &Map<String, Value>, harmless: &[&str]) -> Result<C> {
    let refuse = |what: String| Error::Config { family: family.to_owned(), what };
    let mut fields = without_nulls(config);
    for (field, value) in FIXED {
        match fields.remove(*field) {
            Some(found) if found != Value::Bool(*value) => {
                return Err(refuse(format!("field `{field}` is {found}, and only {value} is implemented")));
            }
            _ => {}
        }
    }
    fields.retain(|field, _| !HARMLESS.contains(&field.as_str()) && !harmless.contains(&field.as_str()));
    fold_rope(&mut fields).map_err(refuse)?;
    serde_json::from_value(Value::Object(fields)).map_err(|error| refuse(error.to_string()))
}

fn without_nulls(fields: &Map<String, Value>) -> Map<String, Value> {
    fields.iter().filter(|(_, value)| !value.is_null()).map(|(field, value)| (field.clone(), value.clone())).collect()
}

/// Gathers `rope_theta`, `rope_scaling`, `rope_parameters` and `partial_rotary_factor` under one field, `rope`.
fn fold_rope(fields: &mut Map<String, Value>) -> Result<(), String> {
    let mut rope = Map::new();
    let mut scaling = Map::new();
    for field in ["rope_scaling", "rope_parameters"] {
        match fields.remove(field) {
            None => {}
            Some(Value::Object(parameters)) => scaling.extend(without_nulls(&parameters)),
            Some(other) => return Err(format!("field `{field}` is {other} where an object is wanted")),
        }
    }
    for (from, to) in [
        ("rope_theta", "theta"),
        ("partial_rotary_factor", "partial_rotary_factor"),
        ("rotary_pct", "partial_rotary_factor"),
    ] {
        let inside = scaling.remove(from);
        if let Some(value) = fields.remove(from).or(inside) {
            rope.insert(to.to_owned(), value);
        }
    }
    if let Some(kind) = scaling.remove("type") {
        let kind = if kind == "su" { Value::from("longrope") } else { kind };
        scaling.entry("rope_type").or_insert(kind);
    }
    if !scaling.is_empty() {
        if !scaling.contains_key("rope_type") {
            return Err("field `rope_scaling` has no `rope_type`".into());
        }
        rope.insert("scaling".into(), Value::Object(scaling));
    }
    if !rope.is_empty() {
        fields.insert("rope".into(), Value::Object(rope));
    }
    Ok(())
}

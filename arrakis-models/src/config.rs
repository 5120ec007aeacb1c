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
    "auto_map",
    "bos_token_id",
    "classifier_dropout",
    "dtype",
    "embd_pdrop",
    "eos_token_id",
    "gradient_checkpointing",
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

/// Fields that `rope` gathers.
const ROPE: &[&str] = &["rope_scaling", "rope_parameters", "rope_theta", "partial_rotary_factor"];

/// The rotary side of a config, in whatever spelling it came.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RopeConfig {
    theta: Option<f64>,
    partial_rotary_factor: Option<f64>,
    scaling: Option<Scaling>,
}

/// How much of each head a family rotates.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Rotated {
    /// All of it, whatever the config.
    Whole,
    /// The part that the config says, or else this one.
    Part(f64),
}

impl RopeConfig {
    /// The rotary positions of heads of `d_head`; `theta` stands where the config says nothing.
    pub(crate) fn rope(self, d_head: usize, context: usize, theta: f64, rotated: Rotated) -> Result<Rope, String> {
        let part = self.partial_rotary_factor.unwrap_or(match rotated {
            Rotated::Whole => 1.0,
            Rotated::Part(usual) => usual,
        });
        let dims = (d_head as f64 * part) as usize;
        if matches!(rotated, Rotated::Whole) && dims != d_head {
            return Err(format!("field `partial_rotary_factor` is {part}, and only 1 is implemented"));
        }
        if dims > d_head || !dims.is_multiple_of(2) {
            return Err(format!("{dims} dimensions of heads of {d_head} cannot be rotated in pairs"));
        }
        let scaling = self.scaling.unwrap_or(Scaling::Default {});
        if let Scaling::Longrope { short_factor, long_factor, .. } = &scaling {
            for (field, factors) in [("short_factor", short_factor), ("long_factor", long_factor)] {
                if factors.len() != dims / 2 {
                    return Err(format!("field `{field}` has {} factors for {} frequencies", factors.len(), dims / 2));
                }
            }
        }
        Ok(Rope { dims, theta: self.theta.unwrap_or(theta), scaling, context })
    }
}

/// The fields of a family that are neither in its config nor in that of all families.
#[derive(Debug, Default)]
pub(crate) struct Beside {
    /// Fields that change nothing.
    pub(crate) harmless: &'static [&'static str],
    /// Fields that are understood at one value only.
    pub(crate) fixed: &'static [(&'static str, bool)],
}

/// Fields in two parts, and those that neither part knows.
#[derive(Deserialize)]
struct Parts<S, C> {
    #[serde(flatten)]
    shape: S,
    #[serde(flatten)]
    own: C,
    #[serde(flatten)]
    unknown: Map<String, Value>,
}

/// Reads the config of a family: the fields that it shares with others, and its own.
pub(crate) fn read<S: DeserializeOwned, C: DeserializeOwned>(
    family: &str,
    config: &Map<String, Value>,
    beside: &Beside,
) -> Result<(S, C)> {
    let refuse = |what: String| Error::Config { family: family.to_owned(), what };
    let mut fields = without_nulls(config);
    fields.retain(|field, _| !beside.harmless.contains(&field.as_str()) && !HARMLESS.contains(&field.as_str()));
    for (field, value) in FIXED.iter().chain(beside.fixed) {
        match fields.remove(*field) {
            Some(found) if found != Value::Bool(*value) => {
                return Err(refuse(format!("field `{field}` is {found}, and only {value} is implemented")));
            }
            _ => {}
        }
    }
    fold_rope(&mut fields).map_err(refuse)?;
    let parts: Parts<S, C> =
        serde_json::from_value(Value::Object(fields)).map_err(|error| refuse(error.to_string()))?;
    let Some(field) = parts.unknown.keys().next() else { return Ok((parts.shape, parts.own)) };
    // `rope` is our name for several fields; theirs is wanted.
    let field =
        if field == "rope" { ROPE.iter().copied().find(|rope| config.contains_key(*rope)) } else { Some(&**field) };
    Err(refuse(format!("unknown field `{}`", field.unwrap_or("rope"))))
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
    for (from, to) in [("rope_theta", "theta"), ("partial_rotary_factor", "partial_rotary_factor")] {
        let (inside, beside) = (scaling.remove(from), fields.remove(from));
        if let Some(value) = inside.or(beside) {
            rope.insert(to.to_owned(), value);
        }
    }
    if let Some(kind) = scaling.remove("type") {
        let kind = if kind == "su" { Value::from("longrope") } else { kind };
        scaling.entry("rope_type").or_insert(kind);
    }
    // Beside the scaling it holds before the one inside, and means nothing to a scaling that has none.
    if let Some(length) = fields.remove("original_max_position_embeddings")
        && scaling.get("rope_type").is_some_and(|kind| ["llama3", "longrope", "yarn"].iter().any(|known| kind == known))
    {
        scaling.insert("original_max_position_embeddings".into(), length);
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

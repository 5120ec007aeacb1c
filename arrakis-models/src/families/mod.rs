//! The families: each a config, an architecture and the names of its tensors.

mod gemma;
mod gpt2;
mod gpt_neo;
mod gpt_neox;
mod llama;
mod mistral;
mod phi3;
mod qwen2;
mod shape;
mod stablelm;

use serde_json::{Map, Value};

use crate::architecture::{Activation, Architecture, Window};
use crate::error::{Error, Result};
use crate::names::Names;

/// Everything that a config says.
pub(crate) struct Blueprint {
    pub(crate) architecture: Architecture,
    /// What has a bias.
    pub(crate) biases: Vec<Biased>,
    pub(crate) unembed: Unembed,
    pub(crate) names: Names,
}

/// What may have a bias.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Biased {
    Qkv,
    O,
    Mlp,
    Norm,
}

/// Where the unembedding comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unembed {
    /// It is the embedding, transposed.
    Tied,
    /// It has a tensor of its own.
    Own,
}

impl Unembed {
    fn tied(tied: bool) -> Self {
        if tied { Self::Tied } else { Self::Own }
    }
}

struct Family {
    name: &'static str,
    blueprint: fn(&Map<String, Value>) -> Result<Blueprint>,
}

const FAMILIES: &[Family] = &[
    Family { name: gemma::NAME, blueprint: gemma::blueprint },
    Family { name: gpt2::NAME, blueprint: gpt2::blueprint },
    Family { name: gpt_neo::NAME, blueprint: gpt_neo::blueprint },
    Family { name: gpt_neox::NAME, blueprint: gpt_neox::blueprint },
    Family { name: llama::NAME, blueprint: llama::blueprint },
    Family { name: mistral::NAME, blueprint: mistral::blueprint },
    Family { name: phi3::NAME, blueprint: phi3::blueprint },
    Family { name: qwen2::NAME, blueprint: qwen2::blueprint },
    Family { name: stablelm::NAME, blueprint: stablelm::blueprint },
];

/// The names of all families.
pub fn families() -> impl Iterator<Item = &'static str> {
    FAMILIES.iter().map(|family| family.name)
}

/// What a config says, by its `model_type`.
pub(crate) fn blueprint(config: &Map<String, Value>) -> Result<Blueprint> {
    let name = config.get("model_type").and_then(Value::as_str).unwrap_or("(no `model_type`)");
    let family = FAMILIES.iter().find(|family| family.name == name);
    let family = family.ok_or_else(|| Error::UnknownFamily { family: name.to_owned(), known: families().collect() })?;
    (family.blueprint)(config)
}

fn refused(family: &str, what: String) -> Error {
    Error::Config { family: family.to_owned(), what }
}

/// The activation that a field names.
fn activation(family: &str, field: &str, name: &str) -> Result<Activation> {
    Activation::named(name).ok_or_else(|| refused(family, format!("field `{field}`: `{name}` is not implemented")))
}

/// The window that `sliding_window` says; `unstated` where the config lacks the field, which is not to say `null`.
fn sliding(fields: &Map<String, Value>, stated: Option<usize>, unstated: Option<usize>) -> Window {
    let width = if fields.contains_key("sliding_window") { stated } else { unstated };
    width.map_or(Window::Causal, Window::Sliding)
}

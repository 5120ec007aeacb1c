//! The families: each a config, an architecture and the names of its tensors.

mod gpt2;
mod llama;

use serde_json::{Map, Value};

use crate::architecture::Architecture;
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

struct Family {
    name: &'static str,
    blueprint: fn(&Map<String, Value>) -> Result<Blueprint>,
}

const FAMILIES: &[Family] = &[
    Family { name: gpt2::NAME, blueprint: gpt2::blueprint },
    Family { name: llama::NAME, blueprint: llama::blueprint },
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

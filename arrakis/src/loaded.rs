//! A model of whatever crate, by the name that the command takes: a checkpoint, or one that ships with this crate.

use std::ops::Deref;
use std::path::Path;

use anyhow::{Result, bail};
use arrakis_bench::Wanted;
use arrakis_core::Model;
use arrakis_leviathan::{Folder, Leviathan, Vocabulary};
use arrakis_models::{Checkpoint, Decoder, LoadOptions, Tokenizer};
use serde_json::{Value, json};

/// A model that ships with this crate: its name, config, weights and tokenizer.
struct Builtin {
    name: &'static str,
    config: &'static str,
    weights: &'static [u8],
    tokenizer: &'static str,
}

macro_rules! builtin {
    ($name:literal) => {
        Builtin {
            name: concat!("builtin:", $name),
            config: include_str!(concat!("../builtin/", $name, "/config.json")),
            weights: include_bytes!(concat!("../builtin/", $name, "/model.safetensors")),
            tokenizer: include_str!(concat!("../builtin/", $name, "/tokenizer.json")),
        }
    };
}

const MODELS: [Builtin; 3] = [builtin!("leviathan"), builtin!("transformer"), builtin!("induction")];

/// The names of the models that ship with this crate, small ones of characters: two trained on Shakespeare, which score by
/// cross-correlation and by attention, and one of a single block that learned to copy.
pub const BUILTIN: [&str; 3] = [MODELS[0].name, MODELS[1].name, MODELS[2].name];

/// What the name of a model begins with that is wanted as it was before its training.
pub(crate) const UNTRAINED: &str = "untrained:";

/// A model of whatever crate.
pub enum Loaded {
    /// A decoder of one of the families.
    Decoder(Box<Decoder>),
    /// A model that scores by cross-correlation, or its twin that does not.
    Leviathan(Box<Leviathan>),
}

impl Loaded {
    /// Loads a model: a folder, a `.gguf` file, a hub id, the name of one that ships with this crate ([`BUILTIN`]), or
    /// `untrained:DIR`, a model as `arrakis leviathan train --out DIR` began with it.
    ///
    /// # Errors
    /// Names the file, config field or tensor that is missing, damaged, unknown or left over.
    pub fn open(model: &str, options: &LoadOptions) -> Result<Self> {
        if model.starts_with("builtin:") {
            return builtin(model, options);
        }
        if let Some(folder) = model.strip_prefix(UNTRAINED) {
            return Ok(Self::Leviathan(Box::new(Folder::untrained(Path::new(folder), options)?)));
        }
        let checkpoint = Checkpoint::open(model)?;
        // The prompt's tokenizer is read meanwhile.
        checkpoint.tensors.read_ahead();
        Ok(if Leviathan::is_in(&checkpoint) {
            Self::Leviathan(Box::new(Leviathan::from_checkpoint(&checkpoint, options)?))
        } else {
            Self::Decoder(Box::new(Decoder::from_checkpoint(&checkpoint, options)?))
        })
    }

    /// Loads a model as it is wanted.
    ///
    /// # Errors
    /// Those of [`open`](Self::open), and an unknown layout.
    pub fn wanted(wanted: &Wanted) -> Result<Self> {
        let model = Self::open(&wanted.name, &LoadOptions { kind: wanted.kind, device: wanted.device })?;
        match wanted.layout.as_deref() {
            None => Ok(model),
            Some("packed") => model.packed(),
            Some(other) => {
                bail!("layout `{other}` is none that this version knows; load the model in the program that made it")
            }
        }
    }

    /// The model as such.
    #[must_use]
    pub fn into_model(self) -> Box<dyn Model> {
        match self {
            Self::Decoder(decoder) => decoder,
            Self::Leviathan(leviathan) => leviathan,
        }
    }

    /// The same model with its matrices laid out for the processor, where it is a decoder.
    ///
    /// # Errors
    /// What LibTorch says where it cannot lay out a matrix.
    pub fn packed(self) -> Result<Self> {
        match self {
            Self::Decoder(decoder) => Ok(Self::Decoder(Box::new(decoder.packed()?))),
            Self::Leviathan(_) => {
                bail!("a model of `{}` has no packed form; leave `--packed` out", arrakis_leviathan::FAMILY)
            }
        }
    }

    /// The tokenizer, if there is one.
    pub fn tokenizer(&self) -> Result<Option<&Tokenizer>> {
        match self {
            Self::Decoder(decoder) => Ok(decoder.tokenizer()?),
            Self::Leviathan(leviathan) => Ok(leviathan.tokenizer()),
        }
    }

    /// Everything that says what the model computes, without its weights.
    pub fn architecture(&self) -> Result<Value> {
        Ok(match self {
            Self::Decoder(decoder) => serde_json::to_value(decoder.architecture())?,
            Self::Leviathan(leviathan) => json!({ "dims": leviathan.dims(), "leviathan": leviathan.config() }),
        })
    }

    /// What only some models have, in words: the name of each, and what it is here.
    pub(crate) fn particulars(&self) -> Result<Vec<(&'static str, String)>> {
        Ok(match self {
            Self::Decoder(decoder) => {
                let architecture = decoder.architecture();
                vec![
                    ("activation", word(&serde_json::to_value(architecture.activation)?)),
                    ("positions", word(&serde_json::to_value(&architecture.positions)?)),
                ]
            }
            Self::Leviathan(leviathan) => {
                let config = leviathan.config();
                vec![
                    ("mixer", config.mixer.to_string()),
                    ("feed-forward", config.feed_forward.to_string()),
                    ("positions", config.positions.to_string()),
                ]
            }
        })
    }
}

impl Deref for Loaded {
    type Target = dyn Model;

    fn deref(&self) -> &Self::Target {
        match self {
            Self::Decoder(decoder) => &**decoder,
            Self::Leviathan(leviathan) => &**leviathan,
        }
    }
}

fn builtin(name: &str, options: &LoadOptions) -> Result<Loaded> {
    let Some(found) = MODELS.iter().find(|model| model.name == name) else {
        bail!("there is no `{name}`; this crate has {}", BUILTIN.map(|name| format!("`{name}`")).join(", "));
    };
    let path = Path::new(found.name);
    let weights = arrakis_bench::tensors_in(found.weights, path)?;
    let vocabulary = Vocabulary::from_json(found.tokenizer.to_owned(), path)?;
    let config = serde_json::from_str(found.config)?;
    let leviathan = Leviathan::from_parts(path, config, &weights, Some(vocabulary), options)?;
    Ok(Loaded::Leviathan(Box::new(leviathan)))
}

/// The name of a choice, whether or not it has details.
fn word(choice: &Value) -> String {
    match choice {
        Value::Object(details) => details.keys().next().cloned().unwrap_or_default(),
        Value::String(name) => name.clone(),
        other => other.to_string(),
    }
}

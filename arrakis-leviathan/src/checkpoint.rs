//! A training's folder: what is trained there, and everything needed to go on as if it had never stopped.

use std::fs;
use std::path::{Path, PathBuf};

use arrakis_bench::{read_tensors, write_tensors};
use arrakis_models::LoadOptions;
use serde::Deserialize;
use serde_json::Value;
use tch::{Kind, Tensor};

use crate::leviathan::{Leviathan, write_text};
use crate::trainer::Trainer;
use crate::training::Training;
use crate::{Config, Error, Result};

/// What is trained in a folder.
const RUN: &str = "training.json";
/// Where it stands.
const STATE: &str = "state.safetensors";

/// A training's folder: `training.json`, `state.safetensors`, `metrics.jsonl`, and a model for each seed.
#[derive(Debug, Clone)]
pub struct Folder(PathBuf);

impl Folder {
    /// The folder, made if it is not there.
    pub fn open(path: impl Into<PathBuf>) -> Result<Self> {
        let path = path.into();
        fs::create_dir_all(&path).map_err(Error::file("make", &path))?;
        Ok(Self(path))
    }

    /// The folder itself.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// The folder of a seed's model: `model`, or `seed-N` where there are several.
    #[must_use]
    pub fn model(&self, training: &Training, seed: u64) -> PathBuf {
        if training.seeds.len() == 1 { self.0.join("model") } else { self.0.join(format!("seed-{seed}")) }
    }

    /// The model of the first seed as the training in a folder began with it: what trained models are held against.
    ///
    /// # Errors
    /// A folder in which nothing was trained.
    pub fn untrained(path: &Path, options: &LoadOptions) -> Result<Leviathan> {
        #[derive(Deserialize)]
        struct Claim {
            model: Config,
            training: Training,
        }
        let path = path.join(RUN);
        let text = fs::read_to_string(&path).map_err(Error::file("read", &path))?;
        let claim: Claim = serde_json::from_str(&text)
            .map_err(|error| Error::Damaged { path: path.clone(), why: error.to_string() })?;
        claim.training.check()?;
        Leviathan::new(&claim.model, claim.training.seeds[0])?.to(options)
    }

    /// Says what is trained here, or finds that it is the same as before.
    pub(crate) fn claim(&self, asked: &Value) -> Result<()> {
        let path = self.0.join(RUN);
        if !path.exists() {
            if self.0.join(STATE).exists() {
                let why = format!(
                    "it is not there, and `{STATE}` says nothing of what it is a state of; remove that, or put the file back"
                );
                return Err(Error::Damaged { path, why });
            }
            return write_text(&path, &(serde_json::to_string_pretty(asked)? + "\n"));
        }
        let text = fs::read_to_string(&path).map_err(Error::file("read", &path))?;
        let there: Value =
            serde_json::from_str(&text).map_err(|error| Error::Damaged { path, why: error.to_string() })?;
        match difference("", &there, asked) {
            None => Ok(()),
            Some((field, there, asked)) => Err(Error::OtherTraining { folder: self.0.clone(), field, there, asked }),
        }
    }

    /// Writes where a training stands, whole or not at all.
    pub(crate) fn store(&self, trainer: &Trainer<'_>) -> Result<()> {
        let standing = &trainer.standing;
        let whole: Vec<i64> =
            [&[standing.step], &standing.stale[..]].concat().iter().map(|count| *count as i64).collect();
        let whole = Tensor::f_from_slice(&whole)?;
        let real = Tensor::f_from_slice(&[&[standing.seconds], &standing.best_losses[..]].concat())?;
        let named = [
            ("weights", &trainer.flat),
            ("first", &trainer.optimiser.first),
            ("second", &trainer.optimiser.second),
            ("best", &standing.best),
            ("counts", &whole),
            ("numbers", &real),
        ];
        let named = named.map(|(name, tensor)| Ok((name.to_owned(), tensor.f_to_device(tch::Device::Cpu)?)));
        let named = named.into_iter().collect::<Result<Vec<(String, Tensor)>>>()?;
        write_tensors(&self.0.join(STATE), named.iter().map(|(name, tensor)| (name.clone(), tensor)))?;
        Ok(())
    }

    /// Puts a training where an earlier run stood; leaves it at its beginning if there was none.
    pub(crate) fn restore(&self, trainer: &mut Trainer<'_>) -> Result<()> {
        let path = self.0.join(STATE);
        if !path.exists() {
            return Ok(());
        }
        let stored = read_tensors(&path)?;
        let find = |name: &str, size: &[i64], kind: Kind| -> Result<Tensor> {
            let found = stored.iter().find(|(known, _)| known == name).map(|(_, tensor)| tensor.shallow_clone());
            found.filter(|tensor| tensor.size() == size && tensor.kind() == kind).ok_or_else(|| Error::Damaged {
                path: path.clone(),
                why: format!("it has no `{name}` of shape {size:?} and kind {kind:?}"),
            })
        };
        let (size, kind) = (trainer.flat.size(), trainer.flat.kind());
        let like = |name| find(name, &size, kind);
        let (weights, best) = (like("weights")?, like("best")?);
        let (first, second) = (like("first")?, like("second")?);
        let counts: Vec<i64> = Vec::try_from(find("counts", &[size[0] + 1], Kind::Int64)?)?;
        let numbers: Vec<f64> = Vec::try_from(find("numbers", &[size[0] + 1], Kind::Double)?)?;
        let _off = tch::no_grad_guard();
        // In place, because the parts of the network share this memory.
        trainer.flat.f_copy_(&weights)?;
        trainer.optimiser.first.f_copy_(&first)?;
        trainer.optimiser.second.f_copy_(&second)?;
        trainer.standing.best.f_copy_(&best)?;
        trainer.standing.step = counts[0] as u64;
        trainer.standing.stale = counts[1..].iter().map(|count| *count as u64).collect();
        trainer.standing.seconds = numbers[0];
        trainer.standing.best_losses = numbers[1..].to_vec();
        Ok(())
    }
}

/// The first field in which two descriptions differ, with both values.
fn difference(name: &str, there: &Value, asked: &Value) -> Option<(String, String, String)> {
    if let (Value::Object(there), Value::Object(asked)) = (there, asked) {
        let names = asked.keys().chain(there.keys().filter(|name| !asked.contains_key(*name)));
        let null = Value::Null;
        return names.into_iter().find_map(|field| {
            let below = if name.is_empty() { field.clone() } else { format!("{name}.{field}") };
            difference(&below, there.get(field).unwrap_or(&null), asked.get(field).unwrap_or(&null))
        });
    }
    (there != asked).then(|| (name.to_owned(), there.to_string(), asked.to_string()))
}

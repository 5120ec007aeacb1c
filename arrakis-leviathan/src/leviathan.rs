//! A language model of this crate, as a `Model` that every tool works on, saved and loaded as safetensors.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use arrakis_bench::{replace, write_tensors};
use arrakis_core::{Dims, Error as CoreError, HookPoint, Model, Output, Pass, Result as CoreResult, WeightPoint};
use arrakis_models::{Checkpoint, LoadOptions, Tokenizer};
use serde_json::{Map, Value, json};
use tch::{Device, Kind, Tensor};

use crate::config::{Config, FAMILY};
use crate::layout::Layout;
use crate::network::Network;
use crate::parameters::Parameters;
use crate::vocabulary::{self, Vocabulary};
use crate::{Error, Result, sites, weights};

/// A language model whose mixer is attention, cross-correlation or involution.
#[derive(Debug)]
pub struct Leviathan {
    network: Network,
    points: Vec<HookPoint>,
    vocabulary: Option<Arc<Vocabulary>>,
    digest: OnceLock<String>,
}

impl Leviathan {
    /// A model with its first weights, in single precision on the CPU.
    pub fn new(config: &Config, seed: u64) -> Result<Self> {
        config.check()?;
        Ok(Self::of(config, Parameters::new(config, &[seed])?, None))
    }

    /// The same model on a device, in single or double precision.
    pub fn to(&self, options: &LoadOptions) -> Result<Self> {
        let flat =
            self.network.parameters.flat.f_detach_copy()?.f_to_device(options.device)?.f_to_kind(options.kind)?;
        let parameters = Parameters::of(Arc::clone(&self.network.parameters.layout), flat)?;
        Ok(Self::of(&self.network.config, parameters, self.vocabulary.clone()))
    }

    pub(crate) fn of(config: &Config, parameters: Parameters, vocabulary: Option<Arc<Vocabulary>>) -> Self {
        let network = Network::new(config.clone(), parameters);
        Self { points: sites::points(config), network, vocabulary, digest: OnceLock::new() }
    }

    /// Loads a folder that [`save`](Self::save) wrote.
    ///
    /// # Errors
    /// Names the file, config field or tensor that is missing, damaged, unknown or left over.
    pub fn load(folder: &str, options: &LoadOptions) -> Result<Self> {
        Self::from_checkpoint(&Checkpoint::open(folder)?, options)
    }

    /// Whether a checkpoint is of a model of this crate.
    #[must_use]
    pub fn is_in(checkpoint: &Checkpoint) -> bool {
        checkpoint.config.get("model_type").and_then(Value::as_str) == Some(FAMILY)
    }

    /// Builds the model of an opened checkpoint; errors as in [`load`](Self::load).
    pub fn from_checkpoint(checkpoint: &Checkpoint, options: &LoadOptions) -> Result<Self> {
        let path = checkpoint.source.join(vocabulary::FILE);
        let vocabulary = if path.exists() {
            let json = fs::read_to_string(&path).map_err(Error::file("read", &path))?;
            Some(Vocabulary::from_json(json, &path)?)
        } else {
            None
        };
        let stored = checkpoint.tensors.names().map(|name| Ok((name.to_owned(), checkpoint.tensors.get(name)?)));
        let stored = stored.collect::<Result<Vec<(String, Tensor)>>>()?;
        Self::from_parts(&checkpoint.source, checkpoint.config.clone(), &stored, vocabulary, options)
    }

    /// Builds a model of what its three files say; `name` stands for the folder in errors.
    pub fn from_parts(
        name: &Path,
        mut config: Map<String, Value>,
        stored: &[(String, Tensor)],
        vocabulary: Option<Vocabulary>,
        options: &LoadOptions,
    ) -> Result<Self> {
        let damaged = |why: String| Error::Damaged { path: name.to_owned(), why };
        if config.remove("model_type") != Some(Value::from(FAMILY)) {
            return Err(damaged(format!("its config is not of a `{FAMILY}`")));
        }
        if !matches!(options.kind, Kind::Float | Kind::Double) {
            let why =
                format!("{:?} is too coarse for the sums of lags; float32 and float64 are computed", options.kind);
            return Err(Error::config("dtype", why));
        }
        let config: Config =
            serde_json::from_value(Value::Object(config)).map_err(|error| damaged(format!("config: {error}")))?;
        config.check()?;
        if let Some(vocabulary) = vocabulary.as_ref().filter(|vocabulary| vocabulary.len() != config.vocab) {
            let why = format!("its tokenizer has {} tokens and its config {}", vocabulary.len(), config.vocab);
            return Err(damaged(why));
        }
        let layout = Arc::new(Layout::of(&config));
        let flat = Tensor::f_zeros([1, layout.count()], (options.kind, options.device))?;
        let parameters = Parameters::of(layout, flat)?;
        let mut stored: BTreeMap<&str, &Tensor> = stored.iter().map(|(name, value)| (name.as_str(), value)).collect();
        for weight in weights::list(&config, &parameters.layout) {
            let value = stored.remove(weight.to_string().as_str());
            let value = value.ok_or_else(|| damaged(format!("it has no tensor `{weight}`")))?;
            weights::set(&config, &parameters, weight, value)?;
        }
        if let Some(left) = stored.keys().next() {
            return Err(damaged(format!("tensor `{left}` is of no part of the model that its config describes")));
        }
        Ok(Self::of(&config, parameters, vocabulary.map(Arc::new)))
    }

    /// Writes config, weights and tokenizer into a folder, which is made if it is not there; each file whole or not at
    /// all, the config last.
    pub fn save(&self, folder: &Path) -> Result<()> {
        fs::create_dir_all(folder).map_err(Error::file("make", folder))?;
        if let Some(vocabulary) = &self.vocabulary {
            write_text(&folder.join(vocabulary::FILE), &vocabulary.json)?;
        }
        let named = self.weights().into_iter().map(|weight| Ok((weight.to_string(), self.weight(weight)?)));
        let named = named.collect::<CoreResult<Vec<(String, Tensor)>>>()?;
        let file = folder.join("model.safetensors");
        write_tensors(&file, named.iter().map(|(name, tensor)| (name.clone(), tensor)))?;
        let mut config = json!({ "model_type": FAMILY });
        if let (Some(all), Value::Object(own)) = (config.as_object_mut(), serde_json::to_value(&self.network.config)?) {
            all.extend(own);
        }
        write_text(&folder.join("config.json"), &(serde_json::to_string_pretty(&config)? + "\n"))
    }

    /// What the model is, without its weights.
    #[must_use]
    pub const fn config(&self) -> &Config {
        &self.network.config
    }

    /// The tokenizer, if there is one.
    #[must_use]
    pub fn tokenizer(&self) -> Option<&Tokenizer> {
        self.vocabulary.as_ref().map(|vocabulary| &vocabulary.tokenizer)
    }

    /// The vocabulary, if there is one.
    #[must_use]
    pub fn vocabulary(&self) -> Option<Arc<Vocabulary>> {
        self.vocabulary.clone()
    }

    fn needed_tokenizer(&self) -> CoreResult<&Tokenizer> {
        self.tokenizer().ok_or(CoreError::NoTokenizer)
    }
}

/// Writes a text file, whole or not at all.
pub(crate) fn write_text(path: &Path, text: &str) -> Result<()> {
    replace(path, |temporary| fs::write(temporary, text).map_err(Error::file("write", path)))
}

impl Model for Leviathan {
    fn dims(&self) -> &Dims {
        &self.network.dims
    }

    fn kind(&self) -> Kind {
        self.network.parameters.flat.kind()
    }

    fn device(&self) -> Device {
        self.network.parameters.flat.device()
    }

    fn points(&self) -> &[HookPoint] {
        &self.points
    }

    fn forward(&self, mut pass: Pass<'_>) -> CoreResult<Output> {
        let _off = (!pass.record).then(tch::no_grad_guard);
        self.network.forward(&mut pass)
    }

    fn unembed(&self, residual: &Tensor) -> CoreResult<Tensor> {
        self.network.unembed(residual)
    }

    fn weights(&self) -> Vec<WeightPoint> {
        weights::list(&self.network.config, &self.network.parameters.layout)
    }

    fn weight(&self, weight: WeightPoint) -> CoreResult<Tensor> {
        weights::get(&self.network.config, &self.network.parameters, weight)
    }

    fn with_weights(&self, edits: Vec<(WeightPoint, Tensor)>) -> CoreResult<Box<dyn Model>> {
        let config = &self.network.config;
        let layout = Arc::clone(&self.network.parameters.layout);
        let parameters = Parameters::of(layout, self.network.parameters.flat.f_detach_copy()?)?;
        for (weight, value) in edits {
            weights::set(config, &parameters, weight, &value)?;
        }
        Ok(Box::new(Self::of(config, parameters, self.vocabulary.clone())))
    }

    fn encode(&self, text: &str) -> CoreResult<Vec<i64>> {
        Ok(self.needed_tokenizer()?.encode(text)?)
    }

    fn token_id(&self, text: &str) -> CoreResult<i64> {
        Ok(self.needed_tokenizer()?.id_of(text)?)
    }

    fn decode(&self, tokens: &[i64]) -> CoreResult<String> {
        Ok(self.needed_tokenizer()?.decode(tokens))
    }

    fn token(&self, token: i64) -> String {
        self.needed_tokenizer().map_or_else(|_| format!("[{token}]"), |tokenizer| tokenizer.token(token))
    }

    fn digest(&self) -> CoreResult<String> {
        if let Some(digest) = self.digest.get() {
            return Ok(digest.clone());
        }
        let mut hasher = blake3::Hasher::new();
        hasher.update(&serde_json::to_vec(&self.network.config)?);
        let flat = self.network.parameters.flat.f_to_device(Device::Cpu)?.f_contiguous()?;
        hasher.update(format!("\n{:?} {:?}\n", flat.kind(), flat.size()).as_bytes());
        let bytes = flat.f_view([-1])?.f_view_dtype(Kind::Uint8)?;
        let mut buffer = vec![0_u8; bytes.numel()];
        bytes.f_copy_data_u8(&mut buffer, bytes.numel())?;
        hasher.update(&buffer);
        Ok(self.digest.get_or_init(|| hasher.finalize().to_hex().to_string()).clone())
    }

    fn tokenizer_digest(&self) -> CoreResult<Option<String>> {
        let digest = |vocabulary: &Arc<Vocabulary>| blake3::hash(vocabulary.json.as_bytes()).to_hex().to_string();
        Ok(self.vocabulary.as_ref().map(digest))
    }
}

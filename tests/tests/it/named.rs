//! A model that only says what it is, for tests of the bench.

use arrakis_core::{Dims, HookPoint, Model, NormKind, Output, Pass, Residual, Result, WeightPoint};
use tch::{Device, Kind, Tensor};

/// A model that only says what it is.
pub(crate) struct Named {
    pub(crate) dims: Dims,
    pub(crate) kind: Kind,
    pub(crate) digest: String,
    pub(crate) tokenizer: Option<String>,
    pub(crate) layout: Option<&'static str>,
}

impl Named {
    pub(crate) fn new() -> Self {
        let dims = Dims {
            family: "named".into(),
            n_layers: 1,
            n_heads: 1,
            n_kv_heads: 1,
            d_model: 1,
            d_head: 1,
            d_mlp: 1,
            vocab: 1,
            context: 1,
            norm: NormKind::Layer,
            norm_eps: 0.0,
            residual: Residual::Serial,
            others: std::collections::BTreeMap::new(),
        };
        Self { dims, kind: Kind::Float, digest: "0".repeat(64), tokenizer: None, layout: None }
    }
}

/// What a model without anything says.
pub(crate) fn refuse<T>() -> Result<T> {
    Err(arrakis_core::Error::NoTokenizer)
}

impl Model for Named {
    fn dims(&self) -> &Dims {
        &self.dims
    }
    fn kind(&self) -> Kind {
        self.kind
    }
    fn device(&self) -> Device {
        Device::Cpu
    }
    fn points(&self) -> &[HookPoint] {
        &[]
    }
    fn forward(&self, _: Pass<'_>) -> Result<Output> {
        refuse()
    }
    fn unembed(&self, _: &Tensor) -> Result<Tensor> {
        refuse()
    }
    fn weights(&self) -> Vec<WeightPoint> {
        Vec::new()
    }
    fn weight(&self, _: WeightPoint) -> Result<Tensor> {
        refuse()
    }
    fn with_weights(&self, _: Vec<(WeightPoint, Tensor)>) -> Result<Box<dyn Model>> {
        refuse()
    }
    fn encode(&self, _: &str) -> Result<Vec<i64>> {
        refuse()
    }
    fn token_id(&self, _: &str) -> Result<i64> {
        refuse()
    }
    fn decode(&self, _: &[i64]) -> Result<String> {
        refuse()
    }
    fn digest(&self) -> Result<String> {
        Ok(self.digest.clone())
    }
    fn tokenizer_digest(&self) -> Result<Option<String>> {
        Ok(self.tokenizer.clone())
    }
    fn layout(&self) -> Option<&'static str> {
        self.layout
    }
}

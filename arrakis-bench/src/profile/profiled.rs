//! A model whose passes are counted: to whoever runs it, the model that it wraps.

use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arrakis_core::{Dims, HookPoint, Model, Output, Pass, Result, WeightPoint};
use send_wrapper::SendWrapper;
use tch::{Device, Kind, Tensor};

use super::component::{END, UNEMBEDDING, UNFINISHED};
use super::process::{Clock, Memory};
use super::spent::{Ledger, Spent};
use super::timed::{Shape, Timed};

/// A model whose passes are counted.
pub(super) struct Profiled<'a> {
    model: Subject<'a>,
    ledger: Arc<Mutex<Ledger>>,
    steps: bool,
}

/// The model behind it.
enum Subject<'a> {
    /// Whoever profiles lends it out as `&dyn Model`, which stays on its thread, and so does this.
    Lent(SendWrapper<&'a dyn Model>),
    /// A model with other weights, made by the run.
    Edited(Box<dyn Model>),
}

impl<'a> Profiled<'a> {
    pub(super) fn new(model: &'a dyn Model, ledger: Ledger, steps: bool) -> Self {
        let ledger = Arc::new(Mutex::new(ledger));
        Self { model: Subject::Lent(SendWrapper::new(model)), ledger, steps }
    }

    pub(super) fn into_ledger(self) -> Ledger {
        mem::take(&mut *self.ledger())
    }

    fn model(&self) -> &dyn Model {
        match &self.model {
            Subject::Lent(model) => **model,
            Subject::Edited(model) => model.as_ref(),
        }
    }

    /// A panic within a pass leaves the ledger as it was before that pass.
    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Operations of an unembedding to so many logits.
    fn unembedding(&self, logits: &Tensor) -> (u64, u64) {
        let numbers = logits.numel() as u64;
        (2 * numbers * self.dims().d_model as u64, numbers * logits.kind().elt_size_in_bytes() as u64)
    }
}

impl Model for Profiled<'_> {
    fn dims(&self) -> &Dims {
        self.model().dims()
    }

    fn kind(&self) -> Kind {
        self.model().kind()
    }

    fn device(&self) -> Device {
        self.model().device()
    }

    fn points(&self) -> &[HookPoint] {
        self.model().points()
    }

    fn forward(&self, pass: Pass<'_>) -> Result<Output> {
        let shape = Shape::of(&pass, self.kind());
        let floor = {
            let mut ledger = self.ledger();
            ledger.passes += 1;
            ledger.positions += shape.positions();
            ledger.floor
        };
        let mut timed = Timed::new(pass.hooks, self.dims(), shape, self.steps, Ledger::default().above(floor));
        let outcome = self.model().forward(Pass { hooks: &mut timed, ..pass });
        match &outcome {
            Ok(Output { logits: Some(logits), .. }) => {
                let (flops, bytes) = self.unembedding(logits);
                timed.lap(None, UNEMBEDDING, flops, bytes);
            }
            Ok(_) => timed.lap(None, END, 0, 0),
            Err(_) => {
                timed.lap(None, UNFINISHED, 0, 0);
                self.ledger().failed += 1;
            }
        }
        self.ledger().absorb(&timed.ledger);
        outcome
    }

    fn unembed(&self, residual: &Tensor) -> Result<Tensor> {
        let start = Clock::now();
        let logits = self.model().unembed(residual)?;
        let (flops, bytes) = self.unembedding(&logits);
        let mut ledger = self.ledger();
        let resident = ledger.height(&Memory::open());
        ledger.add(None, UNEMBEDDING, Spent { flops, bytes, visits: 1, resident, ..start.spent() });
        Ok(logits)
    }

    fn weights(&self) -> Vec<WeightPoint> {
        self.model().weights()
    }

    fn weight(&self, weight: WeightPoint) -> Result<Tensor> {
        self.model().weight(weight)
    }

    fn with_weights(&self, edits: Vec<(WeightPoint, Tensor)>) -> Result<Box<dyn Model>> {
        let model = Subject::Edited(self.model().with_weights(edits)?);
        Ok(Box::new(Profiled { model, ledger: Arc::clone(&self.ledger), steps: self.steps }))
    }

    fn encode(&self, text: &str) -> Result<Vec<i64>> {
        self.model().encode(text)
    }

    fn token_id(&self, text: &str) -> Result<i64> {
        self.model().token_id(text)
    }

    fn decode(&self, tokens: &[i64]) -> Result<String> {
        self.model().decode(tokens)
    }

    fn token(&self, token: i64) -> String {
        self.model().token(token)
    }

    fn digest(&self) -> Result<String> {
        self.model().digest()
    }

    fn tokenizer_digest(&self) -> Result<Option<String>> {
        self.model().tokenizer_digest()
    }

    fn layout(&self) -> Option<&'static str> {
        self.model().layout()
    }

    fn weight_named(&self, name: &str) -> Result<Tensor> {
        self.model().weight_named(name)
    }

    fn weight_if_any(&self, weight: WeightPoint) -> Result<Option<Tensor>> {
        self.model().weight_if_any(weight)
    }

    fn final_norm_with_scale(&self, parts: &Tensor, scale: &Tensor) -> Result<Tensor> {
        self.model().final_norm_with_scale(parts, scale)
    }
}

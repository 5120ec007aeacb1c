//! What the boundary of a plugin costs: an empty question, and a hook, linked and loaded.
//!
//! `cargo bench -p arrakis-bench --bench plugins`. The model is a loop that shows one small tensor to the hooks again and
//! again, so that a pass costs nothing but them; items are visits.

use std::path::PathBuf;

use arrakis_bench::Plugin;
use arrakis_core::{
    Context, Dims, Error, HookPoint, Input, Model, NormKind, Output, Pass, Residual, Result, Site, Tool, ToolEntry,
    WeightPoint,
};
use divan::Bencher;
use divan::counter::ItemsCount;
use serde_json::{Value, json};
use tch::{Device, Kind, Tensor};
use unruly_plugin::{Empty, Watching};

/// Visits of a pass.
const VISITS: u64 = 1_000;
/// Points that nobody watches, for each one that is.
const OTHERS: usize = 22;

/// A model that shows its input to the hooks, many times.
struct Loop {
    dims: Dims,
    points: Vec<HookPoint>,
}

impl Loop {
    fn new() -> Self {
        let dims = Dims {
            family: "loop".into(),
            n_layers: 1,
            n_heads: 1,
            n_kv_heads: 1,
            d_model: 1,
            d_head: 1,
            d_mlp: 1,
            vocab: 10,
            context: 10,
            norm: NormKind::Rms,
            norm_eps: 0.0,
            residual: Residual::Serial,
            others: std::collections::BTreeMap::new(),
        };
        // As many points as a block of a real model has.
        let others = Site::ALL.iter().filter(|site| **site != Site::RESID_POST).take(OTHERS).map(|site| site.at(0));
        let points = others.chain([Site::RESID_POST.at(0)]).collect();
        Self { dims, points }
    }
}

fn absent<T>() -> Result<T> {
    Err(Error::NoTokenizer)
}

impl Model for Loop {
    fn dims(&self) -> &Dims {
        &self.dims
    }

    fn kind(&self) -> Kind {
        Kind::Float
    }

    fn device(&self) -> Device {
        Device::Cpu
    }

    fn points(&self) -> &[HookPoint] {
        &self.points
    }

    fn forward(&self, pass: Pass<'_>) -> Result<Output> {
        let Input::Tokens(tokens) = pass.input else { return absent() };
        let (mut value, point) = (tokens.shallow_clone(), Site::RESID_POST.at(0));
        for _ in 0..VISITS {
            if pass.hooks.watches(point) {
                value = pass.hooks.visit(point, value)?;
            }
        }
        Ok(Output { residual: value, logits: None, past: None })
    }

    fn unembed(&self, _: &Tensor) -> Result<Tensor> {
        absent()
    }

    fn weights(&self) -> Vec<WeightPoint> {
        Vec::new()
    }

    fn weight(&self, _: WeightPoint) -> Result<Tensor> {
        absent()
    }

    fn with_weights(&self, _: Vec<(WeightPoint, Tensor)>) -> Result<Box<dyn Model>> {
        absent()
    }

    fn encode(&self, _: &str) -> Result<Vec<i64>> {
        absent()
    }

    fn token_id(&self, _: &str) -> Result<i64> {
        absent()
    }

    fn decode(&self, _: &[i64]) -> Result<String> {
        absent()
    }

    fn digest(&self) -> Result<String> {
        absent()
    }
}

/// A tool of the plugin, linked into this program.
fn linked(name: &str) -> ToolEntry {
    *arrakis_core::tool(name).expect("it is linked")
}

/// The same tool, loaded.
fn loaded(name: &str) -> ToolEntry {
    let beside: PathBuf =
        std::env::current_exe().expect("this program is a file").with_file_name("libunruly_plugin.so");
    let plugin = Plugin::open(beside).expect("cargo has built it beside this program");
    *plugin.tools().iter().find(|tool| tool.name() == name).expect("it has the tool")
}

fn ask(bencher: Bencher<'_, '_>, tool: ToolEntry, parameters: &Value) {
    let model = Loop::new();
    let cx = Context::new(&model);
    bencher.bench_local(|| tool.ask(parameters.clone(), &cx).expect("it answers"));
}

#[divan::bench]
fn empty_linked(bencher: Bencher<'_, '_>) {
    ask(bencher, linked(Empty::NAME), &json!({}));
}

#[divan::bench]
fn empty_loaded(bencher: Bencher<'_, '_>) {
    ask(bencher, loaded(Empty::NAME), &json!({}));
}

#[divan::bench]
fn hook_linked(bencher: Bencher<'_, '_>) {
    let bencher = bencher.counter(ItemsCount::new(VISITS));
    let model = Loop::new();
    let cx = Context::new(&model);
    let tool = linked(Watching::NAME);
    bencher.bench_local(|| tool.ask(json!({ "prompt": [1], "passes": 1 }), &cx).expect("it answers"));
}

#[divan::bench]
fn hook_loaded(bencher: Bencher<'_, '_>) {
    let bencher = bencher.counter(ItemsCount::new(VISITS));
    let model = Loop::new();
    let cx = Context::new(&model);
    let tool = loaded(Watching::NAME);
    bencher.bench_local(|| tool.ask(json!({ "prompt": [1], "passes": 1 }), &cx).expect("it answers"));
}

fn main() {
    divan::main();
}

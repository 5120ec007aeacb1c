//! The log: what a run records, what survives kills and damage, what is found, compared and copied.

mod command;
mod damage;
mod durability;
mod export;
mod find;
mod key;
mod killed;
mod names;
mod outside;
mod record;

use std::path::Path;

use arrakis_bench::{Asked, Bench, Error, Subject};
use serde_json::{Value, json};
use tch::Tensor;

use crate::named::Named;

/// The code of the experiment of these tests.
const SOURCE: &str = "fn halves(bench: &Bench, layer: u64) -> Result<()> {\n    // Halves.\n}\n";

/// An experiment that stores one of everything, all of it following from `layer`.
fn halves(folder: &Path, layer: u64) -> Asked<()> {
    halves_of(SOURCE, folder, layer).unwrap()
}

fn halves_of(source: &str, folder: &Path, layer: u64) -> Result<Asked<()>, Error> {
    let model = Named::new();
    let bench = Bench::new(&model).named("a model").log_to(folder);
    let version = blake3::hash(source.as_bytes()).to_hex().to_string();
    let subject =
        Subject::experiment("halves", json!({ "layer": layer })).owner("arrakis-tests 0").version(version, source);
    bench.conduct(&subject, |bench| {
        for step in 0..3 {
            bench.metric("loss", step, half(layer, step))?;
        }
        bench.tensor("weights", &Tensor::from_slice(&[half(layer, 0), half(layer, 1)]))?;
        bench.picture("halves.svg", b"<svg/>")?;
        bench.file("table.csv", format!("{layer}\n").as_bytes())?;
        bench.note("half and half")?;
        bench.tag(if layer.is_multiple_of(2) { "even" } else { "odd" })?;
        bench.result(&expected(layer))
    })
}

fn half(layer: u64, step: u64) -> f64 {
    layer as f64 * 0.5_f64.powi(step as i32)
}

fn expected(layer: u64) -> Value {
    json!({ "layer": layer, "halves": [half(layer, 0), half(layer, 1), half(layer, 2)] })
}

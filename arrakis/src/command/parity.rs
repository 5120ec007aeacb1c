//! `arrakis parity`: a model beside the answers that another library gave.

use std::path::PathBuf;

use anyhow::{Result, bail};
use arrakis_bench::dtype_name;
use arrakis_core::number;
use arrakis_models::parity::{bound, parity};
use clap::Args;
use serde_json::{Value, json};

use super::console::Console;
use super::options::Options;
use super::{FAILURE, Usage};

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// A folder, a `.gguf` file, or a hub id
    model: String,
    /// The reference: inputs, logits, hidden states and attentions of each case
    #[arg(value_name = "REFERENCE.safetensors")]
    reference: PathBuf,
    /// The greatest difference allowed; 1e-10 for float64 and 2e-5 for float32 if absent
    #[arg(long)]
    bound: Option<f64>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

impl Arguments {
    pub(crate) fn run(self, options: &Options, console: &Console<'_>) -> Result<u8> {
        let model = options.load(&self.model)?;
        let Some(bound) = self.bound.or_else(|| bound(model.kind())) else {
            bail!(Usage(format!(
                "`{}` has no bound that holds for every model; give `--bound`",
                dtype_name(model.kind())
            )));
        };
        let comparisons = parity(&*model, &self.reference)?;
        // The ids of a continuation are equal or not, whatever the bound.
        let agrees = |difference: f64, name: &str| {
            if name.ends_with("_ids") { difference == 0.0 } else { difference <= bound }
        };
        let apart = comparisons.iter().filter(|found| !agrees(found.greatest, &found.name)).count();
        if self.json {
            let tensors: Vec<Value> = comparisons
                .iter()
                .map(|found| {
                    json!({
                        "name": found.name, "greatest": number::to_value(found.greatest), "at": found.at,
                        "shape": found.shape, "compared": found.compared, "agrees": agrees(found.greatest, &found.name),
                    })
                })
                .collect();
            console.json(&json!({ "model": self.model, "bound": bound, "agrees": apart == 0, "tensors": tensors }))?;
        } else {
            let width = comparisons.iter().map(|found| found.name.len()).max().unwrap_or(0);
            for found in &comparisons {
                let mark = if agrees(found.greatest, &found.name) { "" } else { "  over the bound" };
                console.line(format_args!(
                    "{:width$}  {:9.2e} at {:?} of {:?}{mark}",
                    found.name, found.greatest, found.at, found.shape
                ))?;
            }
        }
        let verdict = if apart == 0 { "all agree".to_owned() } else { format!("{apart} do not agree") };
        console.tell(format_args!("{} tensors, bound {bound:e}: {verdict}\n", comparisons.len()))?;
        Ok(if apart == 0 { 0 } else { FAILURE })
    }
}

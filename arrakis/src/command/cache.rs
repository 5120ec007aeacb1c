//! `arrakis cache`: activations of one run in a safetensors file.

use std::path::PathBuf;

use anyhow::{Result, bail};
use arrakis_core::{ModelExt, Trace};
use clap::Args;
use serde_json::json;

use super::ask::check_folder;
use super::console::Console;
use super::options::Options;
use super::prompts::Prompts;
use super::{Usage, memory};

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// A folder, a `.gguf` file, or a hub id
    #[arg(long)]
    model: String,
    #[command(flatten)]
    prompts: Prompts,
    /// Points to keep, by name; `*` stands for anything: `blocks.*.hook_resid_post`
    #[arg(long, value_name = "POINTS")]
    keep: Vec<String>,
    /// Points whose incoming value is kept, as `before.POINT`
    #[arg(long, value_name = "POINTS")]
    keep_before: Vec<String>,
    /// Refuse a run that would hold more bytes in kept values and logits: `1000000`, `512M`, `2.5G`; weights don't count
    #[arg(long, value_name = "BYTES", value_parser = memory::bytes)]
    max_memory: Option<u64>,
    /// The file to write: every kept point under its printed name, and `logits`
    #[arg(long, value_name = "FILE.safetensors")]
    out: PathBuf,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

impl Arguments {
    pub(crate) fn run(self, options: &Options, console: &Console<'_>) -> Result<()> {
        if self.keep.is_empty() && self.keep_before.is_empty() {
            bail!(Usage("nothing to keep; give `--keep POINTS`, `--keep '*'` for all of them".into()));
        }
        check_folder(&self.out)?;
        let model = options.load(&self.model)?;
        let tokens = self.prompts.tokens(&model)?;
        let trace = self.keep.iter().fold(model.trace(&tokens), Trace::keep);
        let trace = self.keep_before.iter().fold(trace, Trace::keep_before);
        if let Some(limit) = self.max_memory {
            trace.plan()?.check(limit)?;
        }
        let run = trace.run()?;

        let kept = run.cache.iter().map(|(point, value)| (point.to_string(), value));
        let before = run.before.iter().map(|(point, value)| (format!("before.{point}"), value));
        let mut tensors: Vec<(String, &tch::Tensor)> = kept.chain(before).collect();
        tensors.push(("logits".into(), run.logits()?));
        arrakis_bench::write_tensors(&self.out, tensors.iter().map(|(name, value)| (name.clone(), *value)))?;

        if self.json {
            let shapes = tensors.iter().map(|(name, value)| (name.clone(), json!(value.size()))).collect();
            console.json(&json!({ "file": self.out, "tensors": serde_json::Value::Object(shapes) }))?;
            return Ok(());
        }
        for (name, value) in &tensors {
            console.line(format_args!("{name} {:?}", value.size()))?;
        }
        console.tell(format_args!("wrote {} tensors to {}\n", tensors.len(), self.out.display()))?;
        Ok(())
    }
}

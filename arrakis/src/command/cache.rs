//! `arrakis cache`: activations of one run in a safetensors file, or of a corpus in a folder of them.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use arrakis_bench::ActivationStream;
use arrakis_core::{Corpus, ModelExt, PosSlice, Tokens, Trace};
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
    /// Read a corpus in place of a prompt: `.json` (texts), `.jsonl`, or plain text; goes on where it was stopped
    #[arg(long, value_name = "FILE", conflicts_with_all = ["prompt", "tokens", "mask", "keep_before"])]
    corpus: Option<PathBuf>,
    /// Tokens of the corpus that the model reads at once
    #[arg(long, value_name = "N", default_value_t = 128, requires = "corpus")]
    window: usize,
    /// Windows of the corpus in a pass
    #[arg(long, value_name = "N", default_value_t = 8, requires = "corpus")]
    batch: usize,
    /// Bytes of a shard, about
    #[arg(long, value_name = "BYTES", default_value = "256M", value_parser = memory::bytes, requires = "corpus")]
    shard_size: u64,
    /// The file to write (every kept point under its printed name, and `logits`); with a corpus, the folder of shards
    #[arg(long, value_name = "PATH")]
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
        if let Some(corpus) = &self.corpus {
            return self.stream(corpus, options, console);
        }
        check_folder(&self.out)?;
        let model = options.load(&self.model)?;
        let tokens = self.prompts.tokens(&*model)?;
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

    /// Streams a corpus; a bound on memory makes shards and passes smaller.
    fn stream(&self, corpus: &Path, options: &Options, console: &Console<'_>) -> Result<()> {
        let model = options.load(&self.model)?;
        let corpus = Corpus::from(corpus);
        let mut stream = ActivationStream::new(self.keep.iter());
        (stream.window, stream.batch, stream.shard_bytes) = (self.window, self.batch, self.shard_size);
        if let Some(limit) = self.max_memory {
            stream.shard_bytes = stream.shard_bytes.min(limit / 2);
            // The rest is for a pass, whose windows share what is kept before it goes to the shard.
            let window = Tokens::from_ids(&vec![0; self.window.max(1)])?;
            let trace = self.keep.iter().fold(model.trace(&window).logits(PosSlice::None), Trace::keep);
            let plan = trace.plan()?;
            plan.check(limit / 2)?;
            stream.batch = stream.batch.min((limit / 2 / plan.bytes().max(1)) as usize).max(1);
        }
        let done = stream.write(&*model, &corpus, &self.out, console)?;
        let found = &done.activations;
        if self.json {
            return Ok(console.json(&json!({
                "folder": self.out, "shards": found.shards, "written": done.written, "tokens": found.tokens,
                "bytes": done.bytes, "points": found.points,
            }))?);
        }
        for (name, shape) in &found.points {
            console.line(format_args!("{name} {shape:?} for each token"))?;
        }
        console.tell(format_args!(
            "{} tokens, {} bytes of activations in {} shards under {}, {} of them written now\n",
            memory::grouped(found.tokens as u64),
            memory::grouped(done.bytes),
            found.shards,
            self.out.display(),
            done.written
        ))?;
        Ok(())
    }
}

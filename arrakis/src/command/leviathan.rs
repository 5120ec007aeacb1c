//! `arrakis leviathan`: language models that score by cross-correlation, trained, judged, sampled and compared.

mod compare;
mod listener;
mod options;
mod sample;
mod train;

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use arrakis_core::Model as _;
use arrakis_leviathan::{Leviathan, Text, evaluate};
use clap::{Args, Subcommand};
use serde_json::json;

use super::Usage;
use super::console::Console;
use super::options::Options;
use crate::Loaded;
use listener::Listener;

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Train a model, or several that differ by their seed; the same command goes on after a stop
    Train(train::Arguments),
    /// The loss of a model over the last tenth of a text
    Eval(EvalArguments),
    /// Let a model write
    Sample(sample::Arguments),
    /// Train several models with the same seeds, and tell them apart
    Compare(compare::Arguments),
}

#[derive(Debug, Args)]
struct EvalArguments {
    /// A folder that `train` wrote, or `builtin:leviathan` or another that ships with the command
    #[arg(long)]
    model: String,
    /// The text; its last tenth is what the model is judged by
    #[arg(long, value_name = "FILE")]
    text: PathBuf,
    /// Windows to look at, evenly spread; all if absent
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    windows: Option<u32>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

impl Arguments {
    pub(crate) fn run(self, options: &Options, console: &Console<'_>) -> Result<()> {
        match self.verb {
            Verb::Train(arguments) => arguments.run(options, console),
            Verb::Eval(arguments) => arguments.run(options, console),
            Verb::Sample(arguments) => arguments.run(options, console),
            Verb::Compare(arguments) => arguments.run(options, console),
        }
    }
}

impl EvalArguments {
    fn run(self, options: &Options, console: &Console<'_>) -> Result<()> {
        let model = load(&self.model, options)?;
        let text = read_as(&self.text, &model)?;
        text.check(&self.text, model.config().context)?;
        let found = evaluate(&model, &text, self.windows.map(|windows| windows as usize), &Listener(console))?;
        if self.json {
            return Ok(console.json(&json!({ "model": self.model, "text": self.text, "loss": found }))?);
        }
        console.line(format_args!(
            "{:.4} nats per token, {:.4} bits per character, over {} tokens",
            found.nats_per_token, found.bits_per_character, found.tokens
        ))?;
        Ok(())
    }
}

/// A model of characters or pairs by its name.
fn load(name: &str, options: &Options) -> Result<Leviathan> {
    match Loaded::open(name, &options.load_options()?)? {
        Loaded::Leviathan(model) => Ok(*model),
        Loaded::Decoder(model) => {
            let family = &model.dims().family;
            bail!(Usage(format!("`{name}` is a {family}; name a model that `arrakis leviathan train` wrote")))
        }
    }
}

/// A text in the tokens of a model.
fn read_as(path: &Path, model: &Leviathan) -> Result<Text> {
    let Some(vocabulary) = model.vocabulary() else {
        bail!(Usage("the model has no tokenizer, so it cannot read a text".into()));
    };
    Ok(Text::read_as(path, vocabulary)?)
}

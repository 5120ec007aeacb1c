//! `arrakis leviathan sample`: a model of characters or pairs writes.

use anyhow::Result;
use arrakis_core::{Model, Tokens};
use arrakis_models::{Sampling, generate};
use clap::Args;
use serde_json::json;

use crate::command::console::Console;
use crate::command::options::Options;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// A folder that `train` wrote, or `builtin:leviathan` or another that ships with the command
    #[arg(long)]
    model: String,
    /// What it goes on from
    #[arg(long, default_value = "\n")]
    prompt: String,
    /// How many tokens; the context ends a text before that
    #[arg(long, default_value_t = 400, value_name = "N")]
    max_tokens: usize,
    /// Divides the logits; 0 always takes the likeliest token
    #[arg(long, default_value_t = 0.8, allow_negative_numbers = true)]
    temperature: f64,
    /// Choose among this many of the likeliest tokens only
    #[arg(long, value_name = "N")]
    top_k: Option<usize>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

impl Arguments {
    pub(super) fn run(self, options: &Options, console: &Console<'_>) -> Result<()> {
        let model = super::load(&self.model, options)?;
        let tokens = Tokens::from_ids(&model.encode(&self.prompt)?)?;
        let (max_tokens, temperature, top_k, seed) = (self.max_tokens, self.temperature, self.top_k, options.seed());
        let sampling = Sampling { max_tokens, temperature, top_k, seed, ..Sampling::default() };
        let rows = generate(&model, &tokens, &sampling, |_, _| Ok(()))?;
        let text = model.decode(&rows.concat())?;
        if self.json {
            return Ok(console.json(&json!({ "prompt": self.prompt, "text": text, "tokens": rows.concat() }))?);
        }
        Ok(console.line(format_args!("{}{text}", self.prompt))?)
    }
}

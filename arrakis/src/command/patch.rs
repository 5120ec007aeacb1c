//! `arrakis patch`: activation patching, with its parameters as options.

use anyhow::{Result, bail};
use clap::Args;
use serde_json::{Map, Value, json};

use super::Usage;
use super::ask::{Question, Show};
use super::console::Console;
use super::options::Options;

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// A folder, a `.gguf` file, or a hub id
    #[arg(long)]
    model: String,
    /// The text that activations are taken from
    #[arg(long, value_name = "TEXT")]
    clean: String,
    /// The text that they are put into; as many tokens as the clean one
    #[arg(long, value_name = "TEXT")]
    corrupted: String,
    /// The right next token of the clean text, with its leading space, or its id
    #[arg(long, value_name = "TOKEN", allow_hyphen_values = true)]
    answer: String,
    /// The token that it is compared with
    #[arg(long, value_name = "TOKEN", allow_hyphen_values = true)]
    wrong: String,
    /// What is patched: `resid_pre`, `attn_out`, `z`, `z_by_pos`, `pattern_by_pair` …, several by commas; `arrakis tools
    /// show patching.activation` lists them. The tool's own choice if absent
    #[arg(long, value_name = "KIND", value_delimiter = ',')]
    kind: Vec<String>,
    /// Whether 0 is what the corrupted text measures and 1 what the clean one does, or numbers are the metric's own
    #[arg(long, value_name = "SCALE", value_parser = ["normalised", "raw"])]
    scale: Option<String>,
    #[command(flatten)]
    show: Show,
}

impl Arguments {
    pub(crate) fn run(self, options: &Options, console: &Console<'_>) -> Result<()> {
        if token(&self.answer) == token(&self.wrong) {
            let why =
                "`--answer` and `--wrong` are the same token, which differs from itself by nothing; give two tokens";
            bail!(Usage(why.into()));
        }
        let mut parameters = Map::new();
        parameters.insert("clean".into(), json!(self.clean));
        parameters.insert("corrupted".into(), json!(self.corrupted));
        let metric = json!({ "logit_difference": { "answer": token(&self.answer), "wrong": token(&self.wrong) } });
        parameters.insert("metric".into(), metric);
        if !self.kind.is_empty() {
            parameters.insert("kinds".into(), json!(self.kind));
        }
        if let Some(scale) = &self.scale {
            parameters.insert("scale".into(), json!(scale));
        }
        let question = Question { tool: "patching.activation", parameters, model: &self.model };
        question.ask(&self.show, options, console)
    }
}

/// A token by its id, if it is a number, else by its text.
fn token(text: &str) -> Value {
    text.parse::<i64>().map_or_else(|_| json!(text), |id| json!(id))
}

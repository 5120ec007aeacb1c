//! `arrakis generate`: a text continued, token by token as it comes.

use std::path::PathBuf;

use anyhow::{Result, bail};
use arrakis_core::{Error, Model};
use arrakis_models::{Generation, Sampling, Tokenizer};
use clap::Args;
use serde_json::{Value, json};

use super::Usage;
use super::ask::check_folder;
use super::console::Console;
use super::options::Options;
use super::prompts::Prompts;

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// A folder, a `.gguf` file, or a hub id
    #[arg(long)]
    model: String,
    #[command(flatten)]
    prompts: Prompts,
    /// How many tokens at most
    #[arg(long, default_value_t = 20, value_name = "N")]
    max_tokens: usize,
    /// Divides the logits; 0 always takes the likeliest token
    #[arg(long, default_value_t = 0.0, allow_negative_numbers = true)]
    temperature: f64,
    /// Choose among this many of the likeliest tokens only
    #[arg(long, value_name = "N")]
    top_k: Option<usize>,
    /// Choose among the likeliest tokens that hold this much probability together
    #[arg(long, value_name = "MASS", allow_negative_numbers = true)]
    top_p: Option<f64>,
    /// Points to keep of the prompt and of every new token, by name; `*` stands for anything
    #[arg(long, value_name = "POINTS", requires = "out")]
    keep: Vec<String>,
    /// The file that kept points are written to, under their printed names, with `tokens`
    #[arg(long, value_name = "FILE.safetensors", requires = "keep")]
    out: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

impl Arguments {
    pub(crate) fn run(self, options: &Options, console: &Console<'_>) -> Result<()> {
        if self.temperature == 0.0 && (self.top_k.is_some() || self.top_p.is_some()) {
            let why = "`--top-k` and `--top-p` say what is drawn from, and at temperature 0 nothing is drawn; give \
                       `--temperature 1`, say";
            bail!(Usage(why.into()));
        }
        let model = options.load(&self.model)?;
        let tokens = self.prompts.tokens(&*model)?;
        let sampling = Sampling {
            max_tokens: self.max_tokens,
            temperature: self.temperature,
            top_k: self.top_k,
            top_p: self.top_p,
            seed: options.seed(),
            stop: model.tokenizer()?.and_then(Tokenizer::eos).into_iter().collect(),
        };
        let streams = tokens.batch() == 1 && !self.json;
        let prompts = (0..tokens.batch()).map(|row| Shown::after(&*model, tokens.row(row)?));
        let mut shown = prompts.collect::<Result<Vec<Shown<'_>>, Error>>()?;
        let mut texts = vec![String::new(); shown.len()];
        if let Some(out) = &self.out {
            check_folder(out)?;
        }
        let generation = Generation::new(&*model, &tokens).sampling(sampling.clone());
        let generation = self.keep.iter().fold(generation, Generation::keep);
        let generated = generation.run(|row, token| {
            let piece = if sampling.stop.contains(&token) { String::new() } else { shown[row].add(token) };
            if streams {
                console.print(&piece).and_then(|()| console.flush()).map_err(|error| Error::Other(Box::new(error)))?;
            }
            texts[row].push_str(&piece);
            Ok(())
        })?;
        let rows = &generated.rows;
        let written = |out: &PathBuf| {
            let count = generated.cache.iter().count() + 1;
            console.tell(format_args!("wrote {count} tensors to {}\n", out.display()))
        };
        if let Some(out) = &self.out {
            let kept = generated.cache.iter().map(|(point, value)| (point.to_string(), value));
            arrakis_bench::write_tensors(out, kept.chain([("tokens".to_owned(), generated.tokens.ids())]))?;
        }
        if self.json {
            let rows: Value = rows.iter().zip(&texts).map(|(ids, text)| json!({ "ids": ids, "text": text })).collect();
            return Ok(console.json(&json!({ "rows": rows }))?);
        }
        if streams {
            console.print("\n")?;
        } else {
            // One line each: a row of several must not run into the next.
            texts.iter().try_for_each(|text| console.line(text.escape_debug()))?;
        }
        Ok(self.out.as_ref().map_or(Ok(()), written)?)
    }
}

/// A text that grows by tokens, some of which are parts of a letter.
struct Shown<'a> {
    model: &'a dyn Model,
    ids: Vec<i64>,
    text: String,
}

impl<'a> Shown<'a> {
    /// The text of a prompt, which decides whether the first token keeps its space.
    fn after(model: &'a dyn Model, ids: Vec<i64>) -> Result<Self, Error> {
        let text = match model.decode(&ids) {
            Ok(text) => text,
            Err(Error::NoTokenizer) => String::new(),
            Err(error) => return Err(error),
        };
        Ok(Self { model, ids, text })
    }

    /// What a token adds to the text; nothing while a letter is incomplete, ids where there is no tokenizer.
    fn add(&mut self, token: i64) -> String {
        self.ids.push(token);
        let Ok(text) = self.model.decode(&self.ids) else { return format!("{token} ") };
        if text.ends_with('\u{fffd}') {
            return String::new();
        }
        let new = text.strip_prefix(&self.text).unwrap_or(&text).to_owned();
        self.text = text;
        new
    }
}

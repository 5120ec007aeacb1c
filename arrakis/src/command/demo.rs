//! `arrakis demo`: the main job on a real model — questions asked, logged and drawn — and a small one that ships.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use arrakis_bench::{Asked, Bench};
use arrakis_core::print::Room;
use arrakis_core::{Answer, Part};
use arrakis_graph::Style;
use clap::Args;
use serde_json::{Value, json};

use super::console::Console;
use super::options::Options;
use super::shell::{self, quoted};
use crate::examples::MODEL;

const CLEAN: &str = "When Mary and John went to the store, John gave a drink to";
const CORRUPTED: &str = "When Mary and John went to the store, Mary gave a drink to";
const FACT: &str = "The Eiffel Tower is in the city of";
/// The rows of its tables.
const ROWS: usize = 12;
/// How many random tokens are repeated.
const REPEATED: usize = 50;

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// A folder, a `.gguf` file, or a hub id; the demo model if absent
    #[arg(long)]
    model: Option<String>,
    /// The folder that pictures are written into
    #[arg(long, default_value = "demo-out", value_name = "DIR")]
    out: PathBuf,
}

/// One question of the demo.
struct Step {
    /// The name of its pictures.
    name: &'static str,
    /// What is asked, and what to look for.
    about: &'static str,
    tool: &'static str,
    parameters: Value,
    /// The parts of the answer that are printed.
    tables: &'static [&'static str],
    /// The parts that are drawn.
    pictures: &'static [&'static str],
}

fn steps(bos: Option<i64>) -> Vec<Step> {
    let metric = json!({ "logit_difference": { "answer": " Mary", "wrong": " John" } });
    vec![
        Step {
            name: "logit-lens",
            about: "Logit lens: what the model would say next if it ended after each layer",
            tool: "logit_lens.lens",
            parameters: json!({ "prompt": "The capital of France is" }),
            tables: &["lens", "top"],
            pictures: &["lens"],
        },
        Step {
            name: "induction",
            about: "Induction heads: on random tokens given twice, who looks at what followed last time",
            tool: "attention.heads",
            parameters: match bos {
                Some(bos) => json!({ "length": REPEATED, "bos": bos }),
                None => json!({ "length": REPEATED }),
            },
            tables: &["induction_heads", "loss_first_half", "loss_second_half"],
            pictures: &["induction"],
        },
        Step {
            name: "attribution",
            about: "Direct logit attribution: which parts write \" Mary\" rather than \" John\"",
            tool: "logit_attribution.direct",
            parameters: json!({ "prompt": CLEAN, "answer": " Mary", "wrong": " John" }),
            tables: &["logit_difference", "top", "sum_gap"],
            pictures: &["heads", "layers"],
        },
        Step {
            name: "patching",
            about: "Activation patching: where the clean run's values bring \" Mary\" back (0 corrupted, 1 clean)",
            tool: "patching.activation",
            parameters: json!({ "clean": CLEAN, "corrupted": CORRUPTED, "metric": metric, "kinds": ["resid_pre", "z"] }),
            tables: &["clean", "corrupted", "resid_pre", "z", "whole_patch_gap"],
            pictures: &["resid_pre", "z"],
        },
        Step {
            name: "paths",
            about: "Path patching: which heads tell the logits themselves, and not through later heads",
            tool: "patching.path",
            parameters: json!({ "clean": CLEAN, "corrupted": CORRUPTED, "metric": metric }),
            tables: &["paths", "replay_gap"],
            pictures: &["paths"],
        },
        Step {
            name: "tracing",
            about: "Causal tracing: noise on the subject, and where restored states bring the fact back",
            tool: "causal_tracing.trace",
            parameters: json!({ "prompt": FACT, "subject": "Eiffel Tower", "answer": " Paris", "samples": 4 }),
            tables: &["clean", "corrupted", "restored_gap"],
            pictures: &["resid", "mlp", "attention"],
        },
    ]
}

/// The model of one block that learned to copy.
const COPIES: &str = "builtin:induction";

fn steps_of_copies() -> Vec<Step> {
    vec![Step {
        name: "copies",
        about: "An induction head in one block: Leviathan's lagged keys hold the token before (`builtin:induction`)",
        tool: "attention.patterns",
        parameters: json!({ "prompt": "leviathanleviathan" }),
        tables: &["attended"],
        pictures: &["patterns"],
    }]
}

impl Arguments {
    pub(crate) fn run(self, options: &Options, console: &Console<'_>) -> Result<()> {
        let name = match self.model {
            Some(name) => name,
            None => demo_model()?,
        };
        fs::create_dir_all(&self.out).map_err(|source| arrakis_core::Error::File {
            verb: "make",
            path: self.out.clone(),
            source,
        })?;
        let model = options.load(&name)?;
        let bos = model.tokenizer()?.and_then(arrakis_models::Tokenizer::bos);
        let copies = options.load(COPIES)?;
        let mut place = 0;
        for (name, model, steps) in [(&*name, &model, steps(bos)), (COPIES, &copies, steps_of_copies())] {
            let bench = options.bench(model, name, console);
            for step in steps {
                place += 1;
                console.line(format_args!("{place}. {}\n", step.about))?;
                step.run(&bench, &self.out, console)?;
                console.line(format_args!("by hand   {}\n", step.by_hand(name, options)))?;
            }
        }
        Ok(())
    }
}

/// The demo model's path, from the working folder or one above it.
fn demo_model() -> Result<String> {
    if Path::new(MODEL).exists() {
        return Ok(MODEL.to_owned());
    }
    let here = std::env::current_dir()?;
    match here.ancestors().map(|folder| folder.join(MODEL)).find(|path| path.exists()) {
        Some(path) => Ok(path.display().to_string()),
        None => {
            bail!("the demo model `{MODEL}` is not here; `cargo xtask demo` fetches it, or give another by `--model`")
        }
    }
}

impl Step {
    fn run(&self, bench: &Bench<'_>, out: &Path, console: &Console<'_>) -> Result<()> {
        let asked = bench.ask(self.tool, self.parameters.clone())?;
        let room = Room { rows: ROWS, ..console.room() };
        for (name, part) in self.tables.iter().filter_map(|name| Some((name, asked.answer.get(name)?))) {
            let text = match part {
                Part::Number(_) | Part::Text(_) => part.text(name, room),
                Part::Grid(grid) if grid.columns.name == "head" => {
                    Part::from(grid.strongest(8)).text(name, room) + "\n"
                }
                part => part.text(name, room) + "\n",
            };
            console.line(text)?;
        }
        let seconds = asked.record.seconds.unwrap_or_default();
        if let Some(folder) = &asked.folder {
            console.line(format_args!("run       {} ({seconds:.1} s)", folder.display()))?;
            console.line(format_args!("again     {} rerun {} --verify", quoted(&program()), asked.record.id))?;
        }
        console.line(format_args!("pictures  {}", self.draw(&asked, out)?.join(" ")))?;
        Ok(())
    }

    /// Draws the chosen parts, each as SVG and PNG.
    fn draw(&self, asked: &Asked<Answer>, out: &Path) -> Result<Vec<String>> {
        let mut files = Vec::new();
        for (name, part) in self.pictures.iter().filter_map(|name| Some((name, asked.answer.get(name)?))) {
            let name = if self.pictures.len() == 1 { self.name.to_owned() } else { format!("{}-{name}", self.name) };
            for ending in ["svg", "png"] {
                let path = out.join(format!("{name}.{ending}"));
                arrakis_graph::draw(part, &path, &Style::default())?;
                files.push(path.display().to_string());
            }
        }
        Ok(files)
    }

    /// The command that asks the same.
    fn by_hand(&self, model: &str, options: &Options) -> String {
        let fields = self.parameters.as_object().map(shell::fields).unwrap_or_default();
        let path = format!("{}.png", self.name);
        format!(
            "{} ask {} --model {} {} --plot {path}{}",
            quoted(&program()),
            self.tool,
            quoted(model),
            fields.join(" "),
            options.given()
        )
    }
}

/// The command as it was called, so that what is printed can be called too.
fn program() -> String {
    let called =
        std::env::args().next().filter(|path| Path::new(path).file_stem().is_some_and(|name| name == "arrakis"));
    called.unwrap_or_else(|| "arrakis".to_owned())
}

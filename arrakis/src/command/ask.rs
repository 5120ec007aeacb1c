//! `arrakis ask`: a tool asked of a model, logged as a run.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use arrakis_bench::{Asked, Bench, fields};
use arrakis_core::print::Room;
use arrakis_core::{Answer, SweepPlan, answer, number};
use arrakis_graph::{Backend as _, Html, Page, Style, Theme, backend_of, picture_of, save};
use clap::Args;
use serde_json::{Map, Value, json};

use super::console::Console;
use super::looks::Looks;
use super::options::Options;
use super::prompts::Prompts;
use super::{Usage, terminal};

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// The tool; `arrakis tools` lists them
    tool: String,
    /// Parameters of the tool: a value is JSON if it parses as JSON, else a string; `a.b=` reaches into `a`
    #[arg(value_name = "FIELD=VALUE")]
    fields: Vec<String>,
    /// A JSON file of parameters; `FIELD=VALUE` wins over it
    #[arg(long, value_name = "FILE.json")]
    params: Option<PathBuf>,
    /// A folder, a `.gguf` file, or a hub id
    #[arg(long)]
    model: String,
    #[command(flatten)]
    prompts: Prompts,
    /// Ask in a process of its own, which may end without this one: for a tool that crashes
    #[arg(long)]
    pub(super) isolate: bool,
    #[command(flatten)]
    show: Show,
}

/// How an answer is shown.
#[derive(Debug, Args)]
pub(crate) struct Show {
    /// Draw the first part that has a picture to this file, as SVG or PNG by its ending; all of them to a page of HTML
    /// or into a folder
    #[arg(long, value_name = "FILE")]
    plot: Option<PathBuf>,
    /// Print and draw only this part of the answer; may be given several times
    #[arg(long, value_name = "NAME")]
    part: Vec<String>,
    /// Print so many rows of a table, of longer ones the first and the last
    #[arg(long, value_name = "N")]
    rows: Option<usize>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    /// Give the answer of a completed run that asked the same of the same program, if the log has one
    #[arg(long)]
    reuse: bool,
    /// Print what the tool's first sweep would run, and log nothing; what comes before the sweep is run. A failure
    /// where the tool makes no sweep
    #[arg(long, conflicts_with_all = ["plot", "part", "reuse"])]
    dry_run: bool,
    #[command(flatten)]
    looks: Looks,
}

impl Arguments {
    pub(crate) fn run(self, options: &Options, console: &Console<'_>) -> Result<()> {
        let mut parameters = fields::parameters(self.params.as_deref(), &self.fields)?;
        if let Some(prompt) = self.prompts.parameter()?
            && parameters.insert("prompt".into(), serde_json::to_value(prompt)?).is_some()
        {
            bail!(Usage("the field `prompt` is given, and `--prompt` or `--tokens` too; give one of them".into()));
        }
        let question = Question { tool: &self.tool, parameters, model: &self.model };
        question.ask(&self.show, options, console)
    }
}

/// A tool with its parameters, and the model to ask.
pub(crate) struct Question<'a> {
    pub(crate) tool: &'a str,
    pub(crate) parameters: Map<String, Value>,
    pub(crate) model: &'a str,
}

impl Question<'_> {
    /// Asks, and shows the answer; what can be wrong is found before the model is loaded.
    pub(crate) fn ask(self, show: &Show, options: &Options, console: &Console<'_>) -> Result<()> {
        let parameters = Bench::complete(self.tool, Value::Object(self.parameters))?;
        Bench::check(self.tool, parameters.clone())?;
        show.check()?;
        let model = options.load(self.model)?;
        let bench = options.bench(&model, self.model, console).reuse(show.reuse);
        if show.dry_run {
            return show.plan(bench.plan(self.tool, parameters)?, self.tool, console);
        }
        let asked = bench.ask(self.tool, parameters)?;
        show.answer(&asked, console)
    }
}

impl Show {
    /// An error if the picture could not be written.
    fn check(&self) -> Result<()> {
        Theme::new(&self.looks.style())?;
        self.plot.as_deref().map_or(Ok(()), check_picture)
    }

    fn plan(&self, plan: Option<SweepPlan>, tool: &str, console: &Console<'_>) -> Result<()> {
        let Some(plan) = plan else {
            bail!("`{tool}` makes no sweep with these parameters, so it has no plan; without `--dry-run` it is asked");
        };
        if self.json {
            return Ok(console.json(&json!({ "tool": tool, "plan": plan }))?);
        }
        Ok(console.line(plan)?)
    }

    fn answer(&self, asked: &Asked<Answer>, console: &Console<'_>) -> Result<()> {
        let chosen = self.chosen(&asked.answer)?;
        if self.json {
            console.json(&json_of(asked)?)?;
        } else {
            let room = Room { rows: self.rows.unwrap_or(console.room().rows), ..console.room() };
            console.line(chosen.text(room))?;
            if let Some(rows) = chosen.rows_beyond(room) {
                console.tell(format_args!("rows are left out; `--rows {rows}` prints them all\n"))?;
            }
        }
        if let Some(way) = self.looks.show.filter(|_| !self.json) {
            for (_, part) in chosen.parts() {
                if let Ok(picture) = picture_of(part) {
                    terminal::show(picture, way, &self.looks.style(), console)?;
                }
            }
        }
        if let Some(path) = &self.plot {
            for file in draw(&chosen, &asked.record.name, path, &self.looks.style())? {
                console.tell(format_args!("drew {}\n", file.display()))?;
            }
        }
        if let Some(folder) = &asked.folder {
            let seconds = asked.record.seconds.unwrap_or_default();
            let took = if asked.reused { "is reused; it took" } else { "took" };
            console.tell(format_args!("run {} {took} {seconds:.2} s: {}\n", asked.record.id, folder.display()))?;
        }
        Ok(())
    }

    /// The parts to be shown; an error names those that there are.
    fn chosen(&self, answer: &Answer) -> Result<Answer> {
        if self.part.is_empty() {
            return Ok(answer.clone());
        }
        let mut chosen = Answer::new();
        for name in &self.part {
            let Some(part) = answer.get(name) else {
                let known: Vec<String> = answer.parts().map(|(name, _)| format!("`{name}`")).collect();
                bail!("the answer has no part `{name}`; it has {}", known.join(", "));
            };
            chosen = chosen.with(name.clone(), part.clone());
        }
        Ok(chosen)
    }
}

/// Draws the first picture of an answer to a file, or all of them to a page under a title, or into a folder.
pub(crate) fn draw(answer: &Answer, title: &str, path: &Path, style: &Style) -> Result<Vec<PathBuf>> {
    if path.is_dir() {
        return Ok(arrakis_graph::draw_answer(answer, path, style)?);
    }
    let Some((_, part)) = answer.parts().find(|(_, part)| arrakis_graph::drawable(part)) else {
        bail!("the answer has no picture: it is made of numbers and texts alone");
    };
    if backend_of(path)?.ending() == Html.ending() {
        save(path, Page::new(title, style)?.answer(answer)?.html()?.as_bytes())?;
    } else {
        arrakis_graph::draw(part, path, style)?;
    }
    Ok(vec![path.to_path_buf()])
}

/// An error if a picture could not be written to a path.
pub(crate) fn check_picture(path: &Path) -> Result<()> {
    if !path.is_dir() && backend_of(path).is_err() {
        bail!(Usage(format!("`--plot {}`: a picture ends in `.svg`, `.png` or `.html`", path.display())));
    }
    check_folder(path)
}

/// An error if the folder that a file is to lie in is not there.
pub(crate) fn check_folder(file: &Path) -> Result<()> {
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty());
    if let Some(folder) = folder.filter(|folder| !folder.is_dir()) {
        bail!("cannot write `{}`: there is no folder `{}`", file.display(), folder.display());
    }
    Ok(())
}

/// The run and its answer; tensors lie in the run's folder, and in the answer itself where nothing was logged.
pub(crate) fn json_of(asked: &Asked<Answer>) -> Result<Value> {
    let (result, tensors) = asked.answer.split()?;
    let record = &asked.record;
    let mut object = json!({ "tool": record.name, "parameters": record.parameters, "seed": record.seed });
    if let Some(folder) = &asked.folder {
        object["run"] = json!(record.id);
        object["folder"] = json!(folder);
    }
    object["seconds"] = json!(record.seconds);
    object["answer"] = result;
    if asked.folder.is_none() && !tensors.is_empty() {
        let mut inline = Map::new();
        for (name, tensor) in &tensors {
            let values: Vec<Value> = answer::numbers(tensor)?.into_iter().map(number::to_value).collect();
            inline.insert(name.clone(), json!({ "shape": tensor.size(), "values": values }));
        }
        object["tensors"] = Value::Object(inline);
    }
    Ok(object)
}

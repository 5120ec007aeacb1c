//! `arrakis plot`: a picture of some kind, of hook points of a run or of an answer.

mod questions;

use std::path::PathBuf;
use std::str::FromStr;

use anyhow::{Result, bail};
use arrakis_bench::{Bench, Log, fields};
use arrakis_core::{Answer, ModelExt, Part, PlotSpec, PosSlice, RowLabels, Tokens};
use arrakis_graph::{Kind, Picture, backend_of, draw_picture, kind, kinds, plot, plot_parts, reads};
use clap::Args;
use serde_json::Value;

use super::ask::check_folder;
use super::console::Console;
use super::looks::Looks;
use super::options::Options;
use super::prompts::Prompts;
use super::{Usage, terminal};

/// The kind that is made of two answers.
const COMPARES: &str = "difference";

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// The kind of picture; all kinds are listed if it is absent
    kind: Option<String>,
    /// Parameters of the tool whose answer is drawn
    #[arg(value_name = "FIELD=VALUE")]
    fields: Vec<String>,
    /// A folder, a `.gguf` file, or a hub id
    #[arg(long)]
    model: Option<String>,
    #[command(flatten)]
    prompts: Prompts,
    /// Read the text twice over, for what shows on repetitions only
    #[arg(long)]
    repeat: bool,
    /// A hook point to draw, by name with `*`; may be given several times. Those that the kind is made for if absent
    #[arg(long, value_name = "NAME")]
    points: Vec<String>,
    /// A head to draw, by its number in every layer or as `L1H9` in its own; may be given several times. All of them if
    /// absent
    #[arg(long, value_name = "HEAD")]
    head: Vec<Head>,
    /// The row of the batch to draw; must be given where there are several
    #[arg(long, value_name = "ROW")]
    row: Option<usize>,
    /// The tool whose answer is drawn, for a kind that draws answers
    #[arg(long, value_name = "TOOL", conflicts_with = "run")]
    tool: Option<String>,
    /// A logged run whose answer is drawn, in place of asking a tool; may be given several times
    #[arg(long, value_name = "ID")]
    run: Vec<String>,
    /// The part of the answer that is drawn; may be given several times. The first that the kind can show if absent.
    /// `logit_lens` colours the tokens of one by the numbers of the other of two
    #[arg(long, value_name = "NAME")]
    part: Vec<String>,
    /// What the picture is called
    #[arg(long)]
    title: Option<String>,
    /// The file to draw to, as SVG, PNG or a page of HTML by its ending; may be given several times
    #[arg(long, value_name = "FILE")]
    out: Vec<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    looks: Looks,
}

/// A head as it is typed: `9`, or `L1H9` as labels have it.
#[derive(Debug, Clone, Copy)]
struct Head {
    layer: Option<usize>,
    number: usize,
}

impl FromStr for Head {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let whole = |text: &str| text.parse().map_err(|_| "a head is a number, `9`, or `L1H9` with its layer");
        match text.strip_prefix(['L', 'l']).and_then(|rest| rest.split_once(['H', 'h'])) {
            Some((layer, number)) => Ok(Self { layer: Some(whole(layer)?), number: whole(number)? }),
            None => Ok(Self { layer: None, number: whole(text)? }),
        }
    }
}

impl Arguments {
    pub(crate) fn run(self, options: &Options, console: &Console<'_>) -> Result<()> {
        let Some(name) = &self.kind else { return list(self.json, console) };
        let kind = kind(name)?;
        self.check()?;
        let picture =
            if kind.reads_points() { self.of_points(kind, options)? } else { self.of_parts(kind, options, console)? };
        for file in &self.out {
            draw_picture(picture.as_ref(), file, &self.looks.style())?;
            if !self.json {
                console.tell(format_args!("drew {}\n", file.display()))?;
            }
        }
        if let Some(way) = self.looks.show.filter(|_| !self.json) {
            terminal::show(picture.as_ref(), way, &self.looks.style(), console)?;
        }
        if self.json {
            console.json(&serde_json::json!({ "kind": kind.name(), "files": self.out }))?;
        }
        Ok(())
    }

    /// What can be wrong before any work is done.
    fn check(&self) -> Result<()> {
        if self.out.is_empty() && self.looks.show.is_none() {
            bail!(Usage("nothing to draw to; give `--out FILE.svg`, `.png` or `.html`, or `--show`".into()));
        }
        for file in &self.out {
            backend_of(file)?;
            check_folder(file)?;
        }
        arrakis_graph::Theme::new(&self.looks.style())?;
        Ok(())
    }

    fn spec(&self, kind: &Kind) -> Result<PlotSpec> {
        let mut layers: Vec<usize> = self.head.iter().filter_map(|head| head.layer).collect();
        layers.dedup();
        let points = match layers[..] {
            [] => self.points.clone(),
            [layer] if self.points.is_empty() && self.head.iter().all(|head| head.layer.is_some()) => {
                vec![format!("blocks.{layer}.*")]
            }
            _ => bail!(Usage("`--head L1H9` is of one layer, without `--points`; give heads by their number".into())),
        };
        Ok(PlotSpec {
            kind: kind.name().to_owned(),
            points,
            heads: self.head.iter().map(|head| head.number).collect(),
            row: self.row.unwrap_or(0),
            title: self.title.clone(),
        })
    }

    /// A picture of hook points: the model reads the prompt, and what the kind shows is kept.
    fn of_points(&self, kind: &Kind, options: &Options) -> Result<Box<dyn Picture>> {
        let Some(model) = self.model.as_deref().filter(|_| self.run.is_empty()) else {
            bail!(Usage(format!("`{}` draws hook points; give `--model MODEL` and `--prompt TEXT`", kind.name())));
        };
        if !self.fields.is_empty() || self.tool.is_some() || !self.part.is_empty() {
            bail!(Usage(format!("`{}` draws hook points and asks no tool; `--points` chooses them", kind.name())));
        }
        let model = options.load(model)?;
        let tokens = self.prompts.tokens(&*model)?;
        let tokens = if self.repeat { twice(&tokens)? } else { tokens };
        if self.row.is_none() && tokens.batch() > 1 {
            let last = tokens.batch() - 1;
            bail!(Usage(format!(
                "`{}` draws one row, and there are several; give `--row 0` to `--row {last}`",
                kind.name()
            )));
        }
        let spec = self.spec(kind)?;
        let row = RowLabels::of(&tokens, spec.row, &*model)?;
        let mut trace = model.trace(&tokens).logits(PosSlice::None);
        for point in reads(&spec, model.points())? {
            trace = trace.keep(point);
        }
        let run = trace.run()?;
        Ok(plot(&spec, row.beside(&run.cache))?)
    }

    /// A picture of an answer: of logged runs, or of a tool that is asked now.
    fn of_parts(&self, kind: &Kind, options: &Options, console: &Console<'_>) -> Result<Box<dyn Picture>> {
        if !self.points.is_empty() || !self.head.is_empty() || self.row.is_some() || self.repeat {
            let why =
                "draws an answer; `--points`, `--head`, `--row` and `--repeat` are for kinds that draw hook points";
            bail!(Usage(format!("`{}` {why}", kind.name())));
        }
        let answers =
            if self.run.is_empty() { self.ask(kind, options, console)? } else { self.logged(&options.bench.log())? };
        if kind.name() == COMPARES && answers.len() < 2 && self.part.len() < 2 {
            bail!(Usage(format!(
                "`{COMPARES}` compares two answers; give two `--run ID`, or two `--part NAME` of one"
            )));
        }
        Ok(plot_parts(&self.spec(kind)?, &self.chosen(&answers)?)?)
    }

    /// The parts that are drawn: of each answer one at least, and each that is named of one answer at least.
    fn chosen<'a>(&self, answers: &'a [Answer]) -> Result<Vec<(&'a str, &'a Part)>> {
        let known =
            |answer: &Answer| answer.parts().map(|(name, _)| format!("`{name}`")).collect::<Vec<_>>().join(", ");
        let mut parts: Vec<(&str, &Part)> = Vec::new();
        for answer in answers {
            let before = parts.len();
            parts.extend(
                answer.parts().filter(|(name, _)| self.part.is_empty() || self.part.iter().any(|part| part == name)),
            );
            if parts.len() == before {
                bail!("the answer has no part `{}`; it has {}", self.part.join("`, `"), known(answer));
            }
        }
        if let Some(missing) = self.part.iter().find(|name| parts.iter().all(|(known, _)| known != name)) {
            let known: Vec<String> = answers.iter().map(known).collect();
            bail!("the answer has no part `{missing}`; it has {}", known.join(", and another "));
        }
        Ok(parts)
    }

    fn logged(&self, log: &Log) -> Result<Vec<Answer>> {
        self.run.iter().map(|id| Ok(log.answer(id)?)).collect()
    }

    fn ask(&self, kind: &Kind, options: &Options, console: &Console<'_>) -> Result<Vec<Answer>> {
        let mut parameters = fields::parameters(None, &self.fields)?;
        if let Some(prompt) = self.prompts.parameter()? {
            parameters.insert("prompt".into(), serde_json::to_value(prompt)?);
        }
        let questions = questions::of(kind.name(), self.tool.as_deref(), parameters);
        if questions.is_empty() {
            let why = "draws an answer; give `--tool TOOL` with its fields and `--model MODEL`, or `--run ID` of a logged run";
            bail!(Usage(format!("`{}` {why}", kind.name())));
        }
        let complete = |(tool, parameters)| Ok((tool, Bench::complete(tool, Value::Object(parameters))?));
        let questions = questions.into_iter().map(complete).collect::<Result<Vec<(&str, Value)>>>()?;
        let Some(name) = &self.model else {
            bail!(Usage(format!("`{}` is asked of a model; give `--model MODEL`", questions[0].0)))
        };
        let model = options.load(name)?;
        let bench = options.bench(&model, name, console);
        questions.into_iter().map(|(tool, parameters)| Ok(bench.ask(tool, parameters)?.answer)).collect()
    }
}

/// Every row of tokens twice over.
fn twice(tokens: &Tokens) -> Result<Tokens> {
    let rows = (0..tokens.batch()).map(|row| Ok([tokens.row(row)?, tokens.row(row)?].concat()));
    Ok(Tokens::from_rows(&rows.collect::<Result<Vec<_>>>()?)?)
}

fn list(json: bool, console: &Console<'_>) -> Result<()> {
    if json {
        let kinds: Value = kinds()
            .iter()
            .map(|kind| serde_json::json!({ "name": kind.name(), "about": kind.about(), "hook_points": kind.reads_points() }))
            .collect();
        return Ok(console.json(&serde_json::json!({ "kinds": kinds }))?);
    }
    let width = kinds().iter().map(|kind| kind.name().len()).max().unwrap_or(0);
    for of_points in [true, false] {
        console.line(if of_points { "Of hook points of a run:" } else { "\nOf an answer:" })?;
        for kind in kinds().iter().filter(|kind| kind.reads_points() == of_points) {
            console.line(format_args!("  {:width$}  {}", kind.name(), kind.about()))?;
        }
    }
    Ok(())
}

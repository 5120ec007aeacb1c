//! `arrakis profile`: where the time of a pass goes, logged as a run.

use std::path::PathBuf;

use anyhow::{Result, bail};
use arrakis_bench::Profile;
use arrakis_core::{Answer, Context, Error, ModelExt, Prompt, Tool, register_tools};
use clap::Args;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Usage;
use super::ask::{check_picture, draw, json_of};
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
    /// How many passes are counted; their costs add up
    #[arg(long, default_value_t = 3, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    passes: u32,
    /// Passes before those, which are not counted: the first reads the weights from the file
    #[arg(long, default_value_t = 1, value_name = "N")]
    warm_up: u32,
    /// A row each for scores, pattern and z: attention is then not fused, and takes longer
    #[arg(long)]
    steps: bool,
    /// Lay the weights out for the processor first
    #[arg(long)]
    packed: bool,
    /// Draw the time by component to this file, as SVG or PNG by its ending; all pictures to a page of HTML or into a
    /// folder
    #[arg(long, value_name = "FILE")]
    plot: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Times passes of the model over a prompt: where time, arithmetic and memory go, by component and by layer.
///
/// The rows and `outside`, what no pass took, are the whole; `docs/profiling.md` says what is counted. Times are never
/// twice the same, so that a rerun measures again and `--verify` finds differences.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ProfiledPasses {
    /// What is read.
    prompt: Prompt,
    /// How many passes are counted; their costs add up.
    #[serde(default = "three")]
    passes: u32,
    /// Passes before those, which are not counted: the first reads the weights from the file.
    #[serde(default = "one")]
    warm_up: u32,
    /// Whether scores, pattern and z have a row each: attention is then not fused, and takes longer.
    #[serde(default)]
    steps: bool,
}

const fn three() -> u32 {
    3
}

const fn one() -> u32 {
    1
}

impl Tool for ProfiledPasses {
    const NAME: &'static str = "profile.passes";
    type Output = Profile;

    fn run(&self, cx: &Context<'_>) -> arrakis_core::Result<Profile> {
        if self.passes == 0 {
            return Err(Error::Invalid { what: "passes 0".into(), why: "give at least 1".into() });
        }
        let tokens = self.prompt.tokens(cx.model())?;
        for _ in 0..self.warm_up {
            cx.model().trace(&tokens).run()?;
        }
        let mut profile = if self.steps { Profile::new().step_by_step() } else { Profile::new() };
        for done in 0..self.passes {
            profile.run(cx.model(), |model| model.trace(&tokens).run().map(drop))?;
            cx.progress(u64::from(done) + 1, u64::from(self.passes))?;
        }
        Ok(profile)
    }
}

register_tools!(ProfiledPasses);

impl Arguments {
    pub(crate) fn run(self, options: &Options, console: &Console<'_>) -> Result<()> {
        let Some(prompt) = self.prompts.parameter()? else {
            bail!(Usage("nothing to read; give `--prompt TEXT` or `--tokens IDS`".into()));
        };
        self.plot.as_deref().map_or(Ok(()), check_picture)?;
        let model = options.load(&self.model)?;
        let model = if self.packed { model.packed()? } else { model };
        let (passes, warm_up, steps) = (self.passes, self.warm_up, self.steps);
        let bench = options.bench(&model, &self.model, console);
        let asked = bench.run(&ProfiledPasses { prompt, passes, warm_up, steps })?;
        let profile = asked.answer.clone();
        let asked = asked.map(Answer::from);
        if self.json {
            console.json(&json_of(&asked)?)?;
        } else {
            console.line(&profile)?;
        }
        if let Some(path) = &self.plot {
            for file in draw(&asked.answer, "profile", path, &arrakis_graph::Style::DEFAULT)? {
                console.tell(format_args!("drew {}\n", file.display()))?;
            }
        }
        if let Some(folder) = &asked.folder {
            console.tell(format_args!("run {}: {}\n", asked.record.id, folder.display()))?;
        }
        Ok(())
    }
}

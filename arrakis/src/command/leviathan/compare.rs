//! `arrakis leviathan compare`: several models with the same seeds, at equal size and at equal time, and the report.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use arrakis_graph::Style;
use arrakis_leviathan::compare::{self, Contestant, Outcome};
use arrakis_leviathan::{FeedForward, Mixer, report};
use clap::Args;
use serde_json::{Value, json};

use super::listener::Listener;
use super::options::Setting;
use crate::command::console::Console;
use crate::command::options::Options;
use crate::process;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The folder of the trainings and the report; stopped trainings go on, finished ones are only judged again
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// What is compared, the first being what all others are measured by: a mixer, and a feed-forward after `+`
    #[arg(long, value_delimiter = ',', default_value = "attention,separable:4,diagonal:4", value_name = "MODELS")]
    models: Vec<String>,
    /// Then train each again for as long as the first one took
    #[arg(long)]
    equal_time: bool,
    #[command(flatten)]
    setting: Setting,
}

impl Arguments {
    pub(super) fn run(self, options: &Options, console: &Console<'_>) -> Result<()> {
        let (text, training) = self.setting.read(options)?;
        let contestants = self.models.iter().map(|name| {
            let (mixer, feed_forward) = parts(name)?;
            let config = self.setting.config(mixer, feed_forward, &text)?;
            Ok(Contestant { name: name.clone(), config, training: training.clone() })
        });
        let contestants = contestants.collect::<Result<Vec<Contestant>>>()?;
        process::catch_interrupt();
        let (text, listener) = ((&text, self.setting.path()), Listener(console));
        let outcomes = compare::compare(&contestants, text, &self.out.join("equal-size"), &listener)?;
        let timed = if self.equal_time {
            let contestants = compare::at_equal_time(&contestants, &outcomes);
            Some(compare::compare(&contestants, text, &self.out.join("equal-time"), &listener)?)
        } else {
            None
        };
        let report = self.write(&contestants, &outcomes, timed.as_deref())?;
        if self.setting.json {
            let listed = |outcomes: &[Outcome]| -> Vec<Value> {
                outcomes.iter().map(|outcome| json!({ "name": outcome.name, "trained": outcome.trained })).collect()
            };
            let timed = timed.as_deref().map(listed);
            return Ok(console.json(&json!({
                "folder": self.out, "equal_size": listed(&outcomes), "equal_time": timed,
            }))?);
        }
        Ok(console.print(report)?)
    }

    /// Writes the report and its pictures.
    fn write(&self, contestants: &[Contestant], outcomes: &[Outcome], timed: Option<&[Outcome]>) -> Result<String> {
        let curves = self.out.join("curves.svg");
        arrakis_graph::draw(&compare::curves(outcomes)?.into(), &curves, &Style::default())?;
        let report = report(contestants, outcomes, timed, Path::new("curves.svg"))?;
        let path = self.out.join("report.md");
        arrakis_bench::replace(&path, |temporary| {
            fs::write(temporary, &report).with_context(|| format!("cannot write `{}`", path.display()))
        })?;
        Ok(report)
    }
}

/// The mixer and the feed-forward of a name: `separable:4`, `attention+mixture:4:1`.
fn parts(name: &str) -> Result<(Mixer, FeedForward)> {
    Ok(match name.split_once('+') {
        None => (name.parse()?, FeedForward::Dense),
        Some((mixer, feed_forward)) => (mixer.parse()?, feed_forward.parse()?),
    })
}

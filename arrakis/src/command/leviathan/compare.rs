//! `arrakis leviathan compare`: several models with the same seeds, at equal size and at equal time, and the report.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use arrakis_bench::Subject;
use arrakis_core::{Part, PlotSpec};
use arrakis_graph::{Backend as _, Style, Svg};
use arrakis_leviathan::compare::{self, Contestant, Outcome};
use arrakis_leviathan::{FeedForward, Mixer, report, tested};
use clap::Args;
use serde_json::{Value, json};

use super::listener::Listener;
use super::options::{Setting, untrained, untrained_name};
use crate::command::Usage;
use crate::command::console::Console;
use crate::command::options::Options;
use crate::process;

/// Whose runs comparisons are.
const OWNER: &str = concat!(env!("CARGO_PKG_NAME"), " ", env!("CARGO_PKG_VERSION"));

/// The folder of the trainings at equal size and steps.
const EQUAL_SIZE: &str = "equal-size";

/// The picture beside the report.
const CURVES: &str = "curves.svg";

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
        let Some(first) = contestants.first() else { bail!(Usage("nothing to compare; give `--models`".into())) };
        process::catch_interrupt();
        let (precision, begun) = untrained(&first.config, options)?;
        let name = untrained_name(&first.folder(&self.out.join(EQUAL_SIZE)));
        let listener = Listener(console);
        let bench = options.bench_of(&begun, &name, &listener);
        let each = contestants.iter().map(|contestant| json!({ "name": contestant.name, "model": contestant.config }));
        let parameters = json!({
            "contestants": each.collect::<Vec<Value>>(), "training": training, "text": text.digest,
            "equal_time": self.equal_time,
        });
        let subject = Subject::experiment("leviathan_compare", parameters).owner(OWNER);
        let compared = bench.conduct(&subject, |bench| {
            let train = |contestants: &[Contestant], folder: &str| {
                compare::compare(contestants, self.setting.text(), precision, &self.out.join(folder), bench)
            };
            let outcomes = train(&contestants, EQUAL_SIZE)?;
            let timed = if self.equal_time {
                Some(train(&compare::at_equal_time(&contestants, &outcomes), "equal-time")?)
            } else {
                None
            };
            let report = report(&contestants, &outcomes, timed.as_deref(), Path::new(CURVES))?;
            self.write("report.md", report.as_bytes())?;
            let curves = curves(&outcomes).map_err(|error| arrakis_bench::Error::Other(error.into()))?;
            self.write(CURVES, &curves)?;
            bench.file("report.md", report.as_bytes())?;
            bench.picture(CURVES, &curves)?;
            let found = json!({
                "folder": self.out, "equal_size": listed(&outcomes)?,
                "equal_time": timed.as_deref().map(listed).transpose()?,
            });
            bench.result(&found)?;
            Ok((report, found))
        })?;
        let (report, found) = compared.answer;
        if self.setting.json {
            return Ok(console.json(&found)?);
        }
        Ok(console.print(report)?)
    }

    /// Writes a file of the report.
    fn write(&self, name: &str, bytes: &[u8]) -> arrakis_bench::Result<()> {
        let path = self.out.join(name);
        arrakis_bench::replace(&path, |temporary| {
            fs::write(temporary, bytes).map_err(|source| arrakis_bench::Error::File {
                verb: "write",
                path: path.clone(),
                source,
            })
        })
    }
}

/// What became of all, and what tells them apart.
fn listed(outcomes: &[Outcome]) -> arrakis_leviathan::Result<Value> {
    let each = outcomes
        .iter()
        .map(|outcome| json!({ "name": outcome.name, "trained": outcome.trained, "seconds": outcome.trained.seconds }));
    Ok(json!({ "models": each.collect::<Vec<Value>>(), "tests": tested(outcomes)? }))
}

/// The picture of the losses while training: a band over the seeds of each model.
fn curves(outcomes: &[Outcome]) -> Result<Vec<u8>> {
    let curves = Part::from(compare::curves(outcomes)?);
    let picture = arrakis_graph::plot_parts(&PlotSpec::new("training_curves"), &[("curves", &curves)])?;
    Ok(Svg.render(picture.as_ref(), &Style::default())?)
}

/// The mixer and the feed-forward of a name: `separable:4`, `attention+mixture:4:1`.
fn parts(name: &str) -> Result<(Mixer, FeedForward)> {
    Ok(match name.split_once('+') {
        None => (name.parse()?, FeedForward::Dense),
        Some((mixer, feed_forward)) => (mixer.parse()?, feed_forward.parse()?),
    })
}

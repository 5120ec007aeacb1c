//! `run NAME`: an experiment of this program, run by name.

use std::io;
use std::path::PathBuf;

use clap::Args;
use serde_json::{Value, json};

use super::console::Console;
use super::shown::show;
use super::{Options, Plugged};
use crate::{Bench, Error, Experiment, Result, experiments, fields};

/// What `run` is given.
#[derive(Debug, Args)]
pub struct Run {
    /// The experiment, or a tool; the experiments of this program are listed if absent
    name: Option<String>,
    /// Its arguments: a value is JSON if it parses as JSON, else a string; `a.b=` reaches into `a`
    #[arg(value_name = "ARGUMENT=VALUE")]
    arguments: Vec<String>,
    /// A JSON file of arguments; `ARGUMENT=VALUE` wins over it
    #[arg(long, value_name = "FILE.json")]
    params: Option<PathBuf>,
    /// A folder, a `.gguf` file, or a hub id
    #[arg(long)]
    model: Option<String>,
    /// Give the result of a completed run with the same key, where there is one
    #[arg(long)]
    reuse: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

impl Run {
    /// Runs, and gives the exit status; what can be wrong is found before the model is loaded.
    pub fn run(self, plugged: &Plugged<'_>, options: &Options, console: &Console<'_>) -> Result<u8> {
        let Some(name) = &self.name else { return list(self.json, console).map(|()| 0).map_err(Error::Console) };
        let arguments = Value::Object(fields::parameters(self.params.as_deref(), &self.arguments)?);
        Bench::check(name, arguments.clone())?;
        let Some(model_name) = &self.model else {
            return Err(Error::Usage(format!("`run {name}` wants `--model MODEL`")));
        };
        let model = plugged.load.load(&options.wanted(model_name)?)?;
        let bench = plugged.bench(&*model, model_name, options, console).reuse(self.reuse);
        show(&bench.perform(name, arguments)?, self.json, console)?;
        Ok(0)
    }
}

/// The experiments of this program, with their arguments.
fn list(as_json: bool, console: &Console<'_>) -> io::Result<()> {
    let experiments = experiments();
    if as_json {
        let json_of = |experiment: &&Experiment| {
            json!({
                "name": experiment.name, "path": experiment.path(), "owner": experiment.owner, "doc": experiment.doc,
                "version": experiment.version, "schema": experiment.schema(),
            })
        };
        return console.json(&json!({ "experiments": experiments.iter().map(json_of).collect::<Value>() }));
    }
    for experiment in &experiments {
        console.line(format_args!("{}", usage(experiment)))?;
        for line in experiment.doc.lines().take(1) {
            console.line(format_args!("    {line}"))?;
        }
    }
    if experiments.is_empty() {
        console.tell("this program contains no experiment; `#[experiment]` makes one of a function\n")?;
    }
    Ok(())
}

/// An experiment with its arguments, those in brackets that may be left out.
fn usage(experiment: &Experiment) -> String {
    let argument = |field: arrakis_core::Field| {
        if field.required { format!(" {}=…", field.name) } else { format!(" [{}=…]", field.name) }
    };
    experiment.name.to_owned() + &experiment.fields().into_iter().map(argument).collect::<String>()
}

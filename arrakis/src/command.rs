//! The `arrakis` command: what it understands, and how it ends.

mod ask;
mod cache;
mod demo;
mod generate;
mod isolation;
mod leviathan;
mod looks;
mod memory;
mod model;
mod options;
mod parity;
mod patch;
mod plot;
mod plugin;
mod profile;
mod prompts;
mod report;
mod serve;
mod shell;
mod terminal;
mod tools;

use std::ffi::OsString;
use std::io::{self, Write};

use anyhow::Result;
use arrakis_bench::command::console::{self, Console};
use arrakis_bench::command::{
    FAILURE, Logged, Plugged, Rerun, Run, Sweep, USAGE, carry_out, status_of as status_of_bench,
};
use clap::{Parser, Subcommand};

use options::Options;

use crate::{Pictures, load};

/// Conduct, track and visualise mechanistic-interpretability experiments on transformer language models.
#[derive(Debug, Parser)]
#[command(name = "arrakis", version, arg_required_else_help = true, disable_help_subcommand = true)]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
    #[command(flatten)]
    options: Options,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// What a model is: family, sizes, hook points, digest
    Model(model::Arguments),
    /// The tools, and what each of them asks for
    Tools(tools::Arguments),
    /// Ask a tool of a model; the run is logged
    Ask(ask::Arguments),
    /// Keep activations in a safetensors file
    Cache(cache::Arguments),
    /// Continue a text
    Generate(generate::Arguments),
    /// Patch activations of a clean run into a corrupted one
    Patch(patch::Arguments),
    /// Draw a picture of hook points or of an answer; the kinds, if none is named
    Plot(plot::Arguments),
    /// Write a page with runs: parameters, results, pictures, source
    Report(report::Arguments),
    /// Show the runs in a browser, on this machine only; nothing is written
    Serve(serve::Arguments),
    /// Run an experiment of this program; without a name, list them
    Run(Run),
    /// Run a logged run again; `--verify` compares
    Rerun(Rerun),
    /// Run a tool or experiment under many parameters
    Sweep(Sweep),
    /// Where the time of a pass goes: by component and by layer
    Profile(profile::Arguments),
    /// Look at a plugin, or begin a new one
    Plugin(plugin::Arguments),
    /// Compare a model with a reference file
    Parity(parity::Arguments),
    /// Train, judge and compare language models that score by cross-correlation
    Leviathan(leviathan::Arguments),
    /// The runs: found, shown, compared, checked, copied
    Log(Logged),
    /// Real experiments on the demo model, logged, with pictures
    Demo(demo::Arguments),
}

/// What this program brings to the verbs of the bench.
const PLUGGED: Plugged<'static> = Plugged { load: &load::checkpoint, draw: Some(&Pictures::DEFAULT) };

/// Something asked for in a way that has no meaning, with the cure.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Usage(String);

/// The whole command as a process; as the `main` of a program of one's own, it knows the program's experiments too.
///
/// ```no_run
/// use arrakis::core::loss_by_row;
/// use arrakis::prelude::*;
///
/// /// The loss of a text without a head.
/// #[experiment]
/// fn loss_without(bench: &Bench, prompt: Prompt, layer: usize, head: usize) -> Result<f64> {
///     let tokens = prompt.tokens(bench.model())?;
///     let trace = bench.model().trace(&tokens).edit(Site::Z.at(layer), edit::head(head, edit::zero()));
///     Ok(loss_by_row(trace.run()?.logits()?, &tokens)?.f_mean(Kind::Double)?.f_double_value(&[])?)
/// }
///
/// fn main() {
///     arrakis::main() // program run loss_without prompt='Once upon a time' layer=3 head=1 --model MODEL
/// }
/// ```
pub fn main() -> ! {
    crate::process::keep_big_blocks();
    let status = {
        let (mut out, mut err) = (io::stdout().lock(), io::stderr());
        run_on(std::env::args_os(), &Console::terminal(&mut out, &mut err))
    };
    crate::process::leave(status)
}

/// Runs the command: `args` begin with the program's name; gives the exit status (0, 1 for a failure, 2 for a usage error).
pub fn run<A>(args: impl IntoIterator<Item = A>, out: &mut dyn Write, err: &mut dyn Write) -> u8
where
    A: Into<OsString> + Clone,
{
    run_on(args, &Console::pipe(out, err))
}

fn run_on<A>(args: impl IntoIterator<Item = A>, console: &Console<'_>) -> u8
where
    A: Into<OsString> + Clone,
{
    let (args, mark) = isolation::marked(args.into_iter().map(Into::into).collect());
    let status = carry_out(&args, console, |arguments: Arguments| arguments.run(&args, console), status_of);
    if let Some(mark) = mark {
        isolation::came_to_its_end(&mark);
    }
    status
}

impl Arguments {
    fn run(self, args: &[OsString], console: &Console<'_>) -> Result<u8> {
        if let Verb::Ask(arguments) = &self.verb
            && arguments.isolate
        {
            return isolation::run(&isolation::without_option(args), console);
        }
        let options = &self.options;
        options.apply();
        options.bench.load_named_plugins()?;
        // What is looked at is not to run.
        if !matches!(self.verb, Verb::Plugin(_)) {
            plugin::load_found(console)?;
        }
        match self.verb {
            Verb::Model(arguments) => arguments.run(options, console),
            Verb::Tools(arguments) => arguments.run(console),
            Verb::Ask(arguments) => arguments.run(options, console),
            Verb::Cache(arguments) => arguments.run(options, console),
            Verb::Generate(arguments) => arguments.run(options, console),
            Verb::Patch(arguments) => arguments.run(options, console),
            Verb::Plot(arguments) => arguments.run(options, console),
            Verb::Report(arguments) => arguments.run(options, console),
            Verb::Serve(arguments) => arguments.run(options, console),
            Verb::Run(verb) => return Ok(verb.run(&PLUGGED, &options.bench, console)?),
            Verb::Rerun(verb) => return Ok(verb.run(&PLUGGED, &options.bench, console)?),
            Verb::Sweep(verb) => return Ok(verb.run(&PLUGGED, &options.bench, console)?),
            Verb::Profile(arguments) => arguments.run(options, console),
            Verb::Plugin(arguments) => return arguments.run(console),
            Verb::Parity(arguments) => return arguments.run(options, console),
            Verb::Leviathan(arguments) => arguments.run(options, console),
            Verb::Log(verb) => return Ok(verb.run(&options.bench, console)?),
            Verb::Demo(arguments) => arguments.run(options, console),
        }
        .map(|()| 0)
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let cause = match error.downcast_ref() {
        Some(arrakis_core::Error::Other(other)) => other.downcast_ref::<io::Error>(),
        _ => error.downcast_ref(),
    };
    cause.is_some_and(|cause| cause.kind() == io::ErrorKind::BrokenPipe)
}

fn status_of(error: &anyhow::Error) -> u8 {
    use arrakis_core::Error::{Parameters, UnknownTool};
    if let Some(error) = error.downcast_ref() {
        return status_of_bench(error);
    }
    // Whoever read the results has seen enough.
    if is_broken_pipe(error) {
        return 0;
    }
    let graph = matches!(
        error.downcast_ref(),
        Some(
            arrakis_graph::Error::UnknownKind { .. }
                | arrakis_graph::Error::Format { .. }
                | arrakis_graph::Error::Style { .. }
        )
    );
    let misnamed = graph || matches!(error.downcast_ref(), Some(UnknownTool { .. } | Parameters { .. }));
    if misnamed || error.is::<Usage>() { USAGE } else { FAILURE }
}

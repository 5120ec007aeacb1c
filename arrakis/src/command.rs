//! The `arrakis` command: what it understands, and how it ends.

mod ask;
mod cache;
mod console;
mod demo;
mod fields;
mod generate;
mod log;
mod looks;
mod memory;
mod model;
mod options;
mod parity;
mod patch;
mod plot;
mod prompts;
mod report;
mod serve;
mod shell;
mod terminal;
mod tools;

use std::ffi::OsString;
use std::io::{self, Write};

use anyhow::Result;
use clap::{Parser, Subcommand};

use console::Console;
use options::Options;

/// A failure: what was asked for could not be done.
const FAILURE: u8 = 1;
/// A usage error: what was asked for is no question.
const USAGE: u8 = 2;

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
    /// Compare a model with a reference file
    Parity(parity::Arguments),
    /// The runs: found, shown, compared, checked, copied
    Log(log::Arguments),
    /// Write a page with runs: parameters, results, pictures, source
    Report(report::Arguments),
    /// Show the runs in a browser, on this machine only; nothing is written
    Serve(serve::Arguments),
    /// Real experiments on the demo model, logged, with pictures
    Demo(demo::Arguments),
}

/// Something asked for in a way that has no meaning, with the cure.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Usage(String);

/// The whole command as a process.
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
    let arguments = match Arguments::try_parse_from(args) {
        Ok(arguments) => arguments,
        Err(error) => {
            let text = error.render();
            let _ = if error.use_stderr() { console.tell(text) } else { console.print(text) };
            return u8::try_from(error.exit_code()).unwrap_or(USAGE);
        }
    };
    match arguments.run(console).and_then(|status| Ok(console.flush().map(|()| status)?)) {
        Ok(status) => status,
        // Whoever read the results has seen enough.
        Err(error) if is_broken_pipe(&error) => 0,
        Err(error) => {
            let _ = console.tell(format_args!("error: {error}\n"));
            status_of(&error)
        }
    }
}

impl Arguments {
    fn run(self, console: &Console<'_>) -> Result<u8> {
        let options = &self.options;
        options.apply();
        match self.verb {
            Verb::Model(arguments) => arguments.run(options, console),
            Verb::Tools(arguments) => arguments.run(console),
            Verb::Ask(arguments) => arguments.run(options, console),
            Verb::Cache(arguments) => arguments.run(options, console),
            Verb::Generate(arguments) => arguments.run(options, console),
            Verb::Patch(arguments) => arguments.run(options, console),
            Verb::Plot(arguments) => arguments.run(options, console),
            Verb::Parity(arguments) => return arguments.run(options, console),
            Verb::Log(arguments) => return arguments.run(options, console),
            Verb::Report(arguments) => arguments.run(options, console),
            Verb::Serve(arguments) => arguments.run(options, console),
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
    let core = match error.downcast_ref() {
        Some(arrakis_bench::Error::Core(core)) => Some(core),
        _ => error.downcast_ref(),
    };
    let graph = matches!(
        error.downcast_ref(),
        Some(
            arrakis_graph::Error::UnknownKind { .. }
                | arrakis_graph::Error::Format { .. }
                | arrakis_graph::Error::Style { .. }
        )
    );
    let query = matches!(error.downcast_ref(), Some(arrakis_bench::Error::Query { .. }));
    let misnamed = graph || query || matches!(core, Some(UnknownTool { .. } | Parameters { .. }));
    if misnamed || error.is::<Usage>() { USAGE } else { FAILURE }
}

//! A command of one's own: every verb about experiments and their log, for the experiments of any program.

pub mod console;
mod logged;
mod options;
mod plugged;
mod rerun;
mod run;
mod shown;
mod sweep;

use std::ffi::OsString;
use std::fmt::Display;
use std::io::{self, Write};
use std::process::ExitCode;

use arrakis_core::Draw;
use clap::{Parser, Subcommand};

use crate::{Error, Load, Result};
use console::Console;
pub use logged::Logged;
pub use options::{Dtype, Options};
pub use plugged::Plugged;
pub use rerun::Rerun;
pub use run::Run;
pub use sweep::Sweep;

/// A failure: what was asked for could not be done.
pub const FAILURE: u8 = 1;
/// A usage error: what was asked for is no question.
pub const USAGE: u8 = 2;

/// Runs the experiments of this program, and keeps their log.
#[derive(Debug, Parser)]
#[command(version, arg_required_else_help = true, disable_help_subcommand = true)]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
    #[command(flatten)]
    options: Options,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Run an experiment of this program; without a name, list them
    Run(Run),
    /// Run a logged run again; `--verify` compares
    Rerun(Rerun),
    /// Run a tool or experiment under many parameters
    Sweep(Sweep),
    /// The runs: found, shown, compared, checked, copied
    Log(Logged),
}

/// The whole command of a program, as its `main`.
///
/// `load` loads the models, and `draw` draws what is logged. The program's experiments are found by themselves, if it
/// names the crates that hold them.
///
/// ```no_run
/// use arrakis_bench::{Bench, Result, Wanted, experiment};
/// use arrakis_core::Model;
///
/// fn load(wanted: &Wanted) -> arrakis_core::Result<Box<dyn Model>> {
///     let options = arrakis_models::LoadOptions { kind: wanted.kind, device: wanted.device };
///     Ok(Box::new(arrakis_models::load(&wanted.name, &options)?))
/// }
///
/// /// The layers of the model, halved.
/// #[experiment]
/// fn half(bench: &Bench, times: u32) -> Result<f64> {
///     Ok(bench.model().dims().n_layers as f64 / f64::from(2 * times))
/// }
///
/// fn main() -> std::process::ExitCode {
///     arrakis_bench::main(&load, None) // then: program run half times=2 --model MODEL
/// }
/// ```
#[must_use]
pub fn main(load: &dyn Load, draw: Option<&(dyn Draw + Sync)>) -> ExitCode {
    let (mut out, mut err) = (io::stdout().lock(), io::stderr());
    ExitCode::from(run_on(std::env::args_os(), &Plugged { load, draw }, &Console::terminal(&mut out, &mut err)))
}

/// Runs the command: `args` begin with the program's name; gives the exit status (0, 1 for a failure, 2 for a usage error).
pub fn run<A>(args: impl IntoIterator<Item = A>, plugged: &Plugged<'_>, out: &mut dyn Write, err: &mut dyn Write) -> u8
where
    A: Into<OsString> + Clone,
{
    run_on(args, plugged, &Console::pipe(out, err))
}

fn run_on<A>(args: impl IntoIterator<Item = A>, plugged: &Plugged<'_>, console: &Console<'_>) -> u8
where
    A: Into<OsString> + Clone,
{
    carry_out(args, console, |arguments: Arguments| arguments.run(plugged, console), status_of)
}

/// Carries out a command line, and gives the exit status; an error whose status is 0 is not told of.
///
/// `run` does what the parsed arguments say.
pub fn carry_out<A, P, E>(
    args: impl IntoIterator<Item = A>,
    console: &Console<'_>,
    run: impl FnOnce(P) -> Result<u8, E>,
    status_of: impl FnOnce(&E) -> u8,
) -> u8
where
    A: Into<OsString> + Clone,
    P: Parser,
    E: From<Error> + Display,
{
    let arguments = match P::try_parse_from(args) {
        Ok(arguments) => arguments,
        Err(error) => {
            let text = error.render();
            let _ = if error.use_stderr() { console.tell(text) } else { console.print(text) };
            return u8::try_from(error.exit_code()).unwrap_or(USAGE);
        }
    };
    let ended = run(arguments).and_then(|status| {
        console.flush().map_err(Error::Console)?;
        Ok(status)
    });
    ended.unwrap_or_else(|error| {
        let status = status_of(&error);
        if status != 0 {
            let _ = console.tell(format_args!("error: {error}\n"));
        }
        status
    })
}

impl Arguments {
    fn run(self, plugged: &Plugged<'_>, console: &Console<'_>) -> Result<u8> {
        let options = &self.options;
        options.apply();
        options.load_named_plugins()?;
        match self.verb {
            Verb::Run(verb) => verb.run(plugged, options, console),
            Verb::Rerun(verb) => verb.run(plugged, options, console),
            Verb::Sweep(verb) => verb.run(plugged, options, console),
            Verb::Log(verb) => verb.run(options, console),
        }
    }
}

/// The exit status of an error: whether what was asked for is no question, or could not be done.
///
/// 0 where whoever read the results has seen enough.
#[must_use]
pub fn status_of(error: &Error) -> u8 {
    use arrakis_core::Error::{Parameters, UnknownTool};
    if matches!(error, Error::Console(error) if error.kind() == io::ErrorKind::BrokenPipe) {
        return 0;
    }
    let misnamed =
        matches!(error, Error::Usage(_) | Error::Arguments { .. } | Error::UnknownWork { .. } | Error::Query { .. });
    if misnamed || matches!(error, Error::Core(UnknownTool { .. } | Parameters { .. })) { USAGE } else { FAILURE }
}

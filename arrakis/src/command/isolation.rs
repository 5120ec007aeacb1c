//! `--isolate`: the same command in a child process, which is reported if it dies.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};

use anyhow::{Context, Result, bail};

use super::console::Console;
use super::{FAILURE, USAGE};

/// How a child is told, before all other arguments, of the file by which it says that it came to its end.
///
/// A tool may end its process with any status, also that of a success. It is an argument and no variable, because what a
/// tool starts would inherit that, and say it in the tool's place.
const MARK: &str = "--isolated-end";

/// The arguments of this process without its mark, and the mark if it is a child that is waited for.
pub(super) fn marked(mut args: Vec<OsString>) -> (Vec<OsString>, Option<PathBuf>) {
    if args.len() < 3 || args[1] != MARK {
        return (args, None);
    }
    let mark = args.drain(1..3).next_back().map(PathBuf::from);
    (args, mark)
}

/// Says that this process came to its end.
pub(super) fn came_to_its_end(mark: &Path) {
    // Without the mark the parent says that the work was not done, which is right where nothing can be written.
    let _ = std::fs::File::create_new(mark);
}

/// The option, as it is typed.
const OPTION: &str = "--isolate";

/// What a child process is to do: the arguments without the program's name and without the option.
pub(super) fn without_option(args: &[OsString]) -> Vec<OsString> {
    let place = args.iter().position(|arg| arg == OPTION);
    args.iter().enumerate().skip(1).filter(|(at, _)| Some(*at) != place).map(|(_, arg)| arg.clone()).collect()
}

/// Runs the command in a child process, and gives its status; an error if it ended before its work did.
pub(super) fn run(args: &[OsString], console: &Console<'_>) -> Result<u8> {
    let program = std::env::current_exe().context("the program to be run again is not known")?;
    let mut command = Command::new(program);
    let folder = tempfile::tempdir().context("there is no folder for the child's mark")?;
    let mark = folder.path().join("ended");
    command.arg(MARK).arg(&mark).args(args).stdin(Stdio::null());
    let status = if console.is_live() {
        console.flush()?;
        command.status().context("no process can be started")?
    } else {
        let output = command.output().context("no process can be started")?;
        console.print(String::from_utf8_lossy(&output.stdout))?;
        console.tell(String::from_utf8_lossy(&output.stderr))?;
        output.status
    };
    let ended_itself = mark.exists();
    match status.code().map(u8::try_from) {
        Some(Ok(code)) if ended_itself => Ok(code),
        Some(Ok(code)) if code <= FAILURE.max(USAGE) => {
            bail!("the process that was asked ended before its work did, with status {code}; what it had logged stays")
        }
        _ => bail!("the process that was asked {}; what it had logged stays, and nothing else is lost", ended(status)),
    }
}

/// How a process ended that did not end by itself.
fn ended(status: ExitStatus) -> String {
    #[cfg(unix)]
    if let Some(signal) = std::os::unix::process::ExitStatusExt::signal(&status) {
        let name = match signal {
            libc::SIGABRT => " (SIGABRT: it aborted)",
            libc::SIGBUS => " (SIGBUS: a file that it had mapped was cut)",
            libc::SIGFPE => " (SIGFPE: a division by zero)",
            libc::SIGILL => " (SIGILL: an instruction that this processor has not)",
            libc::SIGKILL => " (SIGKILL: perhaps there was no memory left)",
            libc::SIGSEGV => " (SIGSEGV: it touched memory that is not its own, or its stack was full)",
            _ => "",
        };
        return format!("was killed by signal {signal}{name}");
    }
    status.code().map_or_else(|| "ended".to_owned(), |code| format!("ended with status {code}"))
}

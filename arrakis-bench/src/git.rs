//! The state of the repository: the commit from git's own files, for starting a `git` costs more than most tools.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, OnceLock};

use crate::Git;

/// The commit of the repository that the working folder lies in.
pub(crate) fn head() -> Option<Git> {
    let here = std::env::current_dir().ok()?;
    let folder = here.ancestors().find_map(git_folder)?;
    let head = fs::read_to_string(folder.join("HEAD")).ok()?;
    let Some(reference) = head.trim().strip_prefix("ref: ") else {
        return Some(Git { commit: head.trim().to_owned(), branch: None, dirty: None });
    };
    let branch = reference.strip_prefix("refs/heads/").unwrap_or(reference).to_owned();
    Some(Git { commit: resolve(&folder, reference)?, branch: Some(branch), dirty: None })
}

/// `.git` below `folder`, or what the file `.git` of a worktree points to.
fn git_folder(folder: &Path) -> Option<PathBuf> {
    let git = folder.join(".git");
    if git.is_dir() {
        return Some(git);
    }
    let pointer = fs::read_to_string(&git).ok()?;
    Some(folder.join(pointer.trim().strip_prefix("gitdir: ")?))
}

/// The commit of a reference, which lies in a file of its own or among the packed ones.
fn resolve(folder: &Path, reference: &str) -> Option<String> {
    let shared = match fs::read_to_string(folder.join("commondir")) {
        Ok(path) => folder.join(path.trim()),
        Err(_) => folder.to_path_buf(),
    };
    if let Ok(commit) = fs::read_to_string(shared.join(reference)) {
        return Some(commit.trim().to_owned());
    }
    let packed = fs::read_to_string(shared.join("packed-refs")).ok()?;
    packed.lines().find_map(|line| Some(line.strip_suffix(reference)?.strip_suffix(' ')?.to_owned()))
}

/// The digest of what differs from the commit, looked at once in a process; nothing where all is as committed.
///
/// [`start`] lets git look meanwhile, for it takes longer than many a run.
pub(crate) fn dirty() -> Option<String> {
    static DIRTY: OnceLock<Option<String>> = OnceLock::new();
    DIRTY.get_or_init(look).clone()
}

fn look() -> Option<String> {
    start();
    let child = LOOKING.get().and_then(|looking| looking.lock().ok()?.take());
    let output = child.and_then(|child| child.wait_with_output().ok()).filter(|output| output.status.success());
    match output {
        None => Some("unknown".to_owned()),
        Some(output) if output.stdout.is_empty() => None,
        Some(output) => Some(blake3::hash(&output.stdout).to_hex().to_string()),
    }
}

/// The `git diff` at work.
static LOOKING: OnceLock<Mutex<Option<Child>>> = OnceLock::new();

/// Starts to look at what differs from the commit.
pub(crate) fn start() {
    LOOKING.get_or_init(|| {
        let mut git = Command::new("git");
        git.args(["diff", "HEAD", "--binary", "--no-color", "--no-ext-diff", "--no-textconv"]);
        git.env("GIT_OPTIONAL_LOCKS", "0").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        Mutex::new(git.spawn().ok())
    });
}

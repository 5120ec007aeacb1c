//! The commit that is checked out, read from git's own files: starting a `git` would cost more than most tools.

use std::fs;
use std::path::{Path, PathBuf};

use crate::Git;

/// The commit of the repository that the working folder lies in.
pub(crate) fn head() -> Option<Git> {
    let here = std::env::current_dir().ok()?;
    let folder = here.ancestors().find_map(git_folder)?;
    let head = fs::read_to_string(folder.join("HEAD")).ok()?;
    let Some(reference) = head.trim().strip_prefix("ref: ") else {
        return Some(Git { commit: head.trim().to_owned(), branch: None });
    };
    let branch = reference.strip_prefix("refs/heads/").unwrap_or(reference).to_owned();
    Some(Git { commit: resolve(&folder, reference)?, branch: Some(branch) })
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

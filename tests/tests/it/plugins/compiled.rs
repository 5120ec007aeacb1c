//! Plugins in C, built with `cc` and nothing else.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::fixtures::{root, say};

/// A folder for libraries, gone when it is dropped; what was loaded from it stays loaded.
pub(super) struct Compiled {
    folder: TempDir,
}

impl Compiled {
    /// A new folder; none, and a line that says so, where there is no compiler.
    pub(super) fn new() -> Option<Self> {
        if Command::new("cc").arg("--version").output().is_err() {
            say("skipped: there is no `cc`, which plugins in C are built with");
            return None;
        }
        Some(Self { folder: tempfile::tempdir().unwrap() })
    }

    /// Builds one source into a library of that name.
    pub(super) fn library(&self, source: &str, name: &str, options: &[String]) -> PathBuf {
        self.library_for("arrakis-core/include", source, name, options)
    }

    /// Builds one source, with the header in that folder, into a library of that name.
    pub(super) fn library_for(&self, header: &str, source: &str, name: &str, options: &[String]) -> PathBuf {
        let library = self.folder.path().join(name);
        let built = Command::new("cc")
            .args(["-std=gnu11", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-I"])
            .arg(root().join(header))
            .arg("-o")
            .arg(&library)
            .arg(root().join(source))
            .args(options)
            .arg("-lm")
            .output()
            .unwrap();
        assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
        library
    }

    /// Whether a text compiles without a warning; none for a language that there is no compiler for.
    pub(super) fn compiles(&self, source: &str, language: &str, option: &str) -> Option<bool> {
        let path = self.folder.path().join("source");
        fs::write(&path, source).unwrap();
        let mut command = Command::new(if language == "c" { "cc" } else { "c++" });
        command.args(["-Wall", "-Wextra", "-Werror", "-fsyntax-only", "-x", language, option, "-I"]);
        let built = command.arg(root().join("arrakis-core/include")).arg(&path).output();
        built.ok().map(|built| built.status.success())
    }

    /// The plugin in plain C that is shipped.
    pub(super) fn residual_norms(&self) -> PathBuf {
        self.library("tools-contrib/residual-norms/residual_norms.c", "residual_norms.so", &[])
    }

    /// The plugin that lies about what its file or its table says.
    pub(super) fn liar(&self, lie: &str) -> PathBuf {
        let options = [format!("-DLIE={lie}"), format!("-DLIE_IS_{lie}=1")];
        self.library("tests/plugins/liar.c", &format!("{}.so", lie.to_lowercase()), &options)
    }

    pub(super) fn path(&self) -> &Path {
        self.folder.path()
    }
}

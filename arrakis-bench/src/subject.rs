//! What a run is to be a run of, said before it starts.

use std::collections::BTreeMap;

use arrakis_core::{FileUse, ParameterFile};
use serde_json::Value;

use crate::{Error, FileRecord, Record, Result, Work, outside};

/// What a run is to be a run of: a tool, an experiment or a study with its parameters.
///
/// ```
/// use arrakis_bench::Subject;
/// let subject = Subject::experiment("greeting", serde_json::json!({ "times": 3 })).version("0f1e", "fn greeting() {}");
/// assert_eq!(subject.name(), "greeting");
/// ```
#[derive(Debug, Clone)]
pub struct Subject {
    pub(crate) what: Work,
    pub(crate) name: String,
    pub(crate) owner: Option<String>,
    pub(crate) version: Option<String>,
    pub(crate) source: Option<String>,
    pub(crate) parameters: Value,
    pub(crate) files: Vec<ParameterFile>,
}

impl Subject {
    /// A tool; its parameters have every default filled in.
    pub fn tool(name: impl Into<String>, parameters: Value) -> Self {
        let files = Vec::new();
        Self { what: Work::Tool, name: name.into(), owner: None, version: None, source: None, parameters, files }
    }

    /// An experiment, its arguments by name.
    pub fn experiment(name: impl Into<String>, parameters: Value) -> Self {
        Self { what: Work::Experiment, ..Self::tool(name, parameters) }
    }

    /// A study of a tool or an experiment, described by its parameters.
    pub fn study(name: impl Into<String>, parameters: Value) -> Self {
        Self { what: Work::Study, ..Self::tool(name, parameters) }
    }

    /// The same, with the crate that holds it and its version.
    #[must_use]
    pub fn owner(mut self, owner: impl Into<String>) -> Self {
        self.owner = Some(owner.into());
        self
    }

    /// The same, with the digest of its code and the exact text of it.
    #[must_use]
    pub fn version(mut self, digest: impl Into<String>, source: impl Into<String>) -> Self {
        self.version = Some(digest.into());
        self.source = Some(source.into());
        self
    }

    /// The same, with the files that its parameters name.
    ///
    /// What is read determines the result, so that the digests are in the key of a run; what is written is digested when
    /// the run has ended.
    #[must_use]
    pub fn files(mut self, files: Vec<ParameterFile>) -> Self {
        self.files = files;
        self
    }

    /// The files that are to be read, as they are now; an error names one that cannot be, or one that cannot be written.
    pub(crate) fn read(&self) -> Result<BTreeMap<String, FileRecord>> {
        outside::check(&self.files)?;
        let read = self.files.iter().filter(|file| file.usage == FileUse::Read);
        read.map(|file| Ok((outside::name(&file.path)?, outside::parameter(file)?))).collect()
    }

    /// An error if a file that was to be read is no longer what it was at the start, for then nobody knows of which the
    /// result is; what the run wrote itself is not looked at.
    pub(crate) fn still(&self, record: &Record) -> Result<()> {
        for file in self.files.iter().filter(|file| file.usage == FileUse::Read) {
            let name = outside::name(&file.path)?;
            let written = |other: &ParameterFile| other.usage == FileUse::Written && other.path == file.path;
            if record.wrote.contains_key(&name) || self.files.iter().any(written) {
                continue;
            }
            if record.read.get(&name) != Some(&outside::parameter(file)?) {
                let (parameter, path) = (file.parameter.clone(), file.path.display().to_string());
                let why = "which changed while it was read; do it again when nobody writes to it".to_owned();
                return Err(Error::FileParameter { parameter, path, why });
            }
        }
        Ok(())
    }

    /// The files that were to be written, as they are now, those apart that are not there.
    pub(crate) fn written(&self) -> Result<BTreeMap<String, FileRecord>> {
        let written = self.files.iter().filter(|file| file.usage == FileUse::Written && file.path.exists());
        written.map(|file| Ok((outside::name(&file.path)?, outside::parameter(file)?))).collect()
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }
}

//! What a run is to be a run of, said before it starts.

use serde_json::Value;

use crate::Work;

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
}

impl Subject {
    /// A tool; its parameters have every default filled in.
    pub fn tool(name: impl Into<String>, parameters: Value) -> Self {
        Self { what: Work::Tool, name: name.into(), owner: None, version: None, source: None, parameters }
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

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }
}

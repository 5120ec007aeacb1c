//! Versions: the codes that an experiment has had, each with the runs that were made with it.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde::Serialize;

use crate::writing::SOURCE;
use crate::{Error, Log, Record, Result};

/// One code of an experiment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Version {
    /// The digest of the code.
    pub version: String,
    /// When it was first run.
    pub first: Timestamp,
    /// When it was last run.
    pub last: Timestamp,
    /// How many runs it has.
    pub runs: usize,
    /// The id of the last of them.
    pub last_run: String,
}

impl Log {
    /// The versions of an experiment, the earliest first; an error names the nearest experiment if there is none.
    pub fn versions(&self, name: &str) -> Result<Vec<Version>> {
        let records = self.listing()?.records;
        let mut versions: Vec<Version> = Vec::new();
        for record in records.iter().filter(|record| record.name == name) {
            let Some(version) = &record.version else { continue };
            match versions.iter_mut().find(|known| known.version == *version) {
                Some(known) => {
                    (known.last, known.last_run) = (record.started, record.id.clone());
                    known.runs += 1;
                }
                None => versions.push(Version {
                    version: version.clone(),
                    first: record.started,
                    last: record.started,
                    runs: 1,
                    last_run: record.id.clone(),
                }),
            }
        }
        if versions.is_empty() {
            let known = records.iter().filter(|record| record.version.is_some()).map(|record| record.name.as_str());
            let nearest = arrakis_core::nearest_name(name, known);
            return Err(Error::NoVersions { name: name.to_owned(), nearest });
        }
        Ok(versions)
    }

    /// The exact code of a run, or of the last run of a version; an id or a version may be cut short.
    pub fn source(&self, run_or_version: &str) -> Result<String> {
        let record = match self.get(run_or_version) {
            Ok(record) => record,
            Err(error @ Error::NoRun { .. }) => self.last_run_of(run_or_version)?.ok_or(error)?,
            Err(error) => return Err(error),
        };
        if !record.files.contains_key(SOURCE) {
            return Err(Error::NoSource { id: record.id });
        }
        self.text(&record, SOURCE)
    }

    /// The last run of the only version that begins so, if there is one.
    fn last_run_of(&self, version: &str) -> Result<Option<Record>> {
        let begins = |record: &Record| record.version.as_ref().is_some_and(|known| known.starts_with(version));
        // A run names its source when it has ended.
        let runs = self.listing()?.records.into_iter().filter(|record| record.files.contains_key(SOURCE));
        let mut runs: Vec<Record> = runs.filter(begins).collect();
        let versions: BTreeSet<&String> = runs.iter().filter_map(|record| record.version.as_ref()).collect();
        if let [first, second, ..] = versions.iter().collect::<Vec<_>>()[..] {
            let (first, second) = ((*first).clone(), (*second).clone());
            return Err(Error::Ambiguous { id: version.to_owned(), count: versions.len(), first, second });
        }
        Ok(runs.pop())
    }
}

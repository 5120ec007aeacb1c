//! The numbers of a training as it goes, one JSON object a line.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::leviathan::write_text;
use crate::{Error, Result};

/// The name of the file.
pub const FILE: &str = "metrics.jsonl";

/// What is known at an evaluation; lists have a number for each seed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Line {
    /// Steps done.
    pub step: u64,
    /// Seconds spent in them, evaluations left out.
    pub seconds: f64,
    /// The learning rate of the last step.
    pub rate: f64,
    /// The loss of the last step's windows, in nats for each token.
    pub training_nats: Vec<f64>,
    /// The loss of the fixed windows, in nats for each token.
    pub validation_nats: Vec<f64>,
    /// The same, in bits for each character.
    pub validation_bits_per_character: Vec<f64>,
}

/// The file, open for more lines.
pub(crate) struct Metrics {
    file: File,
    path: PathBuf,
}

impl Metrics {
    /// Opens the file of a folder at a step, and gives its lines; those of later steps, which an interrupted run left, are
    /// taken out.
    pub(crate) fn open(folder: &Path, step: u64) -> Result<(Self, Vec<Line>)> {
        let path = folder.join(FILE);
        let kept: Vec<Line> = read(folder)?.into_iter().filter(|line| line.step <= step).collect();
        let lines = kept.iter().map(|line| Ok(serde_json::to_string(line)? + "\n"));
        write_text(&path, &lines.collect::<Result<String>>()?)?;
        let file = OpenOptions::new().append(true).open(&path).map_err(Error::file("write", &path))?;
        Ok((Self { file, path }, kept))
    }

    pub(crate) fn write(&mut self, line: &Line) -> Result<()> {
        let text = serde_json::to_string(line)? + "\n";
        self.file.write_all(text.as_bytes()).map_err(Error::file("write", &self.path))
    }
}

/// The lines of a training's folder, the last one left out if it was cut short; none where there is no file.
pub fn read(folder: &Path) -> Result<Vec<Line>> {
    let path = folder.join(FILE);
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(Error::file("read", &path)(error)),
    };
    let whole = text.split_inclusive('\n').filter(|line| line.ends_with('\n'));
    whole
        .enumerate()
        .map(|(number, line)| {
            serde_json::from_str(line)
                .map_err(|error| Error::Damaged { path: path.clone(), why: format!("line {}: {error}", number + 1) })
        })
        .collect()
}

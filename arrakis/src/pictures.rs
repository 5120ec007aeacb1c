//! Pictures for the bench, drawn by the graph crate.

use std::path::{Path, PathBuf};

use arrakis_core::{Answer, Draw, Error, Part, Result};
use arrakis_graph::{Style, draw, drawable};

/// Draws the grids, series and rankings of an answer as SVG, `<part>.svg` each.
///
/// Stacks are left to be drawn on demand: a pattern for every head of a model is a large picture.
#[derive(Debug, Clone, Copy, Default)]
pub struct Pictures;

impl Draw for Pictures {
    fn draw(&self, answer: &Answer, folder: &Path) -> Result<Vec<PathBuf>> {
        let mut files = Vec::new();
        for (name, part) in answer.parts() {
            if drawable(part) && !matches!(part, Part::Stack(_)) {
                let path = folder.join(format!("{}.svg", file_name(name)));
                draw(part, &path, &Style::default()).map_err(|error| Error::Other(Box::new(error)))?;
                files.push(path);
            }
        }
        Ok(files)
    }
}

fn file_name(part: &str) -> String {
    part.chars().map(|letter| if letter.is_alphanumeric() || "-_.".contains(letter) { letter } else { '_' }).collect()
}

//! Pictures for the bench, drawn by the graph crate.

use std::path::{Path, PathBuf};

use arrakis_core::{Answer, Draw, Error, HookPoint, Kept, Part, PlotSpec, Result};
use arrakis_graph::{Style, draw, draw_picture, drawable, file_name, plot, reads};

/// Draws the grids, series and rankings of an answer as SVG, `<part>.svg` each, and any spec.
///
/// Stacks of an answer are left to be drawn on demand: a pattern for every head of a model is a large picture.
#[derive(Debug, Clone, Copy, Default)]
pub struct Pictures {
    /// How they look.
    pub style: Style,
}

impl Pictures {
    /// As pictures look by default.
    pub const DEFAULT: Self = Self { style: Style::DEFAULT };
}

impl Draw for Pictures {
    fn draw(&self, answer: &Answer, folder: &Path) -> Result<Vec<PathBuf>> {
        let mut files = Vec::new();
        for (name, part) in answer.parts() {
            if drawable(part) && !matches!(part, Part::Stack(_)) {
                let path = folder.join(format!("{}.svg", file_name(name)));
                draw(part, &path, &self.style).map_err(other)?;
                files.push(path);
            }
        }
        Ok(files)
    }

    fn reads(&self, spec: &PlotSpec, known: &[HookPoint]) -> Result<Vec<HookPoint>> {
        reads(spec, known).map_err(other)
    }

    fn plot(&self, spec: &PlotSpec, kept: Kept<'_>, file: &Path) -> Result<()> {
        let picture = plot(spec, kept).map_err(other)?;
        draw_picture(picture.as_ref(), file, &self.style).map_err(other)
    }
}

/// Core's errors as they are, others as they come.
fn other(error: arrakis_graph::Error) -> Error {
    match error {
        arrakis_graph::Error::Core(error) => error,
        error => Error::Other(Box::new(error)),
    }
}

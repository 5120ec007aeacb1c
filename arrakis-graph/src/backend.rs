//! The formats of pictures.

use std::path::Path;

use crate::page::Page;
use crate::picture::Picture;
use crate::theme::{Style, Theme};
use crate::{Error, Result, png, svg};

/// A format of pictures; others than these may be written outside this crate, from the scene of a picture.
///
/// ```
/// use arrakis_core::Ranking;
/// use arrakis_graph::{Backend, Picture, Result, Style, Theme};
///
/// /// Counts marks.
/// struct Census;
///
/// impl Backend for Census {
///     fn ending(&self) -> &'static str {
///         "txt"
///     }
///
///     fn render(&self, picture: &dyn Picture, style: &Style) -> Result<Vec<u8>> {
///         let scene = picture.scene(&Theme::new(style)?)?;
///         Ok(format!("{} marks on {} × {}", scene.marks.len(), scene.width, scene.height).into_bytes())
///     }
/// }
///
/// let ranking = Ranking::new("Next token", "probability", [(" Paris", 0.62)]);
/// assert!(String::from_utf8_lossy(&Census.render(&ranking, &Style::default())?).ends_with(char::is_numeric));
/// # Ok::<(), arrakis_graph::Error>(())
/// ```
pub trait Backend: Sync {
    /// How the names of its files end, without the dot.
    fn ending(&self) -> &'static str;

    /// The whole file of a picture.
    fn render(&self, picture: &dyn Picture, style: &Style) -> Result<Vec<u8>>;
}

/// Scalable pictures with texts as texts.
#[derive(Debug, Clone, Copy, Default)]
pub struct Svg;

/// Pictures of pixels.
#[derive(Debug, Clone, Copy, Default)]
pub struct Png;

/// Pages of their own that can be explored, light or dark as the reader has it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Html;

/// The formats of this crate.
const BACKENDS: [&dyn Backend; 3] = [&Svg, &Png, &Html];

/// The backend that the ending of a file name asks for.
pub fn backend_of(path: &Path) -> Result<&'static dyn Backend> {
    let ending = path.extension().map(|ending| ending.to_string_lossy().to_lowercase()).unwrap_or_default();
    let found = BACKENDS.into_iter().find(|backend| backend.ending() == ending);
    found.ok_or_else(|| Error::Format { path: path.to_owned() })
}

impl Backend for Svg {
    fn ending(&self) -> &'static str {
        "svg"
    }

    fn render(&self, picture: &dyn Picture, style: &Style) -> Result<Vec<u8>> {
        let theme = Theme::new(style)?;
        Ok(svg::svg(&picture.scene(&theme)?, picture.title(), &theme)?.into_bytes())
    }
}

impl Backend for Png {
    fn ending(&self) -> &'static str {
        "png"
    }

    fn render(&self, picture: &dyn Picture, style: &Style) -> Result<Vec<u8>> {
        let theme = Theme::new(style)?;
        png::png(&picture.scene(&theme)?, &theme)
    }
}

impl Backend for Html {
    fn ending(&self) -> &'static str {
        "html"
    }

    fn render(&self, picture: &dyn Picture, style: &Style) -> Result<Vec<u8>> {
        Ok(Page::new(picture.title(), style)?.only_picture(picture)?.html()?.into_bytes())
    }
}

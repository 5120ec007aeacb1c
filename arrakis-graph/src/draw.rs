//! Parts and answers as pictures, in memory and in files.

use std::path::{Path, PathBuf};

use arrakis_core::{Answer, Part};

use crate::picture;
use crate::save::save;
use crate::theme::{Style, Theme};
use crate::{Error, Result, paint};

/// Whether a part is a picture: a grid, a series, a ranking or a stack.
#[must_use]
pub fn drawable(part: &Part) -> bool {
    picture::of(part).is_ok()
}

/// The picture of a part as SVG.
pub fn render_svg(part: &Part, style: &Style) -> Result<String> {
    let (picture, theme) = (picture::of(part)?, Theme::new(style)?);
    paint::svg(&picture.scene(&theme)?, picture.title(), &theme)
}

/// The picture of a part as PNG.
pub fn render_png(part: &Part, style: &Style) -> Result<Vec<u8>> {
    let (picture, theme) = (picture::of(part)?, Theme::new(style)?);
    paint::png(&picture.scene(&theme)?, &theme)
}

/// Draws a part to a file, as SVG or PNG by its ending.
///
/// The file appears whole or not at all; its folder must exist.
pub fn draw(part: &Part, path: &Path, style: &Style) -> Result<()> {
    save(path, &Format::of(path)?.render(part, style)?)
}

/// Draws every drawable part of an answer and returns the files in the order of the parts.
///
/// If `path` is a folder, the part `name` becomes `name.png` in it.
/// If it ends in `.svg` or `.png`, an only picture becomes that file, and of several `name` becomes `stem.name.svg` beside it.
/// An answer without a drawable part is an error, and so is a part of nothing; then no file is written.
pub fn draw_answer(answer: &Answer, path: &Path, style: &Style) -> Result<Vec<PathBuf>> {
    let parts: Vec<(&str, &Part)> = answer.parts().filter(|(_, part)| drawable(part)).collect();
    if parts.is_empty() {
        return Err(Error::NoPicture { shape: "answer of numbers and texts alone" });
    }
    let folder = path.is_dir();
    let format = if folder { Format::Png } else { Format::of(path)? };
    let mut drawn: Vec<(PathBuf, Vec<u8>)> = Vec::with_capacity(parts.len());
    for (name, part) in &parts {
        let name = file_name(name);
        let file = match (folder, parts.len()) {
            (true, _) => path.join(format!("{name}.png")),
            (false, 1) => path.to_owned(),
            (false, _) => path.with_extension(format!("{name}.{}", format.ending())),
        };
        if drawn.iter().any(|(taken, _)| *taken == file) {
            return Err(Error::SameFile { path: file });
        }
        drawn.push((file, format.render(part, style)?));
    }
    for (path, bytes) in &drawn {
        save(path, bytes)?;
    }
    Ok(drawn.into_iter().map(|(path, _)| path).collect())
}

/// The name of a part as part of a file name: anything but letters, digits, `-`, `_` and `.` becomes `_`.
fn file_name(part: &str) -> String {
    let plain = |c: char| if c.is_alphanumeric() || matches!(c, '-' | '_' | '.') { c } else { '_' };
    let name: String = part.chars().map(plain).collect();
    if name.starts_with('.') || name.is_empty() { format!("_{name}") } else { name }
}

/// A format of pictures.
#[derive(Debug, Clone, Copy)]
enum Format {
    Svg,
    Png,
}

impl Format {
    fn of(path: &Path) -> Result<Self> {
        let ending = path.extension().map(|ending| ending.to_string_lossy().to_lowercase());
        match ending.as_deref() {
            Some("svg") => Ok(Self::Svg),
            Some("png") => Ok(Self::Png),
            _ => Err(Error::Format { path: path.to_owned() }),
        }
    }

    fn ending(self) -> &'static str {
        match self {
            Self::Svg => "svg",
            Self::Png => "png",
        }
    }

    fn render(self, part: &Part, style: &Style) -> Result<Vec<u8>> {
        match self {
            Self::Svg => render_svg(part, style).map(String::into_bytes),
            Self::Png => render_png(part, style),
        }
    }
}

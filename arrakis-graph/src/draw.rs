//! Parts and answers as pictures, in memory and in files.

use std::path::{Path, PathBuf};

use arrakis_core::{Answer, Part};

use crate::backend::{Backend, Html, Png, Svg, backend_of};
use crate::page::Page;
use crate::picture::{Picture, picture_of};
use crate::save::save;
use crate::theme::Style;
use crate::{Error, Result};

/// Whether a part is a picture: a grid, a series, a ranking or a stack.
#[must_use]
pub fn drawable(part: &Part) -> bool {
    picture_of(part).is_ok()
}

/// The picture of a part as SVG.
pub fn render_svg(part: &Part, style: &Style) -> Result<String> {
    // Made of a text a moment ago.
    Ok(String::from_utf8_lossy(&Svg.render(picture_of(part)?, style)?).into_owned())
}

/// The picture of a part as PNG.
pub fn render_png(part: &Part, style: &Style) -> Result<Vec<u8>> {
    Png.render(picture_of(part)?, style)
}

/// Draws a part to a file, as SVG, PNG or a page of HTML by its ending.
///
/// The file appears whole or not at all; its folder must exist.
pub fn draw(part: &Part, path: &Path, style: &Style) -> Result<()> {
    draw_picture(picture_of(part)?, path, style)
}

/// Draws a picture to a file, as SVG, PNG or a page of HTML by its ending.
///
/// The file appears whole or not at all; its folder must exist.
pub fn draw_picture(picture: &dyn Picture, path: &Path, style: &Style) -> Result<()> {
    save(path, &backend_of(path)?.render(picture, style)?)
}

/// Draws every drawable part of an answer and returns the files in the order of the parts.
///
/// If `path` is a folder, the part `name` becomes `name.png` in it; if it ends in `.html`, one page holds the whole
/// answer. If it ends in `.svg` or `.png`, an only picture becomes that file, and of several `name` becomes
/// `stem.name.svg` beside it.
/// An answer without a drawable part is an error, and so is a part of nothing; then no file is written.
pub fn draw_answer(answer: &Answer, path: &Path, style: &Style) -> Result<Vec<PathBuf>> {
    let parts: Vec<(&str, &Part)> = answer.parts().filter(|(_, part)| drawable(part)).collect();
    if parts.is_empty() {
        return Err(Error::NoPicture { shape: "answer of numbers and texts alone" });
    }
    let folder = path.is_dir();
    let backend: &dyn Backend = if folder { &Png } else { backend_of(path)? };
    if !folder && backend.ending() == Html.ending() {
        let title = path.file_stem().map_or_else(|| "Answer".into(), |stem| stem.to_string_lossy());
        save(path, Page::new(&title, style)?.answer(answer)?.html()?.as_bytes())?;
        return Ok(vec![path.to_owned()]);
    }
    let mut drawn: Vec<(PathBuf, Vec<u8>)> = Vec::with_capacity(parts.len());
    for (name, part) in &parts {
        let name = file_name(name);
        let file = match (folder, parts.len()) {
            (true, _) => path.join(format!("{name}.png")),
            (false, 1) => path.to_owned(),
            (false, _) => path.with_extension(format!("{name}.{}", backend.ending())),
        };
        if drawn.iter().any(|(taken, _)| *taken == file) {
            return Err(Error::SameFile { path: file });
        }
        drawn.push((file, backend.render(picture_of(part)?, style)?));
    }
    for (path, bytes) in &drawn {
        save(path, bytes)?;
    }
    Ok(drawn.into_iter().map(|(path, _)| path).collect())
}

/// The name of a part as part of a file name: anything but letters, digits, `-`, `_` and `.` becomes `_`.
#[must_use]
pub fn file_name(part: &str) -> String {
    let plain = |c: char| if c.is_alphanumeric() || matches!(c, '-' | '_' | '.') { c } else { '_' };
    let name: String = part.chars().map(plain).collect();
    if name.starts_with('.') || name.is_empty() { format!("_{name}") } else { name }
}

//! What a shape does to be drawn.

use arrakis_core::Part;

use crate::scene::Scene;
use crate::theme::Theme;
use crate::{Error, Result};

/// A shape that can be laid out.
pub(crate) trait Picture {
    fn title(&self) -> &str;

    /// The finished picture, with its title and notes.
    fn scene(&self, theme: &Theme) -> Result<Scene>;
}

/// The picture that a part is, if it is one.
pub(crate) fn of(part: &Part) -> Result<&dyn Picture> {
    match part {
        Part::Grid(grid) => Ok(grid),
        Part::Series(series) => Ok(series),
        Part::Ranking(ranking) => Ok(ranking),
        Part::Stack(stack) => Ok(stack),
        Part::Number(_) => Err(Error::NoPicture { shape: "number" }),
        Part::Text(_) => Err(Error::NoPicture { shape: "text" }),
        _ => Err(Error::NoPicture { shape: "part of this kind" }),
    }
}

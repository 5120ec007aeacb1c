//! What can be drawn.

use arrakis_core::Part;

use crate::page::Widget;
use crate::scene::Scene;
use crate::theme::Theme;
use crate::{Error, Result};

/// Something that can be laid out: a result shape, or what a kind of plot made of a run.
pub trait Picture {
    /// What it is called.
    fn title(&self) -> &str;

    /// The finished picture, with its title and notes.
    fn scene(&self, theme: &Theme) -> Result<Scene>;

    /// What a reader of a page can explore in place of the picture, if there is more to it than the picture shows.
    fn widget(&self) -> Result<Option<Widget>> {
        Ok(None)
    }
}

/// The picture that a part is, if it is one.
pub fn picture_of(part: &Part) -> Result<&dyn Picture> {
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

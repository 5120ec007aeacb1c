//! How pictures look: what a caller may choose, and the one theme.

use crate::colour::Colour;
use crate::font::Font;
use crate::{Error, Result};

/// What a caller may choose about a picture.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Style {
    /// The greatest width, in pixels of 1/96 inch, from 240 to 2000; small pictures are narrower.
    pub width: f64,
    /// PNG pixels for one pixel of the layout, from 0.5 to 4; the PNG says so in its resolution.
    pub scale: f64,
    /// Light ink on a dark ground.
    pub dark: bool,
}

impl Style {
    /// 720 pixels wide at most, two PNG pixels for one, dark ink on white.
    pub const DEFAULT: Self = Self { width: 720.0, scale: 2.0, dark: false };
}

impl Default for Style {
    /// [`Style::DEFAULT`].
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// The inks and sizes of a picture, in pixels.
#[derive(Debug, Clone)]
pub struct Theme {
    pub(crate) font: Font,
    pub(crate) width: f64,
    pub(crate) scale: f64,
    pub(crate) ground: Colour,
    /// Titles and labels.
    pub(crate) ink: Colour,
    /// Names of axes and notes.
    pub(crate) muted: Colour,
    /// Axes and ticks.
    pub(crate) axis: Colour,
    /// Lines behind the data.
    pub(crate) faint: Colour,
    /// The outline of cells.
    pub(crate) border: Colour,
    /// Cells without a number.
    pub(crate) missing: Colour,
}

impl Theme {
    /// The margin around everything.
    pub(crate) const MARGIN: f64 = 12.0;
    /// The greatest width of a picture.
    pub(crate) const WIDEST: f64 = 2000.0;
    pub(crate) const TITLE: f64 = 14.0;
    pub(crate) const LABEL: f64 = 11.0;
    pub(crate) const SMALL: f64 = 10.0;

    /// The theme of a style; an error names what in it no picture can have.
    pub fn new(style: &Style) -> Result<Self> {
        within("width", style.width, 240.0, Self::WIDEST)?;
        within("scale", style.scale, 0.5, 4.0)?;
        let (ground, ink) =
            if style.dark { (Colour(22, 24, 29), Colour(232, 232, 235)) } else { (Colour::WHITE, Colour(34, 34, 38)) };
        Ok(Self {
            font: Font::load()?,
            width: style.width,
            scale: style.scale,
            ground,
            ink,
            muted: ink.towards(ground, 0.3),
            axis: ink.towards(ground, 0.55),
            faint: ink.towards(ground, 0.89),
            border: ink.towards(ground, 0.75),
            missing: ink.towards(ground, 0.86),
        })
    }

    /// The inks and the names under which a page knows them.
    pub(crate) const fn inks(&self) -> [(Colour, &'static str); 6] {
        [
            (self.ink, "ink"),
            (self.muted, "muted"),
            (self.axis, "axis"),
            (self.faint, "faint"),
            (self.border, "border"),
            (self.missing, "missing"),
        ]
    }

    /// The width of a text at a size.
    pub(crate) fn measure(&self, text: &str, size: f64) -> f64 {
        self.font.width(text, size)
    }
}

fn within(field: &'static str, found: f64, least: f64, most: f64) -> Result<()> {
    if (least..=most).contains(&found) {
        return Ok(());
    }
    Err(Error::Style { field, found, least, most })
}

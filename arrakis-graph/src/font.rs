//! The font that ships with this crate: what it can show and how wide it is.

use ab_glyph::{Font as _, FontRef, Glyph, GlyphId, PxScale, point};

use crate::{Error, Result};

/// The families an SVG asks for: ours first, then its wide-spread twin.
pub(crate) const FAMILIES: &str = "DejaVu Sans, Verdana, sans-serif";

/// How far capitals rise above the baseline, in em.
const CAPITAL: f64 = 0.729;

/// The face and its measure.
#[derive(Debug, Clone)]
pub(crate) struct Font {
    face: FontRef<'static>,
    /// Font units in an em.
    em: f64,
}

impl Font {
    pub(crate) fn load() -> Result<Self> {
        let face = FontRef::try_from_slice(include_bytes!("../fonts/DejaVuSans.ttf")).map_err(|_| Error::Font)?;
        let em = f64::from(face.units_per_em().ok_or(Error::Font)?);
        Ok(Self { face, em })
    }

    /// Whether a character has a shape that a reader can see.
    pub(crate) fn shows(&self, character: char) -> bool {
        const SOFT_HYPHEN: char = '\u{AD}';
        let blank = character.is_whitespace() || character.is_control() || character == SOFT_HYPHEN;
        !blank && self.face.glyph_id(character) != GlyphId(0)
    }

    /// The width of a text at a size, in the unit of the size.
    pub(crate) fn width(&self, text: &str, size: f64) -> f64 {
        text.chars().map(|character| self.advance(character)).sum::<f64>() * size
    }

    /// How far below the middle of a line the baseline lies.
    pub(crate) fn drop(size: f64) -> f64 {
        size * CAPITAL / 2.0
    }

    /// Calls `dot(x, y, coverage)` for every pixel of a text whose baseline begins at `(x, y)`.
    pub(crate) fn raster(&self, text: &str, size: f64, (mut x, y): (f64, f64), mut dot: impl FnMut(i32, i32, f32)) {
        let height = f64::from(self.face.height_unscaled());
        let scale = PxScale::from((size * height / self.em) as f32);
        for character in text.chars() {
            let glyph = Glyph { id: self.face.glyph_id(character), scale, position: point(x as f32, y as f32) };
            if let Some(outline) = self.face.outline_glyph(glyph) {
                let corner = outline.px_bounds().min;
                outline.draw(|dx, dy, coverage| {
                    if coverage > 0.0 {
                        dot(corner.x as i32 + dx as i32, corner.y as i32 + dy as i32, coverage);
                    }
                });
            }
            x += self.advance(character) * size;
        }
    }

    /// The advance of a character, in em.
    fn advance(&self, character: char) -> f64 {
        f64::from(self.face.h_advance_unscaled(self.face.glyph_id(character))) / self.em
    }
}

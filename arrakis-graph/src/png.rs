//! Scenes as PNG: rectangles on whole pixels, everything else anti-aliased.

use crate::colour::Colour;
use crate::font::Font;
use crate::scene::{Anchor, Mark, Scene};
use crate::theme::Theme;
use crate::{Error, Result, raster};

/// The PNG of a scene.
pub(crate) fn png(scene: &Scene, theme: &Theme) -> Result<Vec<u8>> {
    encode(&Pixels::of(scene, theme), Some((96.0 * theme.scale / 0.0254).round() as u32))
}

/// The file of some pixels; `per_metre` is its resolution.
pub(crate) fn encode(pixels: &Pixels, per_metre: Option<u32>) -> Result<Vec<u8>> {
    let mut encoded = Vec::new();
    let mut encoder = png::Encoder::new(&mut encoded, pixels.width as u32, pixels.height as u32);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_compression(png::Compression::Fast);
    let dims = per_metre.map(|per| png::PixelDimensions { xppu: per, yppu: per, unit: png::Unit::Meter });
    encoder.set_pixel_dims(dims);
    let refused = |error: png::EncodingError| Error::Encode(error.to_string());
    let mut writer = encoder.write_header().map_err(refused)?;
    writer.write_image_data(&pixels.rgb).map_err(refused)?;
    writer.finish().map_err(refused)?;
    Ok(encoded)
}

fn paint(pixels: &mut Pixels, mark: &Mark, scale: f64, font: &Font) {
    let unit = |length: f64| (length * scale).round() as i64;
    let scaled = |points: &[(f64, f64)]| -> Vec<(f64, f64)> {
        points.iter().map(|(x, y)| ((x * scale).round(), (y * scale).round())).collect()
    };
    match mark {
        Mark::Rect { x, y, width, height, fill } => {
            let (left, top) = (unit(*x), unit(*y));
            pixels.fill((left, top), (unit(x + width).max(left + 1), unit(y + height).max(top + 1)), *fill);
        }
        Mark::Cells { x, y, width, height, columns, fills } => {
            let rows = fills.len() / (*columns).max(1);
            let edges = |from: f64, length: f64, count: usize| -> Vec<i64> {
                (0..=count).map(|place| unit(from + length * place as f64 / count as f64)).collect()
            };
            pixels.cells(&edges(*x, *width, *columns), &edges(*y, *height, rows), fills);
        }
        Mark::Stroke { points, width, colour, opacity } => {
            raster::stroke(&scaled(points), width * scale, *opacity >= 1.0, |x, y, share| {
                pixels.mix(x, y, *colour, share * *opacity as f32);
            });
        }
        Mark::Area { points, fill, opacity } => {
            raster::area(&scaled(points), |x, y, share| pixels.mix(x, y, *fill, share * *opacity as f32));
        }
        Mark::Disk { x, y, radius, colour } => {
            let middle = ((x * scale).round(), (y * scale).round());
            raster::disk(middle, radius * scale, |x, y, share| pixels.mix(x, y, *colour, share));
        }
        Mark::Text { x, y, text, size, colour, anchor, turned } => {
            let size = size * scale;
            let before = match anchor {
                Anchor::Start => 0.0,
                Anchor::Middle => font.width(text, size) / 2.0,
                Anchor::End => font.width(text, size),
            };
            // Glyphs are laid out along a level line from (0, 0) and turned pixel by pixel.
            let (x, y) = ((x * scale).round() as i32, (y * scale).round() as i32);
            font.raster(text, size, (-before.round(), 0.0), |along, down, share| {
                let (x, y) = if *turned { (x + down, y - along) } else { (x + along, y + down) };
                pixels.mix(x, y, *colour, share);
            });
        }
    }
}

/// The pixels of a picture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pixels {
    width: usize,
    height: usize,
    rgb: Vec<u8>,
}

impl Pixels {
    /// A scene as it is drawn: rectangles on whole pixels, everything else anti-aliased.
    #[must_use]
    pub fn of(scene: &Scene, theme: &Theme) -> Self {
        let scale = theme.scale;
        let side = |length: f64| (length * scale).ceil() as usize;
        let mut pixels = Self::new(side(scene.width), side(scene.height), theme.ground);
        for mark in &scene.marks {
            paint(&mut pixels, mark, scale, &theme.font);
        }
        pixels
    }

    /// How many there are across and down.
    #[must_use]
    pub const fn size(&self) -> (usize, usize) {
        (self.width, self.height)
    }

    /// Row by row, three bytes each: red, green, blue.
    #[must_use]
    pub fn rgb(&self) -> &[u8] {
        &self.rgb
    }

    pub(crate) fn new(width: usize, height: usize, ground: Colour) -> Self {
        let Colour(r, g, b) = ground;
        Self { width, height, rgb: [r, g, b].repeat(width * height) }
    }

    /// Sets every pixel, row by row.
    pub(crate) fn set_all(&mut self, colours: &[Colour]) {
        for (pixel, Colour(r, g, b)) in self.rgb.chunks_exact_mut(3).zip(colours) {
            pixel.copy_from_slice(&[*r, *g, *b]);
        }
    }

    /// Fills from a corner to another, which lies outside.
    fn fill(&mut self, from: (i64, i64), to: (i64, i64), Colour(r, g, b): Colour) {
        let within = |place: i64, most: usize| place.clamp(0, most as i64) as usize;
        let (left, right) = (within(from.0, self.width), within(to.0, self.width));
        for y in within(from.1, self.height)..within(to.1, self.height) {
            let row = &mut self.rgb[(y * self.width + left) * 3..(y * self.width + right.max(left)) * 3];
            row.chunks_exact_mut(3).for_each(|pixel| pixel.copy_from_slice(&[r, g, b]));
        }
    }

    /// Fills cells between edges; one narrower than a pixel may vanish.
    fn cells(&mut self, across: &[i64], down: &[i64], fills: &[Colour]) {
        let columns = across.len().saturating_sub(1);
        if columns == 0 || across[0] < 0 || across[columns] as usize > self.width {
            return;
        }
        let (left, right) = (across[0] as usize * 3, across[columns] as usize * 3);
        for (row, edges) in fills.chunks_exact(columns).zip(down.windows(2)) {
            let [top, bottom] = [edges[0].max(0) as usize, edges[1].clamp(0, self.height as i64) as usize];
            if top >= bottom {
                continue;
            }
            for (&colour, edges) in row.iter().zip(across.windows(2)) {
                self.fill((edges[0], top as i64), (edges[1], top as i64 + 1), colour);
            }
            // The other lines of pixels of a row of cells are copies of the first.
            let start = top * self.width * 3;
            for y in top + 1..bottom {
                self.rgb.copy_within(start + left..start + right, y * self.width * 3 + left);
            }
        }
    }

    /// Covers a share of a pixel.
    fn mix(&mut self, x: i32, y: i32, colour: Colour, share: f32) {
        if x < 0 || y < 0 || x as usize >= self.width || y as usize >= self.height {
            return;
        }
        let start = (y as usize * self.width + x as usize) * 3;
        for (channel, over) in self.rgb[start..start + 3].iter_mut().zip([colour.0, colour.1, colour.2]) {
            let under = f32::from(*channel);
            *channel = (under + (f32::from(over) - under) * share.clamp(0.0, 1.0)).round() as u8;
        }
    }
}

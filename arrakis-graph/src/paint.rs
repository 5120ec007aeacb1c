//! Scenes as SVG and PNG, through the backends of plotters.

use std::convert::Infallible;

use plotters_backend::text_anchor::{HPos, Pos, VPos};
use plotters_backend::{
    BackendColor, BackendStyle, BackendTextStyle, DrawingBackend, DrawingErrorKind, FontFamily, FontTransform,
};
use plotters_bitmap::BitMapBackend;
use plotters_svg::SVGBackend;

use crate::colour::Colour;
use crate::font::{FAMILIES, Font};
use crate::scene::{Anchor, Mark, Scene};
use crate::theme::Theme;
use crate::{Error, Result, label, raster};

/// Units of the SVG's coordinates in a pixel: plotters knows whole numbers only.
const FINE: f64 = 20.0;

/// How far below its point plotters' SVG puts the baseline of a text that hangs from it, in em.
const HANG: f64 = 0.76;

/// The SVG of a scene; `title` is what a screen reader says.
pub(crate) fn svg(scene: &Scene, title: &str, theme: &Theme) -> Result<String> {
    let mut drawn = String::new();
    let (width, height) = (scene.width.ceil(), scene.height.ceil());
    let mut backend = SVGBackend::with_string(&mut drawn, ((width * FINE) as u32, (height * FINE) as u32));
    paint(scene, &mut backend, FINE, theme, SVGBackend::draw_path, |backend, centre, radius, style| {
        backend.draw_circle(centre, radius.round() as u32, style, true)
    })?;
    drop(backend);

    let head = drawn.find('>').map_or(0, |end| end + 1);
    let (fine_width, fine_height) = (width * FINE, height * FINE);
    let title =
        label::visible(title.trim(), &theme.font).replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    let opening = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
         viewBox=\"0 0 {fine_width} {fine_height}\" role=\"img\">\n<title>{title}</title>"
    );
    drawn.replace_range(..head, &opening);
    Ok(drawn)
}

/// The PNG of a scene.
pub(crate) fn png(scene: &Scene, theme: &Theme) -> Result<Vec<u8>> {
    let (width, height) = ((scene.width * theme.scale).ceil() as u32, (scene.height * theme.scale).ceil() as u32);
    let mut pixels = vec![0; width as usize * height as usize * 3];
    let mut backend = BitMapBackend::with_buffer(&mut pixels, (width, height));
    paint(scene, &mut backend, theme.scale, theme, raster::stroke, |backend, centre, radius, style| {
        raster::disk(backend, centre, radius, style.color)
    })?;
    drop(backend);

    let mut encoded = Vec::new();
    let mut encoder = png::Encoder::new(&mut encoded, width, height);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_compression(png::Compression::Fast);
    let per_metre = (96.0 * theme.scale / 0.0254).round() as u32;
    encoder.set_pixel_dims(Some(png::PixelDimensions { xppu: per_metre, yppu: per_metre, unit: png::Unit::Meter }));
    let refused = |error: png::EncodingError| Error::Encode(error.to_string());
    let mut writer = encoder.write_header().map_err(refused)?;
    writer.write_image_data(&pixels).map_err(refused)?;
    writer.finish().map_err(refused)?;
    Ok(encoded)
}

pub(crate) type Outcome<B> = Result<(), DrawingErrorKind<<B as DrawingBackend>::ErrorType>>;

/// Gives every mark to a backend with `scale` units in a pixel of the layout.
fn paint<B: DrawingBackend>(
    scene: &Scene,
    backend: &mut B,
    scale: f64,
    theme: &Theme,
    stroke: impl Fn(&mut B, Vec<(i32, i32)>, &Pen) -> Outcome<B>,
    disk: impl Fn(&mut B, (i32, i32), f64, &Pen) -> Outcome<B>,
) -> Result<()> {
    let unit = |length: f64| (length * scale).round() as i32;
    let mut all = || -> Outcome<B> {
        for mark in &scene.marks {
            match mark {
                Mark::Rect { x, y, width, height, fill } => {
                    let corner = (unit(*x), unit(*y));
                    let opposite = (unit(x + width).max(corner.0 + 1), unit(y + height).max(corner.1 + 1));
                    backend.draw_rect(corner, opposite, &Pen::of(*fill, 1.0), true)?;
                }
                Mark::Stroke { points, width, colour } => {
                    let points = points.iter().map(|point| (unit(point.0), unit(point.1))).collect();
                    stroke(backend, points, &Pen::of(*colour, width * scale))?;
                }
                Mark::Disk { x, y, radius, colour } => {
                    disk(backend, (unit(*x), unit(*y)), radius * scale, &Pen::of(*colour, 1.0))?;
                }
                Mark::Text { x, y, text, size, colour, anchor, turned } => {
                    let hang = size * HANG;
                    let (x, y) = if *turned { (x - hang, *y) } else { (*x, y - hang) };
                    let (size, anchor, turned) = (size * scale, *anchor, *turned);
                    let hand = Hand { font: &theme.font, size, colour: plain(*colour), anchor, turned };
                    backend.draw_text(text, &hand, (unit(x), unit(y)))?;
                }
            }
        }
        backend.present()
    };
    all().map_err(|error| Error::Encode(error.to_string()))
}

fn plain(Colour(r, g, b): Colour) -> BackendColor {
    BackendColor { alpha: 1.0, rgb: (r, g, b) }
}

/// The colour and width of a line.
pub(crate) struct Pen {
    pub(crate) color: BackendColor,
    pub(crate) width: f64,
}

impl Pen {
    fn of(colour: Colour, width: f64) -> Self {
        Self { color: plain(colour), width }
    }
}

impl BackendStyle for Pen {
    fn color(&self) -> BackendColor {
        self.color
    }

    fn stroke_width(&self) -> u32 {
        self.width.round().max(1.0) as u32
    }
}

/// How a text is written.
struct Hand<'a> {
    font: &'a Font,
    size: f64,
    colour: BackendColor,
    anchor: Anchor,
    turned: bool,
}

impl BackendTextStyle for Hand<'_> {
    type FontError = Infallible;

    fn color(&self) -> BackendColor {
        self.colour
    }

    /// What plotters' SVG divides by 1.24 to get the size of the font.
    fn size(&self) -> f64 {
        self.size * 1.24
    }

    fn transform(&self) -> FontTransform {
        if self.turned { FontTransform::Rotate270 } else { FontTransform::None }
    }

    fn anchor(&self) -> Pos {
        let h_pos = match self.anchor {
            Anchor::Start => HPos::Left,
            Anchor::Middle => HPos::Center,
            Anchor::End => HPos::Right,
        };
        Pos { h_pos, v_pos: VPos::Top }
    }

    fn family(&self) -> FontFamily<'_> {
        FontFamily::Name(FAMILIES)
    }

    fn layout_box(&self, text: &str) -> Result<((i32, i32), (i32, i32)), Infallible> {
        Ok(((0, 0), (self.font.width(text, self.size).round() as i32, self.size.round() as i32)))
    }

    fn draw<E, D: FnMut(i32, i32, BackendColor) -> Result<(), E>>(
        &self,
        text: &str,
        (x, y): (i32, i32),
        mut draw: D,
    ) -> Result<Result<(), E>, Infallible> {
        let start = (f64::from(x), f64::from(y) + (self.size * HANG).round());
        Ok(self.font.raster(text, self.size, start, |x, y, coverage| draw(x, y, self.colour.mix(coverage.into()))))
    }
}

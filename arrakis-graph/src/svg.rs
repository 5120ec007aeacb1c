//! Scenes as SVG: one element a line, texts as texts, dense cells as one image.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::colour::Colour;
use crate::font::FAMILIES;
use crate::png::{self, Pixels};
use crate::scene::{Anchor, Mark, Scene};
use crate::theme::Theme;
use crate::{Result, label};

/// The least side of a cell that is an element of its own; smaller ones become an image, which is far shorter.
const LEAST_SIDE: f64 = 4.0;
/// Up to how many cells are elements of their own.
const MOST_CELLS: usize = 4000;

/// The SVG of a scene; `title` is what a screen reader says.
pub(crate) fn svg(scene: &Scene, title: &str, theme: &Theme) -> Result<String> {
    let (width, height) = (scene.width.ceil(), scene.height.ceil());
    let title = escaped(&label::visible(title.trim(), &theme.font));
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\" \
         role=\"img\" font-family=\"{FAMILIES}\" stroke-linejoin=\"round\" stroke-linecap=\"round\">\n\
         <title>{title}</title>\n"
    );
    for mark in &scene.marks {
        write(&mut out, mark, theme)?;
    }
    out.push_str("</svg>\n");
    Ok(out)
}

fn write(out: &mut String, mark: &Mark, theme: &Theme) -> Result<()> {
    // Writing to a `String` cannot fail.
    let _ = match mark {
        Mark::Rect { x, y, width, height, fill } => {
            rect(out, (*x, *y), (*width, *height), *fill);
            Ok(())
        }
        Mark::Cells { x, y, width, height, columns, fills } => {
            return cells(out, (*x, *y), (*width, *height), *columns, fills);
        }
        Mark::Stroke { points, width, colour, opacity } => writeln!(
            out,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"{}\"{}/>",
            list(points),
            short(*width),
            opaque("stroke-opacity", *opacity)
        ),
        Mark::Area { points, fill, opacity } => {
            writeln!(out, "<polygon points=\"{}\" fill=\"{fill}\"{}/>", list(points), opaque("fill-opacity", *opacity))
        }
        Mark::Disk { x, y, radius, colour } => writeln!(
            out,
            "<circle cx=\"{}\" cy=\"{}\" r=\"{}\" fill=\"{colour}\"/>",
            short(*x),
            short(*y),
            short(*radius)
        ),
        Mark::Text { x, y, text, size, colour, anchor, turned } => {
            let anchor = match anchor {
                Anchor::Start => "",
                Anchor::Middle => " text-anchor=\"middle\"",
                Anchor::End => " text-anchor=\"end\"",
            };
            let (x, y) = (short(*x), short(*y));
            let turned = if *turned { format!(" transform=\"rotate(-90 {x} {y})\"") } else { String::new() };
            // Whatever font the reader has, the text takes the room that it was given.
            let length = short(theme.measure(text, *size));
            writeln!(
                out,
                "<text x=\"{x}\" y=\"{y}\" font-size=\"{}\" fill=\"{colour}\"{anchor}{turned} textLength=\"{length}\" \
                 lengthAdjust=\"spacingAndGlyphs\">{}</text>",
                short(*size),
                escaped(text)
            )
        }
    };
    Ok(())
}

fn rect(out: &mut String, (x, y): (f64, f64), (width, height): (f64, f64), fill: Colour) {
    let _ = writeln!(
        out,
        "<rect x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\" fill=\"{fill}\"/>",
        short(x),
        short(y),
        short(width),
        short(height)
    );
}

/// Cells as elements while they are few and large, else as an image with one pixel a cell.
fn cells(
    out: &mut String,
    (x, y): (f64, f64),
    (width, height): (f64, f64),
    columns: usize,
    fills: &[Colour],
) -> Result<()> {
    // A cell reaches half a pixel under its neighbours, so that no seam shows between them.
    const UNDER: f64 = 0.5;
    let rows = fills.len() / columns.max(1);
    let (across, down) = (width / columns as f64, height / rows as f64);
    if fills.len() > MOST_CELLS || across.min(down) < LEAST_SIDE {
        let mut image = Pixels::new(columns, rows, Colour::WHITE);
        image.set_all(fills);
        let data = STANDARD.encode(png::encode(&image, None)?);
        let _ = writeln!(
            out,
            "<image x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\" preserveAspectRatio=\"none\" \
             style=\"image-rendering:pixelated\" href=\"data:image/png;base64,{data}\"/>",
            short(x),
            short(y),
            short(width),
            short(height)
        );
        return Ok(());
    }
    for (index, &fill) in fills.iter().enumerate() {
        let (row, column) = (index / columns, index % columns);
        let under = |last: bool| if last { 0.0 } else { UNDER };
        let size = (across + under(column + 1 == columns), down + under(row + 1 == rows));
        rect(out, (x + column as f64 * across, y + row as f64 * down), size, fill);
    }
    Ok(())
}

fn list(points: &[(f64, f64)]) -> String {
    let points: Vec<String> = points.iter().map(|(x, y)| format!("{},{}", short(*x), short(*y))).collect();
    points.join(" ")
}

fn opaque(name: &str, opacity: f64) -> String {
    if opacity < 1.0 { format!(" {name}=\"{}\"", short(opacity)) } else { String::new() }
}

/// A length to a hundredth of a pixel, without trailing zeros.
fn short(length: f64) -> String {
    let text = format!("{length:.2}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    if text == "-0" { "0".to_owned() } else { text.to_owned() }
}

/// A text in which nothing is markup.
pub(crate) fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;").replace('\'', "&#39;")
}

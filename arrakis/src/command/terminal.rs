//! Pictures in a terminal: as they are where it can show them, else their cells as half blocks in colour.

mod abilities;
mod protocols;

use std::fmt::Write as _;

use anyhow::Result;
use arrakis_graph::{Backend as _, Colour, Mark, Picture, Pixels, Png, Style, Theme};
use clap::ValueEnum;

use super::console::Console;

/// How many maps of one picture are drawn by half blocks.
const MOST: usize = 8;
/// How wide a letter is taken to be in a terminal that does not say, in pixels.
const LETTER: f64 = 8.0;

/// How a picture is shown in a terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Way {
    /// The best of the others that the terminal can
    Auto,
    /// As it is, in kitty's graphics protocol
    Kitty,
    /// As it is, in sixels
    Sixel,
    /// Its cells as half blocks in colour
    Text,
}

/// Prints a picture; nothing where no terminal reads and no way is named.
pub(crate) fn show(picture: &dyn Picture, way: Way, style: &Style, console: &Console<'_>) -> Result<()> {
    if way == Way::Auto && !console.is_terminal() {
        return Ok(());
    }
    let style = if console.is_terminal() { fitted(style, console) } else { *style };
    let way = if way == Way::Auto { abilities::best() } else { way };
    match way {
        Way::Kitty => console.line(protocols::kitty(&Png.render(picture, &style)?))?,
        Way::Sixel => {
            let theme = Theme::new(&style)?;
            console.line(protocols::sixels(&Pixels::of(&picture.scene(&theme)?, &theme))?)?;
        }
        Way::Auto | Way::Text => show_cells(picture, &style, console)?,
    }
    Ok(())
}

/// A style whose pictures are no wider than the terminal, if that is to be had.
fn fitted(style: &Style, console: &Console<'_>) -> Style {
    let room = abilities::pixels_across().unwrap_or(LETTER * console.room().width as f64);
    Style { scale: (room / style.width).clamp(0.5, style.scale.max(0.5)), ..*style }
}

fn show_cells(picture: &dyn Picture, style: &Style, console: &Console<'_>) -> Result<()> {
    let scene = picture.scene(&Theme::new(style)?)?;
    let maps = scene.marks.iter().filter_map(|mark| match mark {
        Mark::Cells { columns, fills, .. } => Some((*columns, fills.as_slice())),
        _ => None,
    });
    let maps: Vec<(usize, &[Colour])> = maps.collect();
    if maps.is_empty() {
        console.tell("this picture has no cells to show as text; `--plot` or `--out` draws it to a file\n")?;
    }
    for (columns, fills) in maps.iter().take(MOST) {
        console.line(half_blocks(*columns, fills, console.room().width))?;
    }
    if maps.len() > MOST {
        console.tell(format_args!("the first {MOST} of {} maps\n", maps.len()))?;
    }
    Ok(())
}

/// Cells as half blocks, two rows in a line, thinned evenly to `width` letters.
fn half_blocks(columns: usize, fills: &[Colour], width: usize) -> String {
    let rows = fills.len() / columns.max(1);
    let step = columns.div_ceil(width.max(1)).max(1);
    // Small maps are drawn two letters wide, so that a cell is about square.
    let wide = if columns * 2 <= width && rows <= width { 2 } else { 1 };
    let mut out = String::new();
    let picked: Vec<usize> = (0..rows).step_by(step).collect();
    for pair in picked.chunks(2) {
        for column in (0..columns).step_by(step) {
            let Colour(r, g, b) = fills[pair[0] * columns + column];
            let _ = write!(out, "\x1b[38;2;{r};{g};{b}m");
            match pair.get(1) {
                Some(below) => {
                    let Colour(r, g, b) = fills[below * columns + column];
                    let _ = write!(out, "\x1b[48;2;{r};{g};{b}m");
                }
                None => out.push_str("\x1b[49m"),
            }
            (0..wide).for_each(|_| out.push('▀'));
        }
        out.push_str("\x1b[0m\n");
    }
    out.truncate(out.trim_end_matches('\n').len());
    out
}

#[cfg(test)]
mod tests {
    use super::{Colour, half_blocks};

    #[test]
    fn half_blocks_hold_two_rows_in_a_line() {
        let (red, blue) = (Colour(255, 0, 0), Colour(0, 0, 255));
        let text = half_blocks(2, &[red, red, blue, blue, red, blue], 80);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 2);
        assert!(lines[0].starts_with("\x1b[38;2;255;0;0m\x1b[48;2;0;0;255m▀▀"));
        assert_eq!(half_blocks(1000, &vec![red; 1000], 100).matches('▀').count(), 100);
    }
}

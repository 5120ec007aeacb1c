//! Pictures in a terminal: as they are where it can show them, else their cells as half blocks in colour.

use std::env;
use std::fmt::Write as _;

use anyhow::Result;
use arrakis_graph::{Backend as _, Colour, Mark, Picture, Png, Style, Theme};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::console::Console;

/// How many bytes of a picture one sequence of kitty's protocol may carry.
const CHUNK: usize = 4096;
/// How many maps of one picture are drawn by half blocks.
const MOST: usize = 8;

/// Prints a picture; nothing where no terminal reads.
pub(crate) fn show(picture: &dyn Picture, style: &Style, console: &Console<'_>) -> Result<()> {
    if !console.is_terminal() {
        return Ok(());
    }
    if knows_kitty(|name| env::var(name).ok()) {
        return Ok(console.line(kitty(&Png.render(picture, style)?))?);
    }
    let scene = picture.scene(&Theme::new(style)?)?;
    let maps = scene.marks.iter().filter_map(|mark| match mark {
        Mark::Cells { columns, fills, .. } => Some((*columns, fills.as_slice())),
        _ => None,
    });
    let maps: Vec<(usize, &[Colour])> = maps.collect();
    if maps.is_empty() {
        console.tell("this terminal shows no pictures; `--plot` or `--out` draws to a file\n")?;
    }
    for (columns, fills) in maps.iter().take(MOST) {
        console.line(half_blocks(*columns, fills, console.room().width))?;
    }
    if maps.len() > MOST {
        console.tell(format_args!("the first {MOST} of {} maps\n", maps.len()))?;
    }
    Ok(())
}

/// Whether the terminal speaks kitty's graphics protocol, as far as the environment tells.
fn knows_kitty(variable: impl Fn(&str) -> Option<String>) -> bool {
    let program = variable("TERM_PROGRAM").unwrap_or_default().to_lowercase();
    variable("KITTY_WINDOW_ID").is_some()
        || variable("TERM").is_some_and(|term| term.contains("kitty") || term.contains("ghostty"))
        || matches!(program.as_str(), "ghostty" | "wezterm")
}

/// A PNG in kitty's graphics protocol.
fn kitty(png: &[u8]) -> String {
    let encoded = STANDARD.encode(png);
    let chunks: Vec<&[u8]> = encoded.as_bytes().chunks(CHUNK).collect();
    let mut out = String::with_capacity(encoded.len() + 32 * chunks.len());
    for (place, chunk) in chunks.iter().enumerate() {
        let first = if place == 0 { "a=T,f=100," } else { "" };
        let more = u8::from(place + 1 < chunks.len());
        // Base64 is ASCII.
        let _ = write!(out, "\x1b_G{first}m={more};{}\x1b\\", String::from_utf8_lossy(chunk));
    }
    out
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
    use super::{Colour, half_blocks, kitty, knows_kitty};

    #[test]
    fn a_terminal_that_speaks_kitty_is_known_by_its_environment() {
        let of = |name: &'static str, value: &'static str| move |asked: &str| (asked == name).then(|| value.to_owned());
        assert!(knows_kitty(of("TERM", "xterm-kitty")) && knows_kitty(of("TERM_PROGRAM", "WezTerm")));
        assert!(!knows_kitty(of("TERM", "xterm-256color")));
    }

    #[test]
    fn a_picture_goes_in_chunks_of_which_the_last_says_so() {
        let text = kitty(&vec![7; 5000]);
        assert!(text.starts_with("\x1b_Ga=T,f=100,m=1;") && text.ends_with("\x1b\\"));
        assert_eq!((text.matches("m=1;").count(), text.matches("m=0;").count()), (1, 1));
    }

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

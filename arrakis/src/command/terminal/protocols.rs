//! The protocols by which a terminal is given a picture: kitty's, and sixels.

use std::fmt::Write as _;

use anyhow::{Context as _, Result};
use arrakis_graph::Pixels;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use icy_sixel::{EncodeOptions, SixelImage};

/// How many bytes of a picture one sequence of kitty's protocol may carry.
const CHUNK: usize = 4096;

/// A PNG in kitty's graphics protocol.
pub(super) fn kitty(png: &[u8]) -> String {
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

/// Pixels in sixels of at most 256 colours.
pub(super) fn sixels(pixels: &Pixels) -> Result<String> {
    let (width, height) = pixels.size();
    let rgba = pixels.rgb().chunks_exact(3).flat_map(|rgb| [rgb[0], rgb[1], rgb[2], 255]).collect();
    // Cells are of one colour each: errors that were spread would speckle them.
    let options = EncodeOptions { diffusion: 0.0, ..EncodeOptions::default() };
    let encoded = SixelImage::try_from_rgba(rgba, width, height).and_then(|image| image.encode_with(&options));
    encoded.context("cannot show the picture as sixels")
}

#[cfg(test)]
mod tests {
    use super::kitty;

    #[test]
    fn a_picture_goes_in_chunks_of_which_the_last_says_so() {
        let text = kitty(&vec![7; 5000]);
        assert!(text.starts_with("\x1b_Ga=T,f=100,m=1;") && text.ends_with("\x1b\\"));
        assert_eq!((text.matches("m=1;").count(), text.matches("m=0;").count()), (1, 1));
    }
}

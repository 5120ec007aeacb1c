//! `--show`: what a terminal is given in each way.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use icy_sixel::SixelImage;

use crate::fixtures::root;

/// What `plot` prints of a run's attention; its exit status and its words.
fn shown(way: &str, more: &[&str]) -> (u8, String, String) {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let model = root().join("tests/golden/gpt2");
    let asked =
        ["arrakis", "plot", "attention", "--tokens", "1,2,3", "--dpi", "96", "--model", model.to_str().unwrap()];
    let status = arrakis::command::run(asked.iter().chain(&[way]).chain(more), &mut out, &mut err);
    (status, String::from_utf8(out).unwrap(), String::from_utf8(err).unwrap())
}

/// Width, height and pixels of the picture as a file.
fn drawn() -> (u32, u32, Vec<u8>) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("x.png");
    let (status, _, said) = shown("--show=text", &["--out", file.to_str().unwrap()]);
    assert_eq!(status, 0, "{said}");
    decoded(&std::fs::read(file).unwrap())
}

fn decoded(file: &[u8]) -> (u32, u32, Vec<u8>) {
    let mut reader = png::Decoder::new(std::io::Cursor::new(file)).read_info().unwrap();
    let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
    let info = reader.next_frame(&mut pixels).unwrap();
    (info.width, info.height, pixels)
}

#[test]
fn sixels_hold_the_picture() {
    let (status, text, _) = shown("--show=sixel", &[]);
    assert_eq!(status, 0);
    assert!(text.starts_with("\x1bP") && text.ends_with("\x1b\\\n"), "a device control string");
    let found = SixelImage::decode(text.trim_end().as_bytes()).unwrap();
    let (width, height, pixels) = drawn();
    assert_eq!((found.width, found.height), (width as usize, height as usize));
    // 256 colours stand for some 650: no pixel is far off, of the cells and the ground hardly any can be told apart.
    let channels = found.pixels.chunks_exact(4).zip(pixels.chunks_exact(3));
    let apart: Vec<u8> = channels
        .map(|(seen, drawn)| (0..3).map(|channel| seen[channel].abs_diff(drawn[channel])).max().unwrap())
        .collect();
    assert!(apart.iter().all(|apart| *apart < 24), "{:?}", apart.iter().max());
    let alike = apart.iter().filter(|apart| **apart <= 8).count();
    assert!(alike * 100 >= apart.len() * 97, "{alike} of {}", apart.len());
    assert_eq!(found.pixels[..4], [255; 4], "the ground is white");
}

#[test]
fn kitty_is_given_the_png() {
    let (status, text, _) = shown("--show=kitty", &[]);
    assert_eq!(status, 0);
    let parts = text.trim_end().split("\x1b\\").filter_map(|part| part.split_once(';'));
    let encoded: String = parts.map(|(_, data)| data).collect();
    assert_eq!(decoded(&STANDARD.decode(encoded).unwrap()), drawn());
}

#[test]
fn text_and_nothing() {
    let (status, text, _) = shown("--show=text", &[]);
    assert!(status == 0 && text.contains("\x1b[38;2;253;231;37m") && text.contains('▀'), "the first token sees itself");
    assert_eq!(shown("--show", &[]), (0, String::new(), String::new()), "no terminal reads");
    let (status, _, said) = shown("--show=ascii", &[]);
    assert!(status == 2 && said.contains("auto, kitty, sixel, text"), "{said}");
}

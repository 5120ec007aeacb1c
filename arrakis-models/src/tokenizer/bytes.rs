//! Tokens that are parts of characters, spelled by their bytes so that they can be told apart.

use std::fmt::Write as _;

use tokenizers::tokenizer::Tokenizer as Inner;

/// The text of a token whose bytes are not all characters: `<0xE2>` for each byte that is none.
///
/// Nothing if its vocabulary does not say which bytes it stands for.
pub(super) fn spelled(inner: &Inner, id: i64) -> Option<String> {
    let piece = inner.id_to_token(u32::try_from(id).ok()?)?;
    // SentencePiece has a token for each byte, written just so; a text may hold the mark itself.
    if (piece.starts_with("<0x") && piece.ends_with('>')) || piece.contains('\u{fffd}') {
        return Some(piece);
    }
    let bytes: Vec<u8> = piece.chars().map(byte).collect::<Option<_>>()?;
    let mut text = String::new();
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        for byte in chunk.invalid() {
            let _ = write!(text, "<0x{byte:02X}>");
        }
    }
    Some(text)
}

/// The byte that a letter of byte-level BPE stands for: those that can be seen for themselves, the others in their order
/// for what follows them.
fn byte(letter: char) -> Option<u8> {
    let seen = |byte: u8| matches!(byte, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF);
    match u8::try_from(u32::from(letter)) {
        Ok(byte) => seen(byte).then_some(byte),
        Err(_) => (0..=0xFF).filter(|byte| !seen(*byte)).nth(u32::from(letter) as usize - 256),
    }
}

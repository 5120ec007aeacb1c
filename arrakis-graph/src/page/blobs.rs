//! Numbers as bytes: what a page holds in place of JSON.

use std::io::{self, Write as _};

use flate2::Compression;
use flate2::write::ZlibEncoder;

/// Bytes that a page's script reads; they are packed in the page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Blob(Vec<u8>);

impl Blob {
    /// Any bytes.
    pub(super) const fn of(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    /// Numbers as little-endian float32.
    pub(super) fn float32(values: &[f64]) -> Self {
        Self(values.iter().flat_map(|value| (*value as f32).to_le_bytes()).collect())
    }

    /// The bytes in zlib's format.
    pub(super) fn packed(&self) -> io::Result<Vec<u8>> {
        let mut encoder = ZlibEncoder::new(Vec::with_capacity(self.0.len() / 3), Compression::new(6));
        encoder.write_all(&self.0)?;
        encoder.finish()
    }
}

/// A share from 0 to 1 as a byte by its root, so that small shares keep their digits: off by 1/255 of the root at most.
pub(super) fn rooted(share: f64) -> u8 {
    (share.clamp(0.0, 1.0).sqrt() * 255.0).round() as u8
}

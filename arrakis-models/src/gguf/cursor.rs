//! Reading forward through a file's bytes, never past their end.

use std::path::Path;

use crate::error::{Error, Result};
use crate::mapped::Mapped;

/// A position in a mapped file.
#[derive(Debug, Clone)]
pub(super) struct Cursor<'a> {
    path: &'a Path,
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(file: &'a Mapped) -> Self {
        Self { path: file.path(), bytes: file.bytes(), at: 0 }
    }

    pub(super) fn position(&self) -> usize {
        self.at
    }

    /// The next `count` bytes; `what` names them in the error if the file ends before.
    pub(super) fn bytes(&mut self, count: usize, what: &str) -> Result<&'a [u8]> {
        let end = self.at.checked_add(count);
        let taken = end.and_then(|end| self.bytes.get(self.at..end)).ok_or_else(|| {
            self.damaged(format!("it ends at byte {} within {what}, which begins at {}", self.bytes.len(), self.at))
        })?;
        self.at += count;
        Ok(taken)
    }

    /// The next `count` elements of `size` bytes.
    pub(super) fn elements(&mut self, count: u64, size: usize, what: &str) -> Result<&'a [u8]> {
        let bytes = usize::try_from(count).ok().and_then(|n| n.checked_mul(size)).unwrap_or(usize::MAX);
        self.bytes(bytes, what)
    }

    pub(super) fn u32(&mut self, what: &str) -> Result<u32> {
        Ok(u32::from_le_bytes(self.array(what)?))
    }

    pub(super) fn u64(&mut self, what: &str) -> Result<u64> {
        Ok(u64::from_le_bytes(self.array(what)?))
    }

    pub(super) fn array<const N: usize>(&mut self, what: &str) -> Result<[u8; N]> {
        let mut array = [0; N];
        array.copy_from_slice(self.bytes(N, what)?);
        Ok(array)
    }

    /// A string: its length in bytes, then UTF-8.
    pub(super) fn text(&mut self, what: &str) -> Result<&'a str> {
        let length = self.u64(what)?;
        let at = self.at;
        let bytes = self.elements(length, 1, what)?;
        std::str::from_utf8(bytes).map_err(|e| self.damaged(format!("{what} at byte {at} is not UTF-8: {e}")))
    }

    pub(super) fn damaged(&self, what: String) -> Error {
        Error::Damaged { path: self.path.to_owned(), what }
    }
}

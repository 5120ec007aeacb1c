//! Reading forward through a file's bytes, never past their end.

use std::ops::Range;
use std::path::Path;

use crate::error::{Error, Result};
use crate::mapped::Mapped;

/// Bytes that a line may have.
const LONGEST_LINE: usize = 256;

/// A position in a mapped file.
#[derive(Debug, Clone)]
pub(crate) struct Cursor<'a> {
    path: &'a Path,
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    pub(crate) fn new(file: &'a Mapped) -> Self {
        Self { path: file.path(), bytes: file.bytes(), at: 0 }
    }

    /// Reads `range` only; positions are those of the file.
    pub(crate) fn within(file: &'a Mapped, range: Range<usize>) -> Self {
        let end = range.end.min(file.bytes().len());
        Self { path: file.path(), bytes: &file.bytes()[..end], at: range.start }
    }

    pub(crate) fn position(&self) -> usize {
        self.at
    }

    pub(crate) fn path(&self) -> &'a Path {
        self.path
    }

    /// The next `count` bytes; `what` names them in the error if the file ends before.
    pub(crate) fn bytes(&mut self, count: usize, what: &str) -> Result<&'a [u8]> {
        let end = self.at.checked_add(count);
        let taken = end.and_then(|end| self.bytes.get(self.at..end)).ok_or_else(|| {
            self.damaged(format!("it ends at byte {} within {what}, which begins at {}", self.bytes.len(), self.at))
        })?;
        self.at += count;
        Ok(taken)
    }

    /// The next `count` elements of `size` bytes.
    pub(crate) fn elements(&mut self, count: u64, size: usize, what: &str) -> Result<&'a [u8]> {
        let bytes = usize::try_from(count).ok().and_then(|n| n.checked_mul(size)).unwrap_or(usize::MAX);
        self.bytes(bytes, what)
    }

    /// What comes before the next line feed, which is passed too.
    pub(crate) fn line(&mut self, what: &str) -> Result<&'a str> {
        let at = self.at;
        let left = self.bytes.get(at..).unwrap_or_default();
        let length = left.iter().take(LONGEST_LINE + 1).position(|&byte| byte == b'\n');
        let length = length.ok_or_else(|| self.damaged(format!("{what} at byte {at} has no end")))?;
        self.at += length + 1;
        std::str::from_utf8(&left[..length]).map_err(|e| self.damaged(format!("{what} at byte {at} is not UTF-8: {e}")))
    }

    pub(crate) fn u8(&mut self, what: &str) -> Result<u8> {
        Ok(u8::from_le_bytes(self.array(what)?))
    }

    pub(crate) fn u16(&mut self, what: &str) -> Result<u16> {
        Ok(u16::from_le_bytes(self.array(what)?))
    }

    pub(crate) fn u32(&mut self, what: &str) -> Result<u32> {
        Ok(u32::from_le_bytes(self.array(what)?))
    }

    pub(crate) fn u64(&mut self, what: &str) -> Result<u64> {
        Ok(u64::from_le_bytes(self.array(what)?))
    }

    pub(crate) fn array<const N: usize>(&mut self, what: &str) -> Result<[u8; N]> {
        let mut array = [0; N];
        array.copy_from_slice(self.bytes(N, what)?);
        Ok(array)
    }

    /// A string: its length in bytes, then UTF-8.
    pub(crate) fn text(&mut self, what: &str) -> Result<&'a str> {
        let length = self.u64(what)?;
        self.text_of(length, what)
    }

    /// A string of `length` bytes of UTF-8.
    pub(crate) fn text_of(&mut self, length: u64, what: &str) -> Result<&'a str> {
        let at = self.at;
        let bytes = self.elements(length, 1, what)?;
        std::str::from_utf8(bytes).map_err(|e| self.damaged(format!("{what} at byte {at} is not UTF-8: {e}")))
    }

    pub(crate) fn damaged(&self, what: String) -> Error {
        Error::Damaged { path: self.path.to_owned(), what }
    }
}

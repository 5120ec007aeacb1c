//! Where the members of a zip archive lie: only as much of the format as `torch.save` writes.
//!
//! Members are stored, not compressed, so that they can be mapped. Taken from PKWARE's APPNOTE 6.3.10, sections 4.3 and
//! 4.5.3.

use std::collections::BTreeMap;
use std::ops::Range;

use crate::cursor::Cursor;
use crate::error::{Error, Result};
use crate::mapped::Mapped;

const LOCAL: [u8; 4] = *b"PK\x03\x04";
const CENTRAL: [u8; 4] = *b"PK\x01\x02";
const END: [u8; 4] = *b"PK\x05\x06";
const END_64: [u8; 4] = *b"PK\x06\x06";
const LOCATOR_64: [u8; 4] = *b"PK\x06\x07";
/// Bytes of the end record without its comment, and of the 64-bit locator before it.
const END_LENGTH: usize = 22;
const LOCATOR_LENGTH: usize = 20;
/// A 32-bit field whose value stands in the 64-bit extra field.
const ELSEWHERE: u64 = 0xffff_ffff;
/// The extra field of 64-bit sizes.
const EXTRA_64: u16 = 1;

/// Whether a file begins as an archive does.
pub(super) fn is_zip(file: &Mapped) -> bool {
    file.bytes().starts_with(&LOCAL)
}

/// The members of an archive and the bytes of each, which lie before the directory.
pub(super) fn members(file: &Mapped) -> Result<BTreeMap<&str, Range<usize>>> {
    let damaged = |what: String| Error::Damaged { path: file.path().to_owned(), what };
    let (count, directory) = directory(file)?;
    let mut cursor = Cursor::within(file, directory.clone());
    let mut members = BTreeMap::new();
    for _ in 0..count {
        let (name, bytes) = member(file, &mut cursor, directory.start)?;
        if members.insert(name, bytes).is_some() {
            return Err(damaged(format!("member `{name}` is given twice")));
        }
    }
    Ok(members)
}

/// How many members there are, and where the directory lies.
fn directory(file: &Mapped) -> Result<(u64, Range<usize>)> {
    let cut = || Error::Damaged {
        path: file.path().to_owned(),
        what: "it is cut short: it begins as a zip archive and has no directory at its end".to_owned(),
    };
    let bytes = file.bytes();
    let last = bytes.len().checked_sub(END_LENGTH).ok_or_else(cut)?;
    let first = last.saturating_sub(usize::from(u16::MAX));
    let is_end = |&at: &usize| {
        let comment = usize::from(u16::from_le_bytes([bytes[at + 20], bytes[at + 21]]));
        bytes[at..].starts_with(&END) && at + END_LENGTH + comment == bytes.len()
    };
    let end = (first..=last).rev().find(is_end).ok_or_else(cut)?;
    let mut cursor = Cursor::within(file, end + 10..bytes.len());
    let mut count = u64::from(cursor.u16("the number of members")?);
    let mut size = u64::from(cursor.u32("the size of the directory")?);
    let mut offset = u64::from(cursor.u32("the place of the directory")?);
    let locator = end.checked_sub(LOCATOR_LENGTH).filter(|&at| bytes[at..].starts_with(&LOCATOR_64));
    if let Some(locator) = locator {
        let at = Cursor::within(file, locator + 8..end).u64("the place of the 64-bit end")?;
        let mut cursor = Cursor::within(file, usize::try_from(at).unwrap_or(usize::MAX)..locator);
        if cursor.array("the 64-bit end")? != END_64 {
            return Err(cut());
        }
        cursor.bytes(28, "the 64-bit end")?;
        count = cursor.u64("the number of members")?;
        size = cursor.u64("the size of the directory")?;
        offset = cursor.u64("the place of the directory")?;
    }
    let directory = usize::try_from(offset).ok().zip(usize::try_from(offset.saturating_add(size)).ok());
    match directory {
        Some((start, stop)) if stop <= end => Ok((count, start..stop)),
        _ => Err(cut()),
    }
}

/// The next entry of the directory: its name and where its data lie.
fn member<'a>(file: &'a Mapped, cursor: &mut Cursor<'a>, directory: usize) -> Result<(&'a str, Range<usize>)> {
    if cursor.array("an entry of the directory")? != CENTRAL {
        return Err(cursor.damaged(format!("no entry of the directory before byte {}", cursor.position())));
    }
    cursor.bytes(4, "an entry of the directory")?;
    let (flags, method) = (cursor.u16("the flags of a member")?, cursor.u16("the method of a member")?);
    cursor.bytes(8, "an entry of the directory")?;
    let mut stored = u64::from(cursor.u32("the size of a member")?);
    let mut size = u64::from(cursor.u32("the size of a member")?);
    let name_length = cursor.u16("the length of a name")?;
    let extra_length = cursor.u16("the length of an extra field")?;
    let comment_length = cursor.u16("the length of a comment")?;
    cursor.bytes(8, "an entry of the directory")?;
    let mut offset = u64::from(cursor.u32("the place of a member")?);
    let name = cursor.text_of(name_length.into(), "the name of a member")?;
    let extra = cursor.position()..cursor.position() + usize::from(extra_length);
    cursor.bytes(usize::from(extra_length) + usize::from(comment_length), "an entry of the directory")?;
    // In this order, and only those that the entry itself leaves open.
    let open: Vec<&mut u64> = [&mut size, &mut stored, &mut offset].into_iter().filter(|v| **v == ELSEWHERE).collect();
    fill(&mut Cursor::within(file, extra), open)?;
    let wrong = |what: &str| Error::Damaged { path: file.path().to_owned(), what: format!("member `{name}` {what}") };
    if method != 0 || flags & 1 != 0 || stored != size {
        let what = format!("member `{name}`, which is compressed or encrypted,");
        return Err(Error::Unsupported { path: file.path().to_owned(), what });
    }
    let at = usize::try_from(offset).unwrap_or(usize::MAX);
    let mut local = Cursor::within(file, at..directory);
    if local.array("the header of a member")? != LOCAL {
        return Err(wrong("does not begin where the directory says"));
    }
    local.bytes(22, "the header of a member")?;
    let lengths = (local.u16("the length of a name")?, local.u16("the length of an extra field")?);
    let start = local.position() + usize::from(lengths.0) + usize::from(lengths.1);
    match usize::try_from(size).ok().and_then(|size| start.checked_add(size)) {
        Some(end) if end <= directory => Ok((name, start..end)),
        _ => Err(wrong(&format!("has {size} bytes at {start}, and the directory begins at {directory}"))),
    }
}

/// Reads the 64-bit values of an entry from its extra fields.
fn fill(cursor: &mut Cursor, mut open: Vec<&mut u64>) -> Result<()> {
    while !open.is_empty() {
        let (id, length) = (cursor.u16("a 64-bit extra field")?, cursor.u16("a 64-bit extra field")?);
        if id == EXTRA_64 {
            for value in open.drain(..) {
                *value = cursor.u64("a 64-bit extra field")?;
            }
        } else {
            cursor.bytes(length.into(), "an extra field")?;
        }
    }
    Ok(())
}

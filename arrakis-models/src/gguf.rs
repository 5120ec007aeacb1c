//! GGUF files, versions 2 and 3: metadata and tensors, checked against the file's length before they are used.
//!
//! Memory stays in proportion to the file: an array of metadata is a range of the map until it is asked for, so
//! reading the header takes at most eight times its bytes.

mod blocks;
mod gpt2;
mod llama;
mod metadata;
mod translation;

use std::collections::BTreeSet;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use serde_json::{Map, Value};

pub(crate) use blocks::Blocks;
use blocks::Format;
pub(crate) use metadata::Metadata;

use crate::cursor::Cursor;
use crate::error::{Error, Result};
use crate::mapped::Mapped;
use crate::tensors::{Coding, Layout, Stored, Tensors};

const MAGIC: &[u8; 4] = b"GGUF";
/// Axes that ggml's tensors may have.
const MOST_AXES: u32 = 4;
/// Where tensors begin unless `general.alignment` says otherwise, bytes.
const ALIGNMENT: u64 = 32;

/// An opened GGUF file.
#[derive(Debug)]
pub(crate) struct Gguf {
    pub(crate) metadata: Metadata,
    file: Arc<Mapped>,
    tensors: Vec<Place>,
}

/// A tensor as the file describes it.
#[derive(Debug)]
struct Place {
    name: String,
    /// Outermost axis first, the reverse of the file's order.
    shape: Vec<i64>,
    format: Format,
    bytes: Range<usize>,
}

impl Gguf {
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let file = Mapped::open(path)?;
        let mut cursor = Cursor::new(&file);
        let damaged = |what: String| Error::Damaged { path: path.to_owned(), what };
        if cursor.bytes(4, "magic")? != MAGIC {
            return Err(damaged("it is no GGUF file".to_owned()));
        }
        match cursor.u32("version")? {
            2 | 3 => {}
            version if version.swap_bytes() <= 3 => {
                return Err(Error::Unsupported { path: path.to_owned(), what: "a big-endian GGUF file".to_owned() });
            }
            version => {
                return Err(Error::Unsupported { path: path.to_owned(), what: format!("GGUF version {version}") });
            }
        }
        let n_tensors = cursor.u64("tensor count")?;
        let n_keys = cursor.u64("metadata count")?;
        let metadata = Metadata::read(&file, &mut cursor, n_keys)?;
        let mut places = Vec::new();
        for _ in 0..n_tensors {
            places.push(place(&mut cursor, path)?);
        }
        let alignment = metadata.integer("general.alignment")?.unwrap_or(ALIGNMENT);
        if !alignment.is_power_of_two() || alignment > 1 << 20 {
            return Err(damaged(format!("`general.alignment` is {alignment}")));
        }
        let start = cursor.position().next_multiple_of(alignment as usize);
        let tensors = settle(places, start, alignment, &file)?;
        Ok(Self { metadata, file, tensors })
    }

    /// Config and tensors as Hugging Face names them.
    pub(crate) fn translate(&self) -> Result<(Map<String, Value>, Tensors)> {
        translation::translate(self)
    }

    fn place(&self, name: &str) -> Option<&Place> {
        self.tensors.iter().find(|place| place.name == name)
    }

    fn unsupported(&self, what: impl Into<String>) -> Error {
        Error::Unsupported { path: self.file.path().to_owned(), what: what.into() }
    }

    fn stored(&self, place: &Place, layout: Layout) -> Stored {
        let mut shape = place.shape.clone();
        if layout == Layout::Transposed {
            shape.reverse();
        }
        let coding = place.format.blocks().map_or(Coding::Plain, Coding::Blocks);
        let kind = place.format.kind();
        Stored { file: Arc::clone(&self.file), bytes: place.bytes.clone(), shape, kind, coding, layout }
    }
}

/// One tensor's description, with its offset from the start of the data as `bytes.start`.
fn place(cursor: &mut Cursor, path: &Path) -> Result<Place> {
    let name = cursor.text("tensor name")?.to_owned();
    let wrong = |what: String| Error::DamagedTensor { path: path.to_owned(), tensor: name.clone(), what };
    let n_axes = cursor.u32("number of axes")?;
    if n_axes > MOST_AXES {
        return Err(wrong(format!("{n_axes} axes")));
    }
    let mut shape = Vec::new();
    for _ in 0..n_axes {
        let size = cursor.u64("axis")?;
        shape.insert(0, i64::try_from(size).map_err(|_| wrong(format!("an axis of {size}")))?);
    }
    let id = cursor.u32("type")?;
    let format = Format::of(id).map_err(|name| {
        wrong(format!(
            "its type {name} is not supported; F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q4_K, Q5_K and Q6_K are"
        ))
    })?;
    let (elements, size) = format.block();
    let row = shape.last().copied().unwrap_or(1);
    if !(row as usize).is_multiple_of(elements) {
        return Err(wrong(format!("a row of {row} is not whole blocks of {elements}")));
    }
    let count = shape.iter().try_fold(1_usize, |n, &axis| n.checked_mul(axis as usize));
    let bytes =
        count.and_then(|n| (n / elements).checked_mul(size)).ok_or_else(|| wrong(format!("shape {shape:?}")))?;
    let offset = usize::try_from(cursor.u64("offset")?).unwrap_or(usize::MAX);
    let end = offset.checked_add(bytes).ok_or_else(|| wrong(format!("offset {offset}")))?;
    Ok(Place { name, shape, format, bytes: offset..end })
}

/// Moves offsets to where the data start, and checks that tensors are in the file, aligned and apart.
fn settle(mut places: Vec<Place>, start: usize, alignment: u64, file: &Mapped) -> Result<Vec<Place>> {
    places.sort_by_key(|place| (place.bytes.start, place.bytes.end));
    let left = file.bytes().len().saturating_sub(start);
    let mut end = 0;
    let mut names = BTreeSet::new();
    for place in &mut places {
        let bytes = place.bytes.clone();
        let wrong =
            |what: String| Err(Error::DamagedTensor { path: file.path().to_owned(), tensor: place.name.clone(), what });
        if !(bytes.start as u64).is_multiple_of(alignment) {
            return wrong(format!("offset {} is not a multiple of {alignment}", bytes.start));
        }
        if bytes.end > left {
            return wrong(format!("it ends at {}, and the file has {left} bytes of data: it is cut short", bytes.end));
        }
        if bytes.start < end {
            return wrong(format!(
                "it begins at {} and overlaps the tensor before it, which ends at {end}",
                bytes.start
            ));
        }
        if !names.insert(place.name.clone()) {
            return wrong("it is given twice".to_owned());
        }
        end = bytes.end;
        place.bytes = start + bytes.start..start + bytes.end;
    }
    Ok(places)
}

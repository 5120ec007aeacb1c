//! The metadata of a GGUF file: named values, arrays left in the map until they are asked for.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use crate::cursor::Cursor;
use crate::error::{Error, Result};
use crate::mapped::Mapped;

/// Arrays of arrays may be this deep.
const DEEPEST: usize = 8;

const TEXT: u32 = 8;
const ARRAY: u32 = 9;

/// Named values.
#[derive(Debug)]
pub(crate) struct Metadata {
    file: Arc<Mapped>,
    values: BTreeMap<String, Value>,
}

#[derive(Debug, Clone)]
enum Value {
    Integer(i128),
    Float(f64),
    Bool(bool),
    Text(Range<usize>),
    Array { element: u32, count: u64, bytes: Range<usize> },
}

impl Metadata {
    pub(super) fn read(file: &Arc<Mapped>, cursor: &mut Cursor, count: u64) -> Result<Self> {
        let mut values = BTreeMap::new();
        for _ in 0..count {
            let key = cursor.text("metadata key")?;
            let kind = cursor.u32(key)?;
            let value = value(cursor, kind, key)?;
            if values.insert(key.to_owned(), value).is_some() {
                return Err(cursor.damaged(format!("metadata `{key}` is given twice")));
            }
        }
        Ok(Self { file: Arc::clone(file), values })
    }

    pub(crate) fn keys(&self) -> impl Iterator<Item = &str> {
        self.values.keys().map(String::as_str)
    }

    /// A whole number that is not negative; of an array whose elements are equal, that element.
    pub(crate) fn integer(&self, key: &str) -> Result<Option<u64>> {
        let whole = |number: i128| u64::try_from(number).map_err(|_| self.wrong(key, "a size"));
        match self.values.get(key) {
            None => Ok(None),
            Some(Value::Integer(number)) => whole(*number).map(Some),
            Some(Value::Array { .. }) => {
                let numbers = self.integers(key)?.unwrap_or_default();
                match numbers.split_first() {
                    Some((first, rest)) if rest.iter().all(|other| other == first) => whole((*first).into()).map(Some),
                    _ => Err(self.wrong(key, "one number for all layers")),
                }
            }
            Some(_) => Err(self.wrong(key, "a whole number")),
        }
    }

    /// A number; one stored in single precision is the shortest decimal that rounds to it.
    pub(crate) fn float(&self, key: &str) -> Result<Option<f64>> {
        match self.values.get(key) {
            None => Ok(None),
            Some(Value::Float(number)) if number.is_finite() => Ok(Some(*number)),
            Some(_) => Err(self.wrong(key, "a finite number")),
        }
    }

    pub(crate) fn bool(&self, key: &str) -> Result<Option<bool>> {
        match self.values.get(key) {
            None => Ok(None),
            Some(Value::Bool(value)) => Ok(Some(*value)),
            Some(_) => Err(self.wrong(key, "a boolean")),
        }
    }

    pub(crate) fn text(&self, key: &str) -> Result<Option<&str>> {
        match self.values.get(key) {
            None => Ok(None),
            Some(Value::Text(range)) => Ok(self.file.bytes().get(range.clone()).and_then(|b| str::from_utf8(b).ok())),
            Some(_) => Err(self.wrong(key, "a string")),
        }
    }

    pub(crate) fn texts(&self, key: &str) -> Result<Option<Vec<&str>>> {
        self.elements(key, "an array of strings", |cursor, element| match element {
            TEXT => Ok(Some(cursor.text(key)?)),
            _ => Ok(None),
        })
    }

    pub(crate) fn integers(&self, key: &str) -> Result<Option<Vec<i64>>> {
        self.elements(key, "an array of whole numbers", |cursor, element| match value(cursor, element, key)? {
            Value::Integer(number) => Ok(i64::try_from(number).ok()),
            _ => Ok(None),
        })
    }

    pub(crate) fn floats(&self, key: &str) -> Result<Option<Vec<f64>>> {
        self.elements(key, "an array of numbers", |cursor, element| match value(cursor, element, key)? {
            Value::Float(number) => Ok(Some(number)),
            _ => Ok(None),
        })
    }

    /// The elements of an array, each read by `read`, which gives `None` for one of another type.
    fn elements<'a, T>(
        &'a self,
        key: &str,
        wanted: &str,
        read: impl Fn(&mut Cursor<'a>, u32) -> Result<Option<T>>,
    ) -> Result<Option<Vec<T>>> {
        let (element, count, bytes) = match self.values.get(key) {
            None => return Ok(None),
            Some(Value::Array { element, count, bytes }) => (*element, *count, bytes),
            Some(_) => return Err(self.wrong(key, wanted)),
        };
        let mut cursor = Cursor::new(&self.file);
        cursor.bytes(bytes.start, key)?;
        let mut elements = Vec::with_capacity((count as usize).min(bytes.len()));
        for _ in 0..count {
            elements.push(read(&mut cursor, element)?.ok_or_else(|| self.wrong(key, wanted))?);
        }
        Ok(Some(elements))
    }

    /// Adds every value whose key begins so to a digest.
    pub(crate) fn digest(&self, beginning: &str, hasher: &mut blake3::Hasher) {
        for (key, value) in self.values.iter().filter(|(key, _)| key.starts_with(beginning)) {
            let (what, bytes) = match value {
                Value::Text(bytes) => ("text".to_owned(), bytes.clone()),
                Value::Array { element, count, bytes } => (format!("{count} of {element}"), bytes.clone()),
                scalar => (format!("{scalar:?}"), 0..0),
            };
            hasher.update(format!("\n{key} {what} {}\n", bytes.len()).as_bytes());
            hasher.update_rayon(self.file.bytes().get(bytes).unwrap_or_default());
        }
    }

    pub(crate) fn wrong(&self, key: &str, wanted: &str) -> Error {
        Error::Damaged { path: self.file.path().to_owned(), what: format!("metadata `{key}` is not {wanted}") }
    }
}

fn value(cursor: &mut Cursor, kind: u32, key: &str) -> Result<Value> {
    Ok(match kind {
        0 => Value::Integer(u8::from_le_bytes(cursor.array(key)?).into()),
        1 => Value::Integer(i8::from_le_bytes(cursor.array(key)?).into()),
        2 => Value::Integer(u16::from_le_bytes(cursor.array(key)?).into()),
        3 => Value::Integer(i16::from_le_bytes(cursor.array(key)?).into()),
        4 => Value::Integer(cursor.u32(key)?.into()),
        5 => Value::Integer(i32::from_le_bytes(cursor.array(key)?).into()),
        6 => Value::Float(shortest(f32::from_le_bytes(cursor.array(key)?))),
        7 => match cursor.array::<1>(key)? {
            [0] => Value::Bool(false),
            [1] => Value::Bool(true),
            [other] => return Err(cursor.damaged(format!("metadata `{key}` is the boolean {other}"))),
        },
        TEXT => {
            let length = cursor.text(key)?.len();
            Value::Text(cursor.position() - length..cursor.position())
        }
        ARRAY => {
            let element = cursor.u32(key)?;
            let count = cursor.u64(key)?;
            let start = cursor.position();
            skip(cursor, element, count, key, DEEPEST)?;
            Value::Array { element, count, bytes: start..cursor.position() }
        }
        10 => Value::Integer(cursor.u64(key)?.into()),
        11 => Value::Integer(i64::from_le_bytes(cursor.array(key)?).into()),
        12 => Value::Float(f64::from_le_bytes(cursor.array(key)?)),
        other => return Err(cursor.damaged(format!("metadata `{key}` is of unknown type {other}"))),
    })
}

/// Passes over the elements of an array, checking that they are there.
fn skip(cursor: &mut Cursor, element: u32, count: u64, key: &str, deeper: usize) -> Result<()> {
    let size = match element {
        0 | 1 | 7 => 1,
        2 | 3 => 2,
        4..=6 => 4,
        10..=12 => 8,
        TEXT => {
            for _ in 0..count {
                cursor.text(key)?;
            }
            return Ok(());
        }
        ARRAY if deeper > 0 => {
            for _ in 0..count {
                let element = cursor.u32(key)?;
                let count = cursor.u64(key)?;
                skip(cursor, element, count, key, deeper - 1)?;
            }
            return Ok(());
        }
        other => return Err(cursor.damaged(format!("metadata `{key}` has elements of unknown type {other}"))),
    };
    cursor.elements(count, size, key)?;
    Ok(())
}

/// `1e-5` rather than `9.999999747378752e-6`: what the number was before it was stored.
fn shortest(number: f32) -> f64 {
    number.to_string().parse().unwrap_or_else(|_| number.into())
}

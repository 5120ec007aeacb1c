//! The form before PyTorch 1.6: five pickles, then the storages one after the other.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::pickle::{Pickle, Value};
use super::state::{self, Storage, Storages};
use crate::cursor::Cursor;
use crate::error::{Error, Result};
use crate::mapped::Mapped;
use crate::tensors::Tensors;

/// The number in the first pickle, little-endian.
const MAGIC: [u8; 10] = [0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19];
const PROTOCOL: i64 = 1001;

/// Whether a file begins with a pickle.
pub(super) fn is_legacy(file: &Mapped) -> bool {
    file.bytes().first() == Some(&0x80)
}

/// Adds the tensors of a file: magic number, protocol, byte order, state dict, keys of the storages; then for each of
/// these its number of elements and the elements.
pub(super) fn read(file: &Arc<Mapped>, tensors: &mut Tensors) -> Result<()> {
    let damaged = |what: String| Error::Damaged { path: file.path().to_owned(), what };
    let cursor = &mut Cursor::new(file);
    match Pickle::read(cursor)?.root {
        Value::Long(number) if number == MAGIC => {}
        _ => return Err(damaged("it is a pickle but no PyTorch file: its magic number is missing".to_owned())),
    }
    match Pickle::read(cursor)?.root {
        Value::Int(PROTOCOL) => {}
        _ => return Err(damaged(format!("its protocol is not {PROTOCOL}"))),
    }
    let system = Pickle::read(cursor)?;
    let entries = system.dict(system.root).unwrap_or_default();
    if !entries.iter().any(|entry| matches!(entry, (Value::Text("little_endian"), Value::Bool(true)))) {
        return Err(Error::Unsupported {
            path: file.path().to_owned(),
            what: "a byte order but little-endian".to_owned(),
        });
    }
    let pickle = Pickle::read(cursor)?;
    let keys = Pickle::read(cursor)?;
    let keys = keys.list(keys.root).ok_or_else(|| damaged("it has no list of storages".to_owned()))?;
    let storages = storages(&pickle, keys, cursor)?;
    if cursor.position() != file.bytes().len() {
        let left = file.bytes().len() - cursor.position();
        return Err(damaged(format!("{left} bytes after the last storage")));
    }
    state::read(&pickle, &storages, file, tensors)
}

/// Where the storages lie, in the order of `keys`; the pickle says how large their elements are.
fn storages<'a>(pickle: &Pickle<'a>, keys: &[Value<'a>], cursor: &mut Cursor<'a>) -> Result<Storages<'a>> {
    let mut described = BTreeMap::new();
    for value in pickle.storages() {
        let storage = Storage::of(pickle, value).map_err(|what| cursor.damaged(what))?;
        described.insert(storage.key, storage);
    }
    let mut storages = Storages::new();
    for key in keys {
        let Value::Text(key) = *key else { return Err(cursor.damaged("the key of a storage is no text".to_owned())) };
        let storage = described.get(key).ok_or_else(|| cursor.damaged(format!("no tensor has storage `{key}`")))?;
        let count = cursor.u64("the size of a storage")?;
        if usize::try_from(count) != Ok(storage.count()) {
            let what = format!("storage `{key}` has {count} elements and should have {}", storage.count());
            return Err(cursor.damaged(what));
        }
        let start = cursor.position();
        cursor.bytes(storage.bytes().unwrap_or(usize::MAX), &format!("storage `{key}`"))?;
        if storages.insert(key, start..cursor.position()).is_some() {
            return Err(cursor.damaged(format!("storage `{key}` is given twice")));
        }
    }
    Ok(storages)
}

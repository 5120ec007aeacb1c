//! The tensors that a state dict describes, each checked against the storage it lies in.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use tch::Kind;

use super::global::Global;
use super::pickle::{Pickle, Value};
use crate::error::{Error, Result};
use crate::mapped::Mapped;
use crate::tensors::{Coding, Layout, MOST_AXES, Stored, Tensors};

/// Where in the file each storage lies, by its key.
pub(super) type Storages<'a> = BTreeMap<&'a str, Range<usize>>;

/// A storage as a pickle describes it.
pub(super) struct Storage<'a> {
    pub(super) key: &'a str,
    /// `None` for plain bytes.
    kind: Option<Kind>,
    count: usize,
}

impl<'a> Storage<'a> {
    pub(super) fn of(pickle: &Pickle<'a>, value: Value) -> Result<Self, String> {
        let described = pickle.storage(value).ok_or("it has no storage")?;
        let (Value::Text("storage"), kind, Value::Text(key), Value::Text(_), Value::Int(count)) = (match *described {
            [word, kind, key, location, count] | [word, kind, key, location, count, Value::None] => {
                (word, kind, key, location, count)
            }
            _ => return Err("its storage is not described by a kind, a key, a place and a size".to_owned()),
        }) else {
            return Err("its storage is not described by a kind, a key, a place and a size".to_owned());
        };
        let kind = match kind {
            Value::Global(Global::Storage(kind)) => Some(kind),
            Value::Global(Global::UntypedStorage) => None,
            _ => return Err(format!("storage `{key}` has no kind")),
        };
        let count = usize::try_from(count).map_err(|_| format!("storage `{key}` has {count} elements"))?;
        Ok(Self { key, kind, count })
    }

    /// Bytes of the whole storage; `None` if there are too many to count.
    pub(super) fn bytes(&self) -> Option<usize> {
        self.count.checked_mul(self.kind.map_or(1, Kind::elt_size_in_bytes))
    }

    pub(super) fn count(&self) -> usize {
        self.count
    }
}

/// Adds every tensor of a state dict.
pub(super) fn read(pickle: &Pickle, storages: &Storages, file: &Arc<Mapped>, tensors: &mut Tensors) -> Result<()> {
    let damaged = |what: &str| Error::Damaged { path: file.path().to_owned(), what: what.to_owned() };
    let entries = pickle.dict(pickle.root).ok_or_else(|| damaged("it holds no dict of tensors"))?;
    for &(name, value) in entries {
        let Value::Text(name) = name else { return Err(damaged("a name of its dict is no text")) };
        let stored = tensor(pickle, value, storages, file).map_err(|what| Error::DamagedTensor {
            path: file.path().to_owned(),
            tensor: name.to_owned(),
            what,
        })?;
        tensors.insert(name.to_owned(), stored)?;
    }
    Ok(())
}

fn tensor(pickle: &Pickle, value: Value, storages: &Storages, file: &Arc<Mapped>) -> Result<Stored, String> {
    let value = match pickle.call(value) {
        Some((Global::Parameter, [tensor, ..])) => *tensor,
        _ => value,
    };
    let (storage, offset, shape, strides, dtype) = match pickle.call(value) {
        Some((Global::Tensor, &[storage, offset, shape, strides, ref rest @ ..])) => {
            // The conjugate and negative bits, which no weight has.
            let plain = |bits: Value| matches!(bits, Value::None) || pickle.dict(bits).is_some_and(<[_]>::is_empty);
            if !rest.get(2).is_none_or(|&bits| plain(bits)) {
                return Err("it has metadata, which are not supported".to_owned());
            }
            (storage, offset, shape, strides, None)
        }
        Some((
            Global::TensorOfDtype,
            &[storage, offset, shape, strides, _, _, Value::Global(Global::Dtype(kind)), ..],
        )) => (storage, offset, shape, strides, Some(kind)),
        _ => return Err("it is no tensor: a state dict holds nothing else".to_owned()),
    };
    let storage = Storage::of(pickle, storage)?;
    let kind = match (storage.kind, dtype) {
        (Some(kind), None) | (None, Some(kind)) => kind,
        (Some(kind), Some(dtype)) if kind == dtype => kind,
        _ => return Err(format!("storage `{}` does not say its kind, or another", storage.key)),
    };
    let place = storages.get(storage.key).ok_or_else(|| format!("its storage `{}` is not in the file", storage.key))?;
    if storage.bytes() != Some(place.len()) {
        let (key, count, kind) = (storage.key, storage.count, storage.kind);
        let what = kind.map_or_else(|| "bytes".to_owned(), |kind| format!("{kind:?} elements"));
        return Err(format!(
            "storage `{key}` should have {count} {what}, and the file has {} bytes of it",
            place.len()
        ));
    }
    let sizes = |value, what: &str| {
        let items = pickle.tuple(value).ok_or_else(|| format!("its {what} is no tuple"))?;
        items.iter().map(|&item| size(item, what)).collect::<Result<Vec<i64>, _>>()
    };
    let (offset, shape, strides) = (size(offset, "offset")?, sizes(shape, "shape")?, sizes(strides, "strides")?);
    let span = span(offset, &shape, &strides, place.len() / kind.elt_size_in_bytes())?;
    let bytes = place.start + span.start * kind.elt_size_in_bytes()..place.start + span.end * kind.elt_size_in_bytes();
    let layout = layout(&shape, &strides);
    Ok(Stored { file: Arc::clone(file), bytes, shape, kind, coding: Coding::Plain, layout })
}

fn size(value: Value, what: &str) -> Result<i64, String> {
    match value {
        Value::Int(size) if size >= 0 => Ok(size),
        Value::Int(size) => Err(format!("its {what} has {size}")),
        _ => Err(format!("its {what} is no whole number of 64 bits")),
    }
}

/// The elements of a storage of `count` from a tensor's first to its last.
///
/// A tensor has no more elements than its storage, so that a copy of it costs no more than the file.
fn span(offset: i64, shape: &[i64], strides: &[i64], count: usize) -> Result<Range<usize>, String> {
    let wrong = || format!("shape {shape:?}, strides {strides:?} and offset {offset} do not fit a storage of {count}");
    if shape.len() != strides.len() || shape.len() > MOST_AXES {
        return Err(format!("{} axes and {} strides; at most {MOST_AXES} are supported", shape.len(), strides.len()));
    }
    if shape.contains(&0) {
        return Ok(0..0);
    }
    let elements = shape.iter().try_fold(1_i64, |n, &axis| n.checked_mul(axis));
    let last =
        shape.iter().zip(strides).try_fold(offset, |at, (&axis, stride)| at.checked_add(stride.checked_mul(axis - 1)?));
    let fits = |n: i64| usize::try_from(n).is_ok_and(|n| n <= count);
    match (elements, last) {
        (Some(elements), Some(last)) if last < i64::MAX && fits(elements) && fits(last + 1) => {
            Ok(offset as usize..last as usize + 1)
        }
        _ => Err(wrong()),
    }
}

fn layout(shape: &[i64], strides: &[i64]) -> Layout {
    let mut dense = 1;
    let mut is_dense = true;
    for (&axis, &stride) in shape.iter().zip(strides).rev() {
        is_dense &= axis == 1 || stride == dense;
        dense *= axis;
    }
    if is_dense || shape.contains(&0) {
        return Layout::Same;
    }
    let mut all = [0; MOST_AXES];
    all[..strides.len()].copy_from_slice(strides);
    Layout::Strided(all)
}

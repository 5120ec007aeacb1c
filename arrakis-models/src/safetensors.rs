//! Safetensors files, single and sharded: headers are checked to the byte before anything is mapped as a tensor.

use std::path::Path;
use std::sync::Arc;

use ::safetensors::Dtype;
use ::safetensors::tensor::TensorInfo;
use serde_json::{Map, Value};
use tch::Kind;

use crate::error::{Error, Result};
use crate::mapped::Mapped;
use crate::tensors::{Coding, Layout, Stored, Tensors};

/// Bytes of the header's length, at the start of the file.
const LENGTH: usize = 8;
/// Longest header that the format allows.
const LONGEST_HEADER: usize = 100_000_000;
/// The one key of the header that is no tensor.
const METADATA: &str = "__metadata__";

/// Adds the tensors of one file.
pub(crate) fn read(path: &Path, tensors: &mut Tensors) -> Result<()> {
    let file = Mapped::open(path)?;
    for (name, info, start) in header(&file)? {
        let damaged = |what: String| Error::DamagedTensor { path: path.to_owned(), tensor: name.clone(), what };
        let kind = kind(info.dtype).ok_or_else(|| damaged(format!("dtype `{}` is not supported", info.dtype)))?;
        let shape = info.shape.iter().map(|&size| size as i64).collect();
        let bytes = start + info.data_offsets.0..start + info.data_offsets.1;
        let (coding, layout) = (Coding::Plain, Layout::Same);
        tensors.insert(name, Stored { file: Arc::clone(&file), bytes, shape, kind, coding, layout })?;
    }
    Ok(())
}

/// Every tensor's name and description, and where in the file the data begin.
///
/// Holds afterwards: the tensors lie one after the other, without gap or overlap, from the end of the header to the
/// end of the file, and each has as many bytes as its shape and dtype ask for.
fn header(file: &Mapped) -> Result<Vec<(String, TensorInfo, usize)>> {
    let damaged = |what: String| Error::Damaged { path: file.path().to_owned(), what };
    let bytes = file.bytes();
    let length = bytes.first_chunk::<LENGTH>().ok_or_else(|| damaged("it is shorter than 8 bytes".into()))?;
    let length = usize::try_from(u64::from_le_bytes(*length)).unwrap_or(usize::MAX);
    if length > LONGEST_HEADER {
        return Err(damaged(format!("it is no safetensors file: a header of {length} bytes")));
    }
    let Some(text) = bytes[LENGTH..].get(..length) else {
        let left = bytes.len() - LENGTH;
        return Err(damaged(format!("the header should have {length} bytes and only {left} are there")));
    };
    let json: Map<String, Value> =
        serde_json::from_slice(text).map_err(|e| damaged(format!("the header is no JSON object: {e}")))?;
    let start = LENGTH + length;
    let mut entries = Vec::with_capacity(json.len());
    for (name, value) in json {
        if name != METADATA {
            let info: TensorInfo =
                serde_json::from_value(value).map_err(|e| damaged(format!("header of tensor `{name}`: {e}")))?;
            entries.push((name, info, start));
        }
    }
    entries.sort_by_key(|(_, info, _)| info.data_offsets);
    let mut end = 0;
    for (name, info, _) in &entries {
        let wrong = |what: String| Error::DamagedTensor { path: file.path().to_owned(), tensor: name.clone(), what };
        let (first, last) = info.data_offsets;
        let left = bytes.len() - start;
        if first < end {
            return Err(wrong(format!("it begins at {first} and overlaps the tensor before it, which ends at {end}")));
        }
        if first > end {
            return Err(wrong(format!("it begins at {first}, {} bytes after the tensor before it", first - end)));
        }
        if last > left || last < first {
            return Err(wrong(format!("it ends at {last}, and the file has {left} bytes of data: it is cut short")));
        }
        let bits = info.shape.iter().try_fold(info.dtype.bitsize(), |n, &size| n.checked_mul(size));
        if bits != (last - first).checked_mul(8) {
            return Err(wrong(format!("{} bytes do not hold {:?} of `{}`", last - first, info.shape, info.dtype)));
        }
        end = last;
    }
    if end != bytes.len() - start {
        return Err(damaged(format!("{} bytes after the last tensor", bytes.len() - start - end)));
    }
    Ok(entries)
}

/// LibTorch's kind for a safetensors dtype; `None` if there is none.
fn kind(dtype: Dtype) -> Option<Kind> {
    Some(match dtype {
        Dtype::BOOL => Kind::Bool,
        Dtype::U8 => Kind::Uint8,
        Dtype::I8 => Kind::Int8,
        Dtype::I16 => Kind::Int16,
        Dtype::I32 => Kind::Int,
        Dtype::I64 => Kind::Int64,
        Dtype::F16 => Kind::Half,
        Dtype::BF16 => Kind::BFloat16,
        Dtype::F32 => Kind::Float,
        Dtype::F64 => Kind::Double,
        _ => return None,
    })
}

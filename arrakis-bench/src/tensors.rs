//! Named tensors in a safetensors file, in the kind that they have.

use std::borrow::Cow;
use std::fs::{self, File};
use std::path::Path;

use safetensors::tensor::{Dtype, View};
use safetensors::{SafeTensorError, SafeTensors, serialize_to_file};
use tch::{Device, Kind, Tensor};

use crate::{Error, Result, TensorRecord, dtype_name, replace};

const KINDS: [(Kind, Dtype); 10] = [
    (Kind::Bool, Dtype::BOOL),
    (Kind::Uint8, Dtype::U8),
    (Kind::Int8, Dtype::I8),
    (Kind::Int16, Dtype::I16),
    (Kind::Int, Dtype::I32),
    (Kind::Int64, Dtype::I64),
    (Kind::Half, Dtype::F16),
    (Kind::BFloat16, Dtype::BF16),
    (Kind::Float, Dtype::F32),
    (Kind::Double, Dtype::F64),
];

/// Writes named tensors as one safetensors file, whole or not at all.
pub fn write_tensors<'a>(path: &Path, tensors: impl IntoIterator<Item = (String, &'a Tensor)>) -> Result<()> {
    let stored: Vec<(String, Stored)> =
        tensors.into_iter().map(|(name, tensor)| Ok((name, Stored::of(tensor)?))).collect::<Result<_>>()?;
    replace(path, |temporary| {
        // The library makes files that only their owner may read; an ordinary file says who may.
        let made = File::create(temporary).and_then(|file| file.metadata()).map_err(Error::file("write", path))?;
        serialize_to_file(stored, None, temporary).map_err(|error| match error {
            SafeTensorError::IoError(source) => Error::file("write", path)(source),
            other => arrakis_core::Error::Other(Box::new(other)).into(),
        })?;
        fs::set_permissions(temporary, made.permissions()).map_err(Error::file("write", path))
    })
}

/// The named tensors of a safetensors file, by name.
pub fn read_tensors(path: &Path) -> Result<Vec<(String, Tensor)>> {
    tensors_of(&fs::read(path).map_err(Error::file("read", path))?, path)
}

/// The named tensors of the bytes of a safetensors file, by name.
pub(crate) fn tensors_of(bytes: &[u8], path: &Path) -> Result<Vec<(String, Tensor)>> {
    let file = SafeTensors::deserialize(bytes).map_err(|error| Error::damaged(path, error.to_string()))?;
    let mut tensors = Vec::new();
    for (name, view) in file.iter() {
        let kind = KINDS.iter().find(|(_, dtype)| *dtype == view.dtype()).map(|(kind, _)| *kind);
        let kind = kind.ok_or_else(|| Error::damaged(path, format!("`{name}` has dtype {}", view.dtype())))?;
        let shape: Vec<i64> = view.shape().iter().map(|len| *len as i64).collect();
        let tensor = Tensor::f_from_data_size(view.data(), &shape, kind).map_err(arrakis_core::Error::from)?;
        tensors.push((name.to_owned(), tensor));
    }
    tensors.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(tensors)
}

/// What a run remembers of a tensor that it stores in `file`.
pub(crate) fn describe(file: &str, tensor: &Tensor) -> Result<TensorRecord> {
    let stored = Stored::of(tensor)?;
    let mut hasher = blake3::Hasher::new();
    hasher.update_rayon(&stored.data());
    let digest = hasher.finalize().to_hex().to_string();
    Ok(TensorRecord { file: file.to_owned(), dtype: dtype_name(tensor.kind()), shape: tensor.size(), digest })
}

/// A tensor whose bytes are copied only while it is written.
struct Stored {
    dtype: Dtype,
    shape: Vec<usize>,
    values: Tensor,
}

impl Stored {
    fn of(tensor: &Tensor) -> Result<Self, arrakis_core::Error> {
        let dtype = KINDS.iter().find(|(kind, _)| *kind == tensor.kind()).map(|(_, dtype)| *dtype);
        let dtype = dtype.ok_or_else(|| arrakis_core::Error::Invalid {
            what: "tensor".into(),
            why: format!("kind {:?} has no place in a safetensors file", tensor.kind()),
        })?;
        let shape = tensor.size().iter().map(|len| *len as usize).collect();
        Ok(Self { dtype, shape, values: tensor.f_detach()?.f_to_device(Device::Cpu)?.f_contiguous()? })
    }
}

impl View for Stored {
    fn dtype(&self) -> Dtype {
        self.dtype
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        let mut bytes = vec![0; self.data_len()];
        self.values.copy_data_u8(&mut bytes, self.values.numel());
        Cow::Owned(bytes)
    }

    fn data_len(&self) -> usize {
        self.values.numel() * self.values.kind().elt_size_in_bytes()
    }
}

//! The forms that weights have in a folder: one file, or shards and their index.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::error::{Error, Result};
use crate::tensors::Tensors;
use crate::{pytorch, safetensors};

/// Adds the tensors of one file.
type Read = fn(&Path, &mut Tensors) -> Result<()>;

/// A format, and the names that its files go by.
#[derive(Debug)]
pub(crate) struct Form {
    pub(crate) single: &'static str,
    pub(crate) index: &'static str,
    read: Read,
}

/// The forms there are, the preferred one first.
pub(crate) const FORMS: [Form; 2] = [
    Form { single: "model.safetensors", index: "model.safetensors.index.json", read: safetensors::read },
    Form { single: "pytorch_model.bin", index: "pytorch_model.bin.index.json", read: pytorch::read },
];

/// Adds the tensors of a folder in the first form that it has.
pub(crate) fn read(folder: &Path, tensors: &mut Tensors) -> Result<()> {
    for form in &FORMS {
        let (single, index) = (folder.join(form.single), folder.join(form.index));
        if single.exists() {
            return (form.read)(&single, tensors);
        }
        if index.exists() {
            return read_shards(&index, form.read, tensors);
        }
    }
    Err(Error::NoWeights { folder: folder.to_owned() })
}

/// Adds the tensors of all shards that an index names, each with `read`.
fn read_shards(index: &Path, read: Read, tensors: &mut Tensors) -> Result<()> {
    let damaged = |what: String| Error::Damaged { path: index.to_owned(), what };
    let text = fs::read(index).map_err(|cause| Error::Io { path: index.to_owned(), cause })?;
    let json: Value = serde_json::from_slice(&text).map_err(|e| damaged(e.to_string()))?;
    let map = json.get("weight_map").and_then(Value::as_object).ok_or_else(|| damaged("no `weight_map`".into()))?;
    let mut shards = BTreeMap::<&str, Vec<&str>>::new();
    for (tensor, shard) in map {
        let shard = shard.as_str().ok_or_else(|| damaged(format!("the shard of `{tensor}` is not a file name")))?;
        shards.entry(shard).or_default().push(tensor);
    }
    let folder = index.parent().unwrap_or(Path::new(""));
    for (shard, promised) in shards {
        if Path::new(shard).file_name() != Some(shard.as_ref()) {
            return Err(damaged(format!("shard `{shard}` is not a file beside the index")));
        }
        let path = folder.join(shard);
        if !path.exists() {
            let tensor = promised[0].to_owned();
            return Err(Error::MissingShard { index: index.to_owned(), shard: shard.to_owned(), tensor });
        }
        read(&path, tensors)?;
        if let Some(tensor) = promised.into_iter().find(|name| tensors.file(name) != Some(&path)) {
            return Err(Error::MissingFromShard { shard: path, tensor: tensor.to_owned() });
        }
    }
    if let Some(tensor) = tensors.names().find(|name| !map.contains_key(*name)) {
        return Err(damaged(format!("tensor `{tensor}` is in a shard but not in the index")));
    }
    Ok(())
}

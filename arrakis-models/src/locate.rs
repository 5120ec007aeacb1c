//! Where a model is: a folder, a GGUF file, the local Hugging Face cache, or the hub.

use std::collections::BTreeSet;
use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use hf_hub::api::sync::{ApiBuilder, ApiRepo};
use serde_json::Value;

use crate::error::{Error, Result};
use crate::form::FORMS;

const CONFIG: &str = "config.json";
/// Files that are fetched where a repository has them.
const BESIDE: [&str; 3] = ["tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"];

/// A model on this machine.
#[derive(Debug)]
pub(crate) enum Located {
    Folder(PathBuf),
    Gguf(PathBuf),
}

/// Finds a model, downloading it if it is a hub id that is not in the cache.
pub(crate) fn locate(model: &str) -> Result<Located> {
    if let Some(located) = on_disk(model)? {
        return Ok(located);
    }
    // A name without an owner may be a misspelt folder, and is looked for in the cache only.
    let cache = cache();
    let Some(cache) = cache.as_deref().filter(|_| model.contains('/') && is_hub_id(model)) else {
        return locate_offline(model, cache.as_deref());
    };
    match snapshot(model, cache).filter(|folder| is_complete(folder)) {
        Some(folder) => in_folder(folder),
        None if is_offline() => match snapshot(model, cache) {
            Some(folder) => in_folder(folder),
            None => Err(Error::Offline { model: model.to_owned(), cache: cache.to_owned() }),
        },
        None => download(model, cache).map(Located::Folder),
    }
}

/// Finds a model on disk or in this cache.
pub(crate) fn locate_offline(model: &str, cache: Option<&Path>) -> Result<Located> {
    if let Some(located) = on_disk(model)? {
        return Ok(located);
    }
    let mut looked = vec![PathBuf::from(model)];
    if let Some(cache) = cache.filter(|_| is_hub_id(model)) {
        if let Some(folder) = snapshot(model, cache) {
            return in_folder(folder);
        }
        looked.push(repository(model, cache));
    }
    Err(Error::NoSuchModel { model: model.to_owned(), looked })
}

fn on_disk(model: &str) -> Result<Option<Located>> {
    let path = Path::new(model);
    match fs::metadata(path) {
        Ok(meta) if meta.is_dir() => in_folder(path.to_owned()).map(Some),
        Ok(_) if path.extension().is_some_and(|extension| extension == "gguf") => {
            Ok(Some(Located::Gguf(path.to_owned())))
        }
        Ok(_) => Err(Error::NoModelFile { path: path.to_owned() }),
        Err(_) => Ok(None),
    }
}

/// A folder, or its one GGUF file if that is all the weights it has.
fn in_folder(folder: PathBuf) -> Result<Located> {
    if FORMS.iter().any(|form| folder.join(form.single).exists() || folder.join(form.index).exists()) {
        return Ok(Located::Folder(folder));
    }
    let entries = fs::read_dir(&folder).map_err(|cause| Error::Io { path: folder.clone(), cause })?;
    let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    let mut files: Vec<_> = paths.filter(|path| path.extension().is_some_and(|e| e == "gguf")).collect();
    files.sort();
    match files.len() {
        0 => Ok(Located::Folder(folder)),
        1 => Ok(Located::Gguf(files.remove(0))),
        _ => Err(Error::Ambiguous { folder, files }),
    }
}

/// Where Hugging Face's libraries keep what they download.
fn cache() -> Option<PathBuf> {
    let folder = |name: &str| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    folder("HF_HUB_CACHE")
        .or_else(|| folder("HUGGINGFACE_HUB_CACHE"))
        .or_else(|| Some(folder("HF_HOME")?.join("hub")))
        .or_else(|| Some(folder("XDG_CACHE_HOME")?.join("huggingface/hub")))
        .or_else(|| Some(env::home_dir()?.join(".cache/huggingface/hub")))
}

fn is_offline() -> bool {
    let value = env::var("HF_HUB_OFFLINE").unwrap_or_default();
    ["1", "on", "yes", "true"].contains(&value.to_lowercase().as_str())
}

/// `org/name`, or a `name` alone as the oldest models have it.
fn is_hub_id(model: &str) -> bool {
    let plain = |part: &str| {
        part.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_')
            && part.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
            && !part.contains("..")
    };
    let parts: Vec<&str> = model.split('/').collect();
    parts.len() <= 2 && parts.into_iter().all(plain)
}

fn repository(model: &str, cache: &Path) -> PathBuf {
    cache.join(format!("models--{}", model.replace('/', "--")))
}

/// The cached files of a model's main branch.
fn snapshot(model: &str, cache: &Path) -> Option<PathBuf> {
    let repository = repository(model, cache);
    let commit = fs::read_to_string(repository.join("refs/main")).ok()?;
    let commit = commit.trim();
    let folder = repository.join("snapshots").join(commit);
    (commit.chars().all(|c| c.is_ascii_alphanumeric()) && folder.is_dir()).then_some(folder)
}

/// Whether a snapshot has everything it takes to open it.
fn is_complete(folder: &Path) -> bool {
    let has = |name: &str| folder.join(name).exists();
    let sharded = |index| shards(&folder.join(index)).is_some_and(|shards| shards.iter().all(|shard| has(shard)));
    (has(CONFIG) && FORMS.iter().any(|form| has(form.single) || sharded(form.index)))
        || matches!(in_folder(folder.to_owned()), Ok(Located::Gguf(_)))
}

/// The files that an index names; `None` if one of them is not a plain file name.
fn shards(index: &Path) -> Option<BTreeSet<String>> {
    let json: Value = serde_json::from_slice(&fs::read(index).ok()?).ok()?;
    let plain = |shard: &&str| Path::new(shard).file_name() == Some(shard.as_ref());
    let shards = json.get("weight_map")?.as_object()?.values();
    shards.map(|shard| shard.as_str().filter(plain).map(str::to_owned)).collect()
}

/// Fetches config, weights and tokenizer into the cache; gives the snapshot's folder.
fn download(model: &str, cache: &Path) -> Result<PathBuf> {
    let failed = |file: &str, cause: String| Error::Download { model: model.to_owned(), file: file.to_owned(), cause };
    let mut builder = ApiBuilder::from_env().with_cache_dir(cache.to_owned());
    if let Ok(token) = env::var("HF_TOKEN") {
        builder = builder.with_token(Some(token));
    }
    let repository = builder.build().map_err(|e| failed(CONFIG, e.to_string()))?.model(model.to_owned());
    let get = |repository: &ApiRepo, file: &str| repository.get(file).map_err(|e| failed(file, e.to_string()));
    let listing = repository.info().map_err(|e| failed("the list of files", e.to_string()))?;
    let has = |name: &str| listing.siblings.iter().any(|file| file.rfilename == name);
    let config = get(&repository, CONFIG)?;
    for name in BESIDE.into_iter().filter(|name| has(name)) {
        get(&repository, name)?;
    }
    let form = FORMS.iter().find(|form| has(form.single) || has(form.index)).ok_or_else(|| {
        failed(
            FORMS[0].single,
            "the repository has no weights as safetensors or `.bin` under their usual names".to_owned(),
        )
    })?;
    if has(form.single) {
        get(&repository, form.single)?;
    } else {
        let index = get(&repository, form.index)?;
        let shards =
            shards(&index).ok_or_else(|| failed(form.index, "its `weight_map` does not give file names".to_owned()))?;
        for shard in shards {
            get(&repository, &shard)?;
        }
    }
    config.parent().map(Path::to_owned).ok_or_else(|| failed(CONFIG, "it has no folder".to_owned()))
}

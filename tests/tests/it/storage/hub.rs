//! Models by their name: folders, files and the Hugging Face cache.

use std::fs;
use std::path::Path;

use arrakis_models::Checkpoint;

use super::gguf::{floats, llama};
use super::message;

/// A cache with one snapshot of `org/tiny` that has these files.
fn cache(files: &[(&str, &[u8])]) -> tempfile::TempDir {
    let cache = tempfile::tempdir().unwrap();
    let repository = cache.path().join("models--org--tiny");
    let snapshot = repository.join("snapshots/0123abc");
    fs::create_dir_all(&snapshot).unwrap();
    fs::create_dir_all(repository.join("refs")).unwrap();
    fs::write(repository.join("refs/main"), "0123abc\n").unwrap();
    for (name, bytes) in files {
        fs::write(snapshot.join(name), bytes).unwrap();
    }
    cache
}

fn weights() -> Vec<u8> {
    let header = r#"{"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#;
    [&(header.len() as u64).to_le_bytes(), header.as_bytes(), &1.0_f32.to_le_bytes()].concat()
}

fn refused(model: &str, cache: &Path) -> String {
    message(Checkpoint::open_cached(model, cache))
}

#[test]
fn a_hub_id_is_found_in_the_cache() {
    let cache = cache(&[("config.json", br#"{"model_type":"llama"}"#), ("model.safetensors", &weights())]);
    let checkpoint = Checkpoint::open_cached("org/tiny", cache.path()).unwrap();
    assert_eq!(checkpoint.config["model_type"], "llama");
    assert!(checkpoint.source.ends_with("snapshots/0123abc"));
}

#[test]
fn a_snapshot_of_one_gguf_file_is_that_file() {
    let whole = llama().tensor("output_norm.weight", &[1], 0, &floats([1])).bytes();
    let one = cache(&[("tiny.gguf", &whole)]);
    assert!(Checkpoint::open_cached("org/tiny", one.path()).unwrap().source.ends_with("tiny.gguf"));
    let folder = one.path().join("models--org--tiny/snapshots/0123abc");
    assert!(Checkpoint::open(folder.to_str().unwrap()).is_ok());
    let two = cache(&[("tiny-Q4.gguf", &whole), ("tiny-Q8.gguf", &whole)]);
    let text = refused("org/tiny", two.path());
    assert!(text.contains("tiny-Q4.gguf") && text.contains("tiny-Q8.gguf"), "{text}");
}

#[test]
fn a_model_that_is_nowhere_says_where_it_was_looked_for() {
    let cache = cache(&[]);
    let text = refused("org/other", cache.path());
    assert!(text.contains("`org/other`") && text.contains("models--org--other"), "{text}");
    let text = refused("no/such/folder", cache.path());
    assert!(text.contains("no model `no/such/folder`"), "{text}");
    let text = refused("../models--org--tiny", cache.path());
    assert!(text.contains("no model"), "{text}");
    let text = refused("org/tiny", cache.path());
    assert!(text.contains("no `model.safetensors`"), "{text}");
    let file = cache.path().join("weights.txt");
    fs::write(&file, "x").unwrap();
    assert!(refused(file.to_str().unwrap(), cache.path()).contains("give a folder"));
}

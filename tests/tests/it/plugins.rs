//! Plugins: tools that are loaded answer as linked ones do, and what is wrong with a plugin is an error that says so.

mod command;
mod compiled;
mod equal;
mod header;
mod missing;
mod refused;
mod template;
mod versions;

use std::path::PathBuf;

use arrakis_bench::Plugin;
use arrakis_core::plugin::Handles;
use arrakis_core::{Answer, ToolEntry};

/// The folder that cargo leaves the libraries of this build in: that of this program.
fn built() -> PathBuf {
    std::env::current_exe().unwrap().parent().unwrap().to_owned()
}

/// The library of a package of the workspace.
fn library(package: &str) -> PathBuf {
    built().join(format!("lib{}.so", package.replace('-', "_")))
}

/// A plugin of the workspace, its tools not known by name: most of them are linked into this program too.
pub(crate) fn opened(package: &str) -> &'static Plugin {
    Plugin::open(library(package)).unwrap()
}

/// A tool of a plugin.
pub(crate) fn loaded(package: &str, name: &str) -> ToolEntry {
    let tools = opened(package).tools();
    *tools.iter().find(|tool| tool.name() == name).unwrap_or_else(|| panic!("`{package}` has no `{name}`"))
}

/// Asserts that two answers are the same to the last bit, tensors in kind and shape too.
pub(crate) fn assert_same(linked: &Answer, loaded: &Answer, what: &str) {
    let (json, tensors) = linked.split().unwrap();
    let (loaded_json, loaded_tensors) = loaded.split().unwrap();
    assert_eq!(json, loaded_json, "{what}");
    assert_eq!(json.to_string(), loaded_json.to_string(), "{what}");
    assert_eq!(tensors.len(), loaded_tensors.len(), "{what}");
    for ((name, tensor), (loaded_name, loaded)) in tensors.iter().zip(&loaded_tensors) {
        assert_eq!((name, tensor.kind(), tensor.size()), (loaded_name, loaded.kind(), loaded.size()), "{what}");
        let bits = |tensor: &tch::Tensor| {
            let flat = tensor.contiguous();
            let mut bytes = vec![0_u8; flat.numel() * flat.kind().elt_size_in_bytes()];
            flat.copy_data_u8(&mut bytes, flat.numel());
            bytes
        };
        assert!(bits(tensor) == bits(loaded), "{what}: tensor `{name}`");
    }
}

/// Asserts that every tensor that crossed on this thread was taken by the other side.
pub(crate) fn assert_at_rest(here_before: Handles, there_before: Handles, plugin: &Plugin) {
    let (here, there) = (Handles::here(), plugin.handles().unwrap());
    assert!(here.given > here_before.given);
    assert_eq!(here.given - here_before.given, there.taken - there_before.taken, "given by the host");
    assert_eq!(here.taken - here_before.taken, there.given - there_before.given, "given by the plugin");
}

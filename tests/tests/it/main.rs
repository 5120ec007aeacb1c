//! The one integration-test binary of the workspace.

// A test that meets the unexpected should panic, and bit equality is what the tests are about.
#![allow(clippy::unwrap_used, clippy::float_cmp)]

mod activations;
mod allocated;
mod bench;
mod command;
mod configs;
mod contrib;
mod docs;
mod experiment;
mod families;
mod fixtures;
mod generation;
mod graph;
mod hypothesis;
mod laws;
mod leviathan;
mod log;
mod log_pages;
mod named;
mod plan;
mod planted;
mod plugins;
mod print;
mod processing;
mod profile;
mod real_models;
mod real_width;
mod storage;
mod sweep;
mod tools;
mod transformer_lens;

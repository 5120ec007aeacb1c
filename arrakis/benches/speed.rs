//! How fast: forward passes, traces, loading, on random weights of GPT-2-small's sizes and of a small Llama's.
//!
//! `cargo bench -p arrakis` on otherwise quiet cores; `BENCHMARKS.md` has the results beside those of the peers. The
//! checkpoints (498 and 190 MB) are made once, under `target/bench-models/`; `ARRAKIS_BENCH_MODELS` names another folder.

use arrakis::bench::ActivationStream;
use arrakis::models::{Sampling, generate};
use arrakis::prelude::*;
use arrakis_core::{Corpus, Silent, unwatched};
use divan::{Bencher, black_box};

#[path = "speed/checkpoint.rs"]
mod checkpoint;
#[path = "speed/inputs.rs"]
mod inputs;

use checkpoint::{folder, llama, model};
use inputs::{KEPT_BY_DEFAULT, tokens, tokens_below};

fn main() {
    arrakis::process::keep_big_blocks();
    divan::main();
}

/// Batch and positions of the passes.
const SHAPES: &[(i64, i64)] = &[(1, 20), (1, 128), (1, 512), (1, 1024), (8, 128), (8, 512)];

/// Tokens that are generated after a prompt of 20.
const NEW: usize = 64;

#[divan::bench(args = SHAPES, sample_count = 20)]
fn forward_without_hooks(bencher: Bencher, (batch, len): (i64, i64)) {
    let (model, tokens) = (model(), tokens(batch, len));
    bencher.bench_local(|| {
        unwatched(|hooks| model.forward(arrakis_core::Pass::tokens(tokens.ids(), hooks)).expect("a pass"))
    });
}

#[divan::bench(args = SHAPES, sample_count = 20)]
fn llama_forward_without_hooks(bencher: Bencher, (batch, len): (i64, i64)) {
    let (model, tokens) = (llama(), tokens_below(32_000, batch, len));
    bencher.bench_local(|| {
        unwatched(|hooks| model.forward(arrakis_core::Pass::tokens(tokens.ids(), hooks)).expect("a pass"))
    });
}

#[divan::bench(args = SHAPES, sample_count = 20)]
fn trace_that_keeps_nothing(bencher: Bencher, (batch, len): (i64, i64)) {
    let (model, tokens) = (model(), tokens(batch, len));
    bencher.bench_local(|| model.trace(&tokens).run().expect("a run"));
}

#[divan::bench(args = SHAPES, sample_count = 20)]
fn trace_that_keeps_every_default_site(bencher: Bencher, (batch, len): (i64, i64)) {
    let (model, tokens) = (model(), tokens(batch, len));
    bencher.bench_local(|| {
        let trace = KEPT_BY_DEFAULT.iter().fold(model.trace(&tokens), |trace, site| trace.keep(*site));
        trace.run().expect("a run")
    });
}

#[divan::bench(args = SHAPES, sample_count = 20)]
fn trace_that_keeps_the_residual(bencher: Bencher, (batch, len): (i64, i64)) {
    let (model, tokens) = (model(), tokens(batch, len));
    bencher.bench_local(|| model.trace(&tokens).keep(Site::RESID_POST).run().expect("a run"));
}

#[divan::bench(args = SHAPES, sample_count = 10)]
fn packed_forward_without_hooks(bencher: Bencher, (batch, len): (i64, i64)) {
    let (model, tokens) = (model().packed().expect("a copy of the weights"), tokens(batch, len));
    bencher.bench_local(|| {
        unwatched(|hooks| model.forward(arrakis_core::Pass::tokens(tokens.ids(), hooks)).expect("a pass"))
    });
}

#[divan::bench(args = [false, true], sample_count = 5)]
fn generate_64_after_20(bencher: Bencher, packed: bool) {
    let model = if packed { model().packed().expect("a copy of the weights") } else { model() };
    let (tokens, sampling) = (tokens(1, 20), Sampling { max_tokens: NEW, ..Sampling::default() });
    bencher.bench_local(|| generate(&model, &tokens, &sampling, |_, _| Ok(())).expect("tokens"));
}

#[divan::bench(args = [false, true], sample_count = 3)]
fn stream_the_residual_of_8192_tokens_to_disk(bencher: Bencher, packed: bool) {
    let model = if packed { model().packed().expect("a copy of the weights") } else { model() };
    let rows = (0..64).map(|row| tokens(1, 128 + row).row(0).expect("a row")[row as usize..].to_vec());
    let corpus = Corpus::Rows(rows.collect());
    bencher.with_inputs(|| tempfile::tempdir().expect("a folder")).bench_local_refs(|folder| {
        let stream = ActivationStream::new(["blocks.*.hook_resid_post"]);
        stream.write(&model, &corpus, folder.path(), &Silent).expect("shards")
    });
}

#[divan::bench(sample_count = 20)]
fn load(bencher: Bencher) {
    let folder = folder();
    bencher
        .bench_local(|| arrakis::prelude::load(&folder.to_string_lossy(), &LoadOptions::default()).expect("it loads"));
}

#[divan::bench(sample_count = 20)]
fn load_and_touch_every_weight(bencher: Bencher) {
    let folder = folder();
    bencher.bench_local(|| {
        let model = arrakis::prelude::load(&folder.to_string_lossy(), &LoadOptions::default()).expect("it loads");
        for weight in model.weights() {
            black_box(model.weight(weight).expect("a weight").sum(Kind::Float).double_value(&[]));
        }
        model
    });
}

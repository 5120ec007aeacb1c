//! Activations streamed to disk: what the shards hold is what runs keep, and a stopped stream goes on.

use std::cell::Cell;
use std::fs;

use arrakis_bench::{ActivationStream, read_tensors};
use arrakis_core::{Corpus, Host, Model, ModelExt, Silent, Site, Tokens};
use arrakis_models::Decoder;
use tch::{Kind, Tensor};

use crate::families::loaded;
use crate::fixtures::{greatest, root};

fn model(name: &str) -> Decoder {
    loaded(&root().join("tests/golden").join(name), Kind::Float)
}

fn corpus() -> Corpus {
    let document = |seed: i64, len: i64| (0..len).map(|place| 3 + (seed * 7 + place * 5) % 40).collect();
    Corpus::Rows(vec![document(1, 23), document(2, 8), document(3, 40), document(4, 1), document(5, 16)])
}

fn stream() -> ActivationStream {
    let keep = ["blocks.*.hook_resid_post", "blocks.0.attn.hook_z"];
    ActivationStream { window: 16, batch: 3, shard_bytes: 10_000, ..ActivationStream::new(keep) }
}

/// Every shard's tensor of that name, one after the other.
fn whole(folder: &std::path::Path, shards: usize, name: &str) -> Tensor {
    let of = |shard| {
        let tensors = read_tensors(&ActivationStream::shard(folder, shard)).unwrap();
        tensors.into_iter().find(|(known, _)| known == name).expect("it was kept").1
    };
    Tensor::cat(&(0..shards).map(of).collect::<Vec<_>>(), 0)
}

#[test]
fn shards_hold_what_runs_keep() {
    for name in ["gpt2", "llama"] {
        let (model, folder) = (model(name), tempfile::tempdir().unwrap());
        let done = stream().write(&model, &corpus(), folder.path(), &Silent).unwrap();
        let found = &done.activations;
        assert!(found.shards > 2 && done.written == found.shards, "{found:?}");
        assert_eq!(found.tokens, 23 + 8 + 40 + 1 + 16);
        let point = Site::RESID_POST.at(1);
        let mut expected = Vec::new();
        for window in corpus().windows(&model, 16).unwrap() {
            let tokens = Tokens::from_ids(&window.ids).unwrap();
            expected.push(model.trace(&tokens).keep(point).run().unwrap().cache[point].squeeze_dim(0));
        }
        let values = whole(folder.path(), found.shards, &point.to_string());
        assert!(greatest(&Tensor::cat(&expected, 0), &values) <= 1e-5);
        let ids: Vec<i64> = Vec::try_from(whole(folder.path(), found.shards, "token")).unwrap();
        assert_eq!(ids, corpus().documents(&model).unwrap().concat());
        let places: Vec<i64> = Vec::try_from(whole(folder.path(), found.shards, "position")).unwrap();
        assert_eq!(places[..24], (0..23).chain([0]).collect::<Vec<i64>>());
    }
}

/// Cancels after some questions.
struct Impatient(Cell<u32>);

impl Host for Impatient {
    fn cancelled(&self) -> bool {
        self.0.set(self.0.get().saturating_sub(1));
        self.0.get() == 0
    }
}

#[test]
fn a_stopped_stream_goes_on_where_it_was() {
    let (model, at_once, in_parts) = (model("gpt2"), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let whole = stream().write(&model, &corpus(), at_once.path(), &Silent).unwrap();
    let stopped = stream().write(&model, &corpus(), in_parts.path(), &Impatient(Cell::new(3)));
    assert!(stopped.expect_err("it was cancelled").to_string().contains("cancelled"));
    let rest = stream().write(&model, &corpus(), in_parts.path(), &Silent).unwrap();
    assert!(rest.written > 0 && rest.written < whole.written, "{} of {}", rest.written, whole.written);
    assert_eq!(rest.activations, whole.activations);
    for shard in 0..whole.activations.shards {
        let file = |folder: &std::path::Path| fs::read(ActivationStream::shard(folder, shard)).unwrap();
        assert_eq!(file(at_once.path()), file(in_parts.path()), "shard {shard}");
    }
    let again = stream().write(&model, &corpus(), in_parts.path(), &Silent).unwrap();
    assert_eq!(again.written, 0);
}

#[test]
fn a_folder_of_other_activations_is_refused() {
    let (first, folder) = (model("gpt2"), tempfile::tempdir().unwrap());
    stream().write(&first, &corpus(), folder.path(), &Silent).unwrap();
    let refused = |stream: ActivationStream, model: &dyn Model, corpus: &Corpus| {
        stream.write(model, corpus, folder.path(), &Silent).expect_err("it holds others").to_string()
    };
    assert!(refused(stream(), &model("llama"), &corpus()).contains("another model"));
    assert!(refused(ActivationStream { window: 8, ..stream() }, &first, &corpus()).contains("another window"));
    assert!(refused(stream(), &first, &Corpus::Rows(vec![vec![1, 2]])).contains("another corpus"));
    let keep = ActivationStream::new(["blocks.0.attn.hook_pattern"]);
    assert!(refused(keep, &first, &corpus()).contains("no row for each token"));
    assert!(refused(ActivationStream::new(["hook_nothing"]), &first, &corpus()).contains("hook_nothing"));
    assert!(refused(ActivationStream { window: 0, ..stream() }, &first, &corpus()).contains("window 0"));
    assert!(refused(ActivationStream { window: 9999, ..stream() }, &first, &corpus()).contains("context"));
    assert!(refused(stream(), &first, &Corpus::Rows(vec![])).contains("no document"));
    assert!(refused(stream(), &first, &Corpus::Rows(vec![vec![1], vec![]])).contains("document 1"));
}

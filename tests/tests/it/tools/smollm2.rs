//! A trained model: what is known of SmolLM2 is found by the tools.

use std::fs;

use arrakis_core::{Context, Metric, Prompt, Tool as _};
use arrakis_models::{Decoder, LoadOptions, load};
use arrakis_tools::{ActivationPatching, AttentionHeads, DirectAttribution, LogitLens, PatchKind};
use serde_json::Value;

use super::{assert_close, assert_small, rows, tensors};
use crate::fixtures;

/// The demo model, where it has been set up.
fn model() -> Option<Decoder> {
    let file = fixtures::root().join("models/SmolLM2-135M-Instruct.gguf");
    if !file.exists() {
        fixtures::say("skipped: the demo model is not set up");
        return None;
    }
    Some(load(&file.to_string_lossy(), &LoadOptions::default()).unwrap())
}

const CLEAN: &str = "When Mary and John went to the store, John gave a drink to";
const CORRUPTED: &str = "When Mary and John went to the store, Mary gave a drink to";

#[test]
fn what_is_known_of_it_is_found() {
    let Some(model) = model() else { return };
    let cx = Context::new(&model);

    let lens = LogitLens::new("The capital of France is").run(&cx).unwrap().rows.remove(0);
    assert_eq!(lens.top.entries[0].label, " Paris");
    assert_small(lens.logit_gap, 1e-3, "lens");

    let found = DirectAttribution::new(CLEAN, " Mary", " John").run(&cx).unwrap();
    assert!(found.logit_difference > 1.0, "{}", found.logit_difference);
    assert_small(found.sum_gap, 1e-3, "direct attribution");
    assert_small(found.head_gap, 1e-3, "heads");

    let metric = Metric::LogitDifference { answer: " Mary".into(), wrong: " John".into() };
    let mut asked = ActivationPatching::new(CLEAN, CORRUPTED, metric);
    (asked.kinds, asked.layers) = (vec![PatchKind::ResidPre], Some(vec![0, 29]));
    let found = asked.run(&cx).unwrap();
    assert_small(found.whole_patch_gap, 1e-3, "patching");
    let grid = found.grid(PatchKind::ResidPre).unwrap();
    // At first only the name that differs matters, at last only the position that is read.
    assert_eq!(grid.columns.labels[9], " John /·Mary");
    assert_small((grid.get(0, 9).unwrap() - 1.0).abs(), 1e-3, "the name, before the first block");
    assert!(grid.get(1, 13).unwrap() > 0.5);
}

#[test]
fn its_induction_heads_are_those_of_transformers() {
    let (Some(model), Some(shared)) = (model(), fixtures::shared()) else {
        fixtures::say("skipped: 0 of 1 answers about SmolLM2 are compared");
        return;
    };
    let reference = shared.join("models/smollm2-135m-instruct.reference.safetensors");
    let reference = tensors(&reference);
    let ids = rows(&reference["repeat.ids"].unsqueeze(0)).remove(0);
    let asked = AttentionHeads { prompt: Some(Prompt::Ids(ids)), ..AttentionHeads::default() };
    let found = asked.run(&Context::new(&model)).unwrap();
    assert_close(&found.induction.values, &reference["repeat.induction_score"], 1e-3, "induction scores");
    assert_eq!(found.best[2].entries[0].label, "L18H6");

    let known = fs::read(shared.join("models/smollm2-135m-instruct.reference.json")).unwrap();
    let known: Value = serde_json::from_slice(&known).unwrap();
    let known = &known.as_array().unwrap().iter().find(|entry| entry.get("repeat").is_some()).unwrap()["repeat"];
    let loss = found.loss.unwrap();
    assert_small((loss.first_half - known["nll_first_half"].as_f64().unwrap()).abs(), 2e-3, "first half");
    assert_small((loss.second_half - known["nll_second_half"].as_f64().unwrap()).abs(), 2e-3, "second half");
}

//! Small models that were really trained: the shared stories260K, and SmolLM2 where `cargo xtask` has put it.

use std::fs;

use arrakis_core::{Model, ModelExt, PosSlice, Site, Tokens, answer::numbers, loss_by_row};
use arrakis_models::{Decoder, LoadOptions, greedy, load};
use serde_json::Value;
use tch::{Kind, Tensor};

use crate::fixtures;
use crate::transformer_lens::{answer, answers};

fn json(path: &std::path::Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

fn ids(value: &Value) -> Vec<i64> {
    value.as_array().unwrap().iter().map(|id| id.as_i64().unwrap()).collect()
}

#[test]
fn stories260k_tells_the_story() {
    let Some(shared) = fixtures::shared() else { return };
    let reference = json(&shared.join("models/stories260K.reference.json"));
    let model = load(&shared.join("models/stories260K").to_string_lossy(), &LoadOptions::default()).unwrap();
    let given = ids(&reference["ids"]);
    assert_eq!(model.encode(reference["text"].as_str().unwrap()).unwrap(), given);
    let tokens = Tokens::from_ids(&given).unwrap();
    let run = model.trace(&tokens).run().unwrap();
    let logits = run.logits().unwrap();
    let next: Vec<i64> = Vec::try_from(logits.get(0).argmax(-1, false)).unwrap();
    assert_eq!(next, ids(&reference["argmax_per_pos"]));
    let first: Vec<f64> = numbers(&logits.get(0).get(-1).narrow(0, 0, 8)).unwrap();
    for (found, wanted) in first.iter().zip(reference["last_logits_first8"].as_array().unwrap()) {
        assert!((found - wanted.as_f64().unwrap()).abs() < 1e-4, "{found} and {wanted}");
    }
    let loss = loss_by_row(logits, &tokens).unwrap().double_value(&[0]);
    assert!((loss - reference["mean_nll"].as_f64().unwrap()).abs() < 1e-5, "{loss}");
    let whole = ids(&reference["greedy_ids_200"]);
    let said = greedy(&model, &given, whole.len() - given.len()).unwrap();
    assert_eq!(said, whole[given.len()..]);
}

#[test]
fn stories260k_is_the_same_story_in_the_layout_of_other_families() {
    let Some(shared) = fixtures::shared() else { return };
    let reference = json(&shared.join("models/stories260K.reference.json"));
    let whole = Tokens::from_ids(&ids(&reference["greedy_ids_200"])).unwrap();
    let model =
        |name: &str| load(&shared.join("models").join(name).to_string_lossy(), &LoadOptions::default()).unwrap();
    let wanted = model("stories260K").trace(&whole).run().unwrap();
    for relative in ["mistral", "phi3", "qwen2"] {
        let model = model(&format!("stories260K-as-{relative}"));
        assert_eq!(model.dims().family, relative);
        let run = model.trace(&whole).run().unwrap();
        let apart = (run.logits().unwrap() - wanted.logits().unwrap()).abs().max().double_value(&[]);
        assert!(apart <= 1e-5, "{relative} is {apart:e} apart");
    }
}

fn smollm2() -> Option<Decoder> {
    let path = fixtures::root().join("models/SmolLM2-135M-Instruct.gguf");
    path.exists().then(|| load(&path.to_string_lossy(), &LoadOptions::default()).unwrap())
}

#[test]
fn smollm2_says_what_transformers_says() {
    let (Some(model), Some(shared)) = (smollm2(), fixtures::shared()) else { return };
    let cases = json(&shared.join("models/smollm2-135m-instruct.reference.json"));
    let tensors = answers(&shared.join("models"), "smollm2-135m-instruct.reference.safetensors");
    for (number, case) in cases.as_array().unwrap().iter().filter(|case| case.get("prompt").is_some()).enumerate() {
        let prompt = case["prompt"].as_str().unwrap();
        let given = model.encode(prompt).unwrap();
        assert_eq!(given, ids(&case["ids"]), "{prompt}");
        let tokens = Tokens::from_ids(&given).unwrap();
        let pattern = Site::PATTERN.at(0);
        let run = model.trace(&tokens).keep(pattern).keep(Site::RESID_POST).logits(PosSlice::Last).run().unwrap();
        let last = run.logits().unwrap().get(0).get(0);
        let close = |found: &Tensor, name: &str, bound: f64| {
            let wanted = answer(&tensors, &format!("{number}.{name}"));
            let apart = (found - wanted).abs().max().double_value(&[]);
            assert!(apart <= bound, "{prompt}: {name} is {apart:e} apart");
        };
        close(&last, "last_logits", 2e-3);
        close(&run.cache[pattern].get(0), "attn_layer0", 1e-5);
        let top: Vec<i64> = Vec::try_from(last.topk(5, -1, true, true).1).unwrap();
        let wanted: Vec<&str> = case["top5"].as_array().unwrap().iter().map(|pair| pair[0].as_str().unwrap()).collect();
        assert_eq!(top.iter().map(|token| model.token(*token)).collect::<Vec<_>>(), wanted, "{prompt}");
        let said = model.decode(&greedy(&model, &given, 20).unwrap()).unwrap();
        assert_eq!(said, case["greedy20"].as_str().unwrap(), "{prompt}");
    }
}

#[test]
fn smollm2_has_its_induction_heads() {
    let (Some(model), Some(shared)) = (smollm2(), fixtures::shared()) else { return };
    let tensors = answers(&shared.join("models"), "smollm2-135m-instruct.reference.safetensors");
    let given: Vec<i64> = Vec::try_from(answer(&tensors, "repeat.ids")).unwrap();
    let tokens = Tokens::from_ids(&given).unwrap();
    let run = model.trace(&tokens).keep(Site::PATTERN).run().unwrap();
    let period = (given.len() as i64 - 1) / 2;
    let patterns = run.cache.stack(Site::PATTERN).unwrap().select(1, 0);
    // From each token of the second half to the one after its first occurrence.
    let stripe = patterns.diagonal(1 - period, 2, 3);
    let scores = stripe.narrow(-1, 2, stripe.size()[2] - 2).mean_dim(-1, false, None::<Kind>);
    let wanted = answer(&tensors, "repeat.induction_score");
    let apart = (&scores - &wanted).abs().max().double_value(&[]);
    assert!(apart <= 1e-3, "{apart:e} apart");
    assert!((scores.get(18).double_value(&[6]) - 0.9029).abs() < 1e-3);
}

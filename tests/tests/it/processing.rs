//! Weight processing: what a model says stays, and the weights are TransformerLens'.

use arrakis_core::{Model, ModelExt, NormKind, Residual, Result, Site, Tokens, Weight};
use arrakis_models::processing::{
    centre_unembedding, centre_writing_weights, fold_layer_norm, fold_value_biases, processed,
    refactor_factored_attention,
};
use tch::{Kind, Tensor};

use crate::families::loaded;
use crate::fixtures::{self, greatest};
use crate::transformer_lens::{answer, answers, folder, model};

type Step = fn(&dyn Model) -> Result<Box<dyn Model>>;

const STEPS: [(&str, Step); 5] = [
    ("fold_layer_norm", fold_layer_norm),
    ("centre_writing_weights", centre_writing_weights),
    ("centre_unembedding", centre_unembedding),
    ("fold_value_biases", fold_value_biases),
    ("refactor_factored_attention", refactor_factored_attention),
];

fn tokens(model: &dyn Model) -> Tokens {
    let vocab = model.dims().vocab as i64;
    let row = |first: i64| (0..8).map(|at| (first + 7 * at * at) % vocab).collect();
    Tokens::from_rows(&[row(3), row(5)]).unwrap()
}

fn log_probabilities(model: &dyn Model) -> Tensor {
    model.trace(&tokens(model)).run().unwrap().logits().unwrap().log_softmax(-1, None::<Kind>)
}

/// What the steps make of a model, one after the other.
fn after<'a>(model: &dyn Model, steps: impl IntoIterator<Item = &'a (&'a str, Step)>) -> Box<dyn Model> {
    let unedited = model.with_weights(Vec::new()).unwrap();
    steps.into_iter().fold(unedited, |model, (name, step)| {
        step(&*model).unwrap_or_else(|error| panic!("{name} of {}: {error}", model.dims().family))
    })
}

/// The steps that a model is meant to take, by what it is.
fn steps_of(model: &dyn Model) -> Vec<(&'static str, Step)> {
    let layer_norm = model.dims().norm == NormKind::Layer;
    let learned = model.weights().contains(&Weight::POS.global());
    let applies = |name: &str| match name {
        "centre_writing_weights" => layer_norm,
        "refactor_factored_attention" => learned,
        _ => true,
    };
    STEPS.into_iter().filter(|(name, _)| applies(name)).collect()
}

fn mean(weight: &Tensor, dimension: i64) -> f64 {
    weight.mean_dim(dimension, false, Kind::Double).abs().max().double_value(&[])
}

#[test]
fn processed_weights_are_those_of_transformer_lens() {
    let Some(folder) = folder() else { return };
    let processed = processed(&model(&folder)).unwrap();
    let wanted = answers(&folder, "weights.processed.safetensors");
    for (name, wanted) in &wanted {
        let apart = greatest(&processed.weight_named(name).unwrap(), wanted);
        assert!(apart <= 1e-10, "{name}: {apart:e}");
    }
    for weight in processed.weights() {
        let name = weight.to_string();
        if name.contains("ln") {
            let value = processed.weight(weight).unwrap();
            let constant = if name.contains(".w") { 1.0 } else { 0.0 };
            assert_eq!(greatest(&value, &value.full_like(constant)), 0.0, "{name}");
        } else {
            assert!(wanted.iter().any(|(known, _)| *known == name), "TransformerLens has no `{name}`");
        }
    }
}

#[test]
fn processed_activations_are_those_of_transformer_lens() {
    let Some(folder) = folder() else { return };
    let processed = processed(&model(&folder)).unwrap();
    let inputs = answers(&folder, "inputs.safetensors");
    let run_of = |name: &str| {
        let tokens = Tokens::from_tensor(&answer(&inputs, name)).unwrap();
        processed.trace(&tokens).keep("*").run().unwrap()
    };
    let (run, corrupted) = (run_of("clean_tokens"), run_of("corrupted_tokens"));
    let mut compared = 0;
    for (name, wanted) in answers(&folder, "activations.processed.safetensors") {
        let found = match name.as_str() {
            "logits" | "unembed.hook_out" => run.logits().unwrap(),
            "unembed.hook_in" => &run.cache[Site::LN_FINAL_NORMALIZED],
            "logits_corrupted" => corrupted.logits().unwrap(),
            "loss_per_token" => continue,
            name => run.cache.named(name).unwrap(),
        };
        let apart = greatest(found, &wanted);
        assert!(apart <= 1e-10, "{name}: {apart:e}");
        compared += 1;
    }
    assert!(compared > 60, "only {compared} activations were compared");
}

#[test]
fn log_probabilities_stay_in_every_folder_under_every_step_and_order() {
    let mut applied = [0; STEPS.len()];
    for folder in fixtures::model_folders() {
        let model = loaded(&folder, Kind::Double);
        let before = log_probabilities(&model);
        let check = |after: &dyn Model, what: &str| {
            let apart = greatest(&before, &log_probabilities(after));
            assert!(apart <= 1e-10, "{what} of `{}`: {apart:e}", folder.display());
        };
        let steps = steps_of(&model);
        for step in &steps {
            check(&*after(&model, [step]), step.0);
            check(&*after(&model, [step, step]), step.0);
            applied[STEPS.iter().position(|known| known.0 == step.0).unwrap()] += 1;
        }
        check(&*after(&model, &steps), "all steps");
        check(&*after(&model, steps.iter().rev()), "all steps in reverse");
        check(&*processed(&model).unwrap(), "processed");
        assert_eq!(greatest(&before, &log_probabilities(&model)), 0.0, "the old model is as it was");
    }
    fixtures::say(&format!("steps applied: {applied:?}"));
    assert!(applied.iter().all(|count| *count > 0));
}

#[test]
fn steps_compose_in_any_order() {
    for name in ["gpt2", "gpt-neo", "stablelm-parallel", "qwen2"] {
        let model = loaded(&fixtures::root().join("tests/golden").join(name), Kind::Double);
        let before = log_probabilities(&model);
        let steps = steps_of(&model);
        let mut orders = vec![Vec::new()];
        for step in &steps {
            let put = |order: &Vec<_>, at: usize| [&order[..at], &[*step], &order[at..]].concat();
            orders = orders.iter().flat_map(|order| (0..=order.len()).map(move |at| put(order, at))).collect();
        }
        for order in orders {
            let names: Vec<&str> = order.iter().map(|(name, _)| *name).collect();
            let apart = greatest(&before, &log_probabilities(&*after(&model, &order)));
            assert!(apart <= 1e-10, "{names:?} of {name}: {apart:e}");
        }
    }
}

#[test]
fn a_folded_norm_is_plain_and_shows_what_it_showed() {
    for folder in fixtures::model_folders() {
        let model = loaded(&folder, Kind::Double);
        let folded = fold_layer_norm(&model).unwrap();
        let layer_norm = model.dims().norm == NormKind::Layer;
        for weight in model.weights() {
            let (name, value) = (weight.to_string(), folded.weight(weight).unwrap());
            let readers = [Weight::Q, Weight::K, Weight::V, Weight::GATE, Weight::IN, Weight::U];
            if name.contains("ln") {
                let constant = if name.contains(".w") { 1.0 } else { 0.0 };
                assert_eq!(greatest(&value, &value.full_like(constant)), 0.0, "{name}");
            } else if layer_norm && readers.contains(&weight.weight) {
                assert!(mean(&value, -2) <= 1e-14, "{name} of `{}`", folder.display());
            } else if !readers.contains(&weight.weight) && !name.contains(".b_") {
                let before = model.weight(weight).unwrap();
                assert_eq!(before.data_ptr(), value.data_ptr(), "{name} is shared");
            }
        }
        let tokens = tokens(&model);
        let (before, after) = (model.trace(&tokens).keep("*").run().unwrap(), folded.trace(&tokens).keep("*").run());
        let after = after.unwrap();
        for (point, value) in before.cache.iter() {
            let apart = greatest(value, &after.cache[point]);
            assert!(apart <= 1e-10, "{point} of `{}`: {apart:e}", folder.display());
        }
        assert!(greatest(before.logits().unwrap(), after.logits().unwrap()) <= 1e-10);
    }
}

#[test]
fn what_is_centred_has_no_mean() {
    for folder in fixtures::model_folders() {
        let model = loaded(&folder, Kind::Double);
        let whole = processed(&model).unwrap();
        assert!(mean(&whole.weight(Weight::U.global()).unwrap(), -1) <= 1e-14);
        let run = whole.trace(&tokens(&model)).keep(Site::RESID_POST).run().unwrap();
        assert!(mean(run.logits().unwrap(), -1) <= 1e-12);
        if model.dims().norm == NormKind::Rms {
            assert_eq!(
                greatest(&model.weight(Weight::E.into()).unwrap(), &whole.weight(Weight::E.into()).unwrap()),
                0.0,
                "a tied embedding stays"
            );
            continue;
        }
        let writers = [Weight::E, Weight::POS, Weight::O, Weight::O_B, Weight::OUT, Weight::OUT_B];
        for weight in whole.weights().into_iter().filter(|weight| writers.contains(&weight.weight)) {
            assert!(mean(&whole.weight(weight).unwrap(), -1) <= 1e-14, "{weight} of `{}`", folder.display());
        }
        for (point, value) in run.cache.iter() {
            assert!(mean(value, -1) <= 1e-13, "{point} of `{}`", folder.display());
        }
    }
}

#[test]
fn folded_value_biases_leave_attention_as_it_was() {
    let mut biased = 0;
    for folder in fixtures::model_folders() {
        let model = loaded(&folder, Kind::Double);
        let folded = fold_value_biases(&model).unwrap();
        if let Some(bias) = folded.weight_if_any(Weight::V_B.at(0)).unwrap() {
            assert_eq!(bias.abs().max().double_value(&[]), 0.0);
            biased += 1;
        }
        let tokens = tokens(&model);
        let written = |model: &dyn Model| {
            let run = model.trace(&tokens).keep(Site::ATTN_OUT).keep(Site::PATTERN).run().unwrap();
            [run.cache[Site::ATTN_OUT.at(0)].shallow_clone(), run.cache[Site::PATTERN.at(0)].shallow_clone()]
        };
        for (before, after) in written(&model).iter().zip(written(&*folded)) {
            assert!(greatest(before, &after) <= 1e-12, "`{}`", folder.display());
        }
    }
    assert!(biased > 0, "no folder has value biases");
}

#[test]
fn refactored_heads_have_the_same_products_in_their_own_basis() {
    for name in ["gpt2", "gpt2-untied", "gpt-neo"] {
        let model = loaded(&fixtures::root().join("tests/golden").join(name), Kind::Double);
        let refactored = refactor_factored_attention(&model).unwrap();
        for layer in 0..model.dims().n_layers {
            let get = |model: &dyn Model, weight: Weight| model.weight(weight.at(layer)).unwrap();
            let qk = |model: &dyn Model| get(model, Weight::Q).matmul(&get(model, Weight::K).transpose(1, 2));
            let ov = |model: &dyn Model| get(model, Weight::V).matmul(&get(model, Weight::O));
            assert!(greatest(&qk(&model), &qk(&*refactored)) <= 1e-12, "QK of {name}");
            assert!(greatest(&ov(&model), &ov(&*refactored)) <= 1e-12, "OV of {name}");
            let (v, o) = (get(&*refactored, Weight::V), get(&*refactored, Weight::O));
            let identity = Tensor::eye(model.dims().d_head as i64, (Kind::Double, tch::Device::Cpu));
            let rows = o.matmul(&o.transpose(1, 2));
            assert!(greatest(&rows, &identity.expand_as(&rows)) <= 1e-12, "rows of W_O of {name}");
            let values = v.square().sum_dim_intlist(1, false, Kind::Double).sqrt();
            assert!(greatest(&values, &values.sort(-1, true).0) <= 1e-12, "order of singular values of {name}");
        }
        let tokens = tokens(&model);
        let run = |model: &dyn Model| model.trace(&tokens).keep("*").run().unwrap();
        let (before, after) = (run(&model), run(&*refactored));
        for site in [Site::ATTN_SCORES, Site::PATTERN, Site::ATTN_OUT, Site::RESID_POST] {
            for layer in 0..model.dims().n_layers {
                let apart = greatest(&before.cache[site.at(layer)], &after.cache[site.at(layer)]);
                assert!(apart <= 1e-10, "{} of {name}: {apart:e}", site.at(layer));
            }
        }
    }
}

#[test]
fn refactored_heads_have_the_singular_values_of_transformer_lens() {
    let Some(folder) = folder() else { return };
    let refactored = refactor_factored_attention(&model(&folder)).unwrap();
    let factored = answers(&folder, "factored.safetensors");
    let (products, values) = (answer(&factored, "raw.QK.AB"), answer(&factored, "raw.OV.singular_values"));
    for layer in 0..refactored.dims().n_layers {
        let get = |weight: Weight| refactored.weight(weight.at(layer)).unwrap();
        let found = get(Weight::Q).matmul(&get(Weight::K).transpose(1, 2));
        assert!(greatest(&found, &products.get(layer as i64)) <= 1e-10);
        let found = get(Weight::V).square().sum_dim_intlist(1, false, Kind::Double).sqrt();
        assert!(greatest(&found, &values.get(layer as i64)) <= 1e-10);
    }
}

#[test]
fn a_step_that_would_change_the_model_is_refused_with_the_reason() {
    let mut refused = [0; 2];
    for folder in fixtures::model_folders() {
        let model = loaded(&folder, Kind::Float);
        let taken: Vec<&str> = steps_of(&model).iter().map(|(name, _)| *name).collect();
        for (count, (name, step, reason)) in refused.iter_mut().zip([
            ("centre_writing_weights", STEPS[1].1, "RMS norms of"),
            ("refactor_factored_attention", STEPS[4].1, "rotates queries and keys"),
        ]) {
            match step(&model) {
                Ok(_) => assert!(taken.contains(&name), "{name} of `{}`", folder.display()),
                Err(error) => {
                    assert!(!taken.contains(&name) && error.to_string().contains(reason), "{error}");
                    *count += 1;
                }
            }
        }
    }
    assert!(refused.iter().all(|count| *count > 0));
}

#[test]
fn a_norm_that_two_read_through_is_folded_into_both() {
    let model = loaded(&fixtures::root().join("tests/golden/stablelm-parallel"), Kind::Double);
    assert_eq!(model.dims().residual, Residual::Parallel);
    assert!(!model.weights().contains(&Weight::LN2_W.at(0)));
    let folded = fold_layer_norm(&model).unwrap();
    for weight in [Weight::Q, Weight::K, Weight::V, Weight::IN, Weight::GATE] {
        let (before, after) = (model.weight(weight.at(0)).unwrap(), folded.weight(weight.at(0)).unwrap());
        let scale = model.weight(Weight::LN1_W.at(0)).unwrap().unsqueeze(-1);
        let scaled = before * scale;
        let wanted = &scaled - scaled.mean_dim(-2, true, Kind::Double);
        assert!(greatest(&wanted, &after) <= 1e-14, "{weight:?}");
    }
}

#[test]
fn half_precision_is_rounded_once_in_each_step() {
    for name in ["gpt2", "gemma", "qwen2", "stablelm-parallel"] {
        let folder = fixtures::root().join("tests/golden").join(name);
        for kind in [Kind::BFloat16, Kind::Half] {
            let half = loaded(&folder, kind);
            // The same numbers, in 32 bits.
            let single = loaded(&folder, Kind::Float);
            let weights = half.weights().into_iter().map(|weight| (weight, half.weight(weight).unwrap())).collect();
            let single = single.with_weights(weights).unwrap();
            for (step_name, step) in steps_of(&half) {
                let (half, single) = (step(&half).unwrap(), step(&*single).unwrap());
                assert_eq!(half.kind(), kind);
                for weight in half.weights() {
                    let found = half.weight(weight).unwrap();
                    let wanted = single.weight(weight).unwrap().to_kind(found.kind());
                    assert_eq!(greatest(&found, &wanted), 0.0, "{weight} after {step_name} of {name}");
                }
            }
            let processed = processed(&half).unwrap();
            let logits = processed.trace(&tokens(&half)).run().unwrap().logits.unwrap();
            assert_eq!((logits.kind(), logits.isfinite().all().int64_value(&[])), (kind, 1));
        }
    }
}

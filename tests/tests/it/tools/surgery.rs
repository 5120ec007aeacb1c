//! `surgery.layers` and `surgery.each`

use arrakis_core::{Context, Metric, Model as _, ModelExt as _, Prompt, Tokens, Tool as _, loss_by_row};
use arrakis_models::Decoder;
use arrakis_tools::{LayerPlan, SurgeryEach, SurgeryLayers};
use tch::Kind;

use super::{assert_small, each_folder, golden};
use crate::planted;

/// The loss of a run through the layers of `order`, by the waist alone.
fn loss(model: &Decoder, tokens: &Tokens, order: &[usize]) -> f64 {
    let mut stream = model.trace(tokens).stop_at(0).run().unwrap().residual;
    for layer in order {
        stream = model.trace(tokens).start_at(*layer, &stream).stop_at(layer + 1).run().unwrap().residual;
    }
    let logits = model.trace(tokens).start_at(model.dims().n_layers, &stream).run().unwrap().logits.unwrap();
    loss_by_row(&logits, tokens).unwrap().mean(Kind::Double).double_value(&[])
}

#[test]
fn the_natural_order_is_the_plain_run_and_the_model_is_whole_afterwards() {
    each_folder("surgery", |model, rows, name| {
        let digest = model.digest().unwrap();
        let rows = vec![rows[0].clone(), rows[1][..rows[1].len() - 2].to_vec()];
        let natural: Vec<usize> = (0..model.dims().n_layers).collect();
        let asked = SurgeryLayers::new(Prompt::Rows(rows.clone()), LayerPlan::Order(natural));
        let found = asked.run(&Context::new(model)).unwrap();
        assert_eq!(found.natural_gap, 0.0, "{name}");
        assert_eq!(found.loss_before, found.loss_after, "{name}");
        assert_eq!(found.divergence, 0.0, "{name}");
        let each = SurgeryEach::new(Prompt::Rows(rows)).run(&Context::new(model)).unwrap();
        assert_eq!(each.natural_gap, 0.0, "{name}");
        // Loaded anew, so that nothing remembered is compared with itself.
        let again = model.with_weights(Vec::new()).unwrap();
        assert_eq!(again.digest().unwrap(), digest, "{name}");
    });
}

#[test]
fn a_plan_is_run_as_it_says() {
    for name in ["gpt2", "llama", "gpt-neox"] {
        let model = golden(name);
        let prompt = Prompt::Rows(vec![vec![9, 3, 17, 40, 5], vec![4, 8, 2]]);
        let tokens = prompt.tokens(&model).unwrap();
        for (plan, order) in [
            (LayerPlan::Order(vec![1, 0, 0, 1]), vec![1, 0, 0, 1]),
            (LayerPlan::Delete(vec![0]), vec![1]),
            (LayerPlan::Delete(vec![0, 1]), vec![]),
            (LayerPlan::Duplicate(vec![1]), vec![0, 1, 1]),
            (LayerPlan::Swap([0, 1]), vec![1, 0]),
            (LayerPlan::Replace([0, 1]), vec![1, 1]),
            (LayerPlan::Reverse, vec![1, 0]),
        ] {
            let mut asked = SurgeryLayers::new(prompt.clone(), plan);
            asked.metric = Some(Metric::Loss);
            let found = asked.run(&Context::new(&model)).unwrap();
            assert_eq!(found.order, order);
            assert_eq!(found.loss_after, loss(&model, &tokens, &order), "{name} {order:?}");
            assert_eq!(found.metric, Some([found.loss_before, found.loss_after]));
            assert!(found.divergence > 0.0 && found.norms.axis.len() == order.len());
        }
    }
}

#[test]
fn each_layer_is_the_plan_that_names_it() {
    let model = golden("llama");
    let prompt = Prompt::Ids(vec![9, 3, 17, 40, 5]);
    let found = SurgeryEach::new(prompt.clone()).run(&Context::new(&model)).unwrap();
    let plan = |plan| SurgeryLayers::new(prompt.clone(), plan).run(&Context::new(&model)).unwrap().loss_after;
    for layer in 0..2 {
        let same = |column, expected: f64| {
            assert_small((found.after.get(layer, column).unwrap() - expected).abs(), 1e-12, "each");
        };
        same(0, plan(LayerPlan::Delete(vec![layer])));
        same(1, plan(LayerPlan::Duplicate(vec![layer])));
    }
    assert_small((found.after.get(0, 2).unwrap() - plan(LayerPlan::Swap([0, 1]))).abs(), 1e-12, "swap");
    assert!(found.after.get(1, 2).unwrap().is_nan());
    assert_eq!(found.strongest.entries.len(), 5);
}

#[test]
fn a_batch_is_its_rows() {
    let model = golden("gpt-neox");
    let rows = [vec![9, 3, 17, 40, 5], vec![5, 8, 2]];
    let ask = |rows: &[Vec<i64>]| {
        let mut asked = SurgeryEach::new(Prompt::Rows(rows.to_vec()));
        asked.metric = Metric::Logit(7.into());
        asked.run(&Context::new(&model)).unwrap().after.values
    };
    let singles = ask(&rows[..1]).into_iter().zip(ask(&rows[1..]));
    for (both, (first, second)) in ask(&rows).into_iter().zip(singles).filter(|(both, _)| !both.is_nan()) {
        assert_small((both - f64::midpoint(first, second)).abs(), 1e-10, "mean over rows");
    }
}

#[test]
fn the_planted_circuit_wants_both_its_layers_in_order() {
    let ids = planted::repeated();
    let mut asked = SurgeryEach::new(Prompt::Ids(ids[..ids.len() - 1].to_vec()));
    asked.metric = Metric::Probability(ids[ids.len() - 1].into());
    let found = asked.run(&Context::new(&planted::induction())).unwrap();
    assert!(found.before > 0.98);
    for (layer, column) in [(0, 0), (1, 0), (0, 2)] {
        let probability = found.after.get(layer, column).unwrap();
        assert!(probability < 0.1, "layer {layer}, {}: {probability}", found.after.columns.labels[column]);
    }
}

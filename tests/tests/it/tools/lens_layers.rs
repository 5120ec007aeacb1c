//! `logit_lens.layers`, `logit_lens.effects`

use arrakis_core::{Context, Model as _, Prompt, RowTokens, Tool as _, Weight};
use arrakis_tools::{AblationEffects, DirectAttribution, LayerAttribution, LensAblation};
use tch::Tensor;

use super::{TransformerLens, assert_close, assert_small, each_folder, golden, refused};
use crate::fixtures;

#[test]
fn total_effects_are_transformer_lens_ablations() {
    let Some(fixture) = TransformerLens::open() else { return };
    let expected = fixture.file("patching");
    let clean = expected["clean_logit_diff"].double_value(&[]);
    let (answer, wrong) = (fixture.tokens("answer_tokens"), fixture.tokens("wrong_tokens"));
    let mut asked = AblationEffects::new(fixture.prompt("clean_tokens"), answer, wrong);
    asked.heads = true;
    for (ablation, name) in [(LensAblation::Zero, "ablate.zero_head"), (LensAblation::Mean, "ablate.mean_head")] {
        asked.ablation = ablation;
        for cx in [Context::new(&fixture.model), Context::new(&fixture.model).with_memory_limit(1)] {
            let found = asked.run(&cx).unwrap();
            let [total, ..] = found.heads.as_ref().unwrap();
            let ablated: Vec<f64> = total.values.iter().map(|effect| clean - effect).collect();
            assert_close(&ablated, &expected[name], 1e-9, name);
            if ablation == LensAblation::Zero {
                let ablated: Vec<f64> = found.total.values.iter().skip(1).step_by(2).map(|it| clean - it).collect();
                assert_close(&ablated, &expected["ablate.zero_mlp"], 1e-9, "ablate.zero_mlp");
            }
        }
    }
    fixtures::say("3 answers of TransformerLens' ablations compared");
}

#[test]
fn identities_hold_everywhere() {
    each_folder("layers and effects of the lens", |model, rows, name| {
        let prompt = Prompt::Rows(vec![rows[0].clone(), rows[1][..7].to_vec()]);
        let cx = Context::new(model);
        for position in [None, Some(2), Some(-7)] {
            let asked = LayerAttribution { position, ..LayerAttribution::new(prompt.clone()) };
            for found in asked.run(&cx).unwrap().rows {
                assert_small(found.sum_gap, 1e-9, name);
            }
        }
        let answer = RowTokens::Each(vec![3.into(), 8.into()]);
        for ablation in [LensAblation::Zero, LensAblation::Mean] {
            let found = AblationEffects { ablation, ..AblationEffects::new(prompt.clone(), answer.clone(), 5) };
            assert_small(found.run(&cx).unwrap().last_gap, 1e-9, name);
        }
    });
}

#[test]
fn direct_parts_are_those_of_the_attribution() {
    let model = golden("gpt2");
    let cx = Context::new(&model);
    let prompt = Prompt::Ids(vec![9, 3, 17, 40]);
    let layers = LayerAttribution { targets: vec![3.into()], ..LayerAttribution::new(prompt.clone()) };
    let found = layers.run(&cx).unwrap().rows.remove(0);
    let attribution = DirectAttribution { wrong: None, ..DirectAttribution::new(prompt, 3, 0) }.run(&cx).unwrap();
    let [attention, mlp] = [0, 1].map(|line| &attribution.layers.lines[line].values);
    let expected: Vec<f64> = attention.iter().zip(mlp).map(|(a, b)| a + b).collect();
    assert_close(&found.direct.lines[0].values[1..], &Tensor::from_slice(&expected), 1e-10, "direct");
    assert!(found.raised.values.chunks(5).all(|row| row.is_sorted_by(|a, b| a >= b)));
    assert!(found.lowered.values.chunks(5).all(<[f64]>::is_sorted));
}

#[test]
fn a_layer_planted_to_answer_shows_in_what_remains() {
    // With the last block silent, nothing comes after the first: its MLP has no effect but the direct one.
    let model = golden("gpt2");
    let zeros = |weight: Weight| (weight.at(1), model.weight(weight.at(1)).unwrap().zeros_like());
    let silent = [Weight::O, Weight::O_B, Weight::OUT, Weight::OUT_B].map(zeros);
    let silent = model.with_weights(silent.into_iter().collect()).unwrap();
    let asked = AblationEffects::new(Prompt::Ids(vec![9, 3, 17, 40]), 3, 8);
    let found = asked.run(&Context::new(silent.as_ref())).unwrap();
    assert_small(found.remaining.get(0, 1).unwrap().abs(), 1e-12, "nothing answers");
    assert_small(found.total.get(1, 0).unwrap().abs(), 1e-12, "a silent layer has no effect");
    let found = asked.run(&Context::new(&model)).unwrap();
    assert!(found.remaining.get(0, 1).unwrap().abs() > 1e-6);
}

#[test]
fn a_batch_is_its_rows() {
    let model = golden("llama");
    let cx = Context::new(&model);
    let rows = [vec![9, 3, 17, 40], vec![5, 8]];
    let ask = |rows: &[Vec<i64>]| {
        let asked = AblationEffects::new(Prompt::Rows(rows.to_vec()), 3, 8);
        AblationEffects { heads: true, ..asked }.run(&cx).unwrap()
    };
    let (together, first, second) = (ask(&rows), ask(&rows[..1]), ask(&rows[1..]));
    for (both, (first, second)) in [
        (&together.total, (&first.total, &second.total)),
        (&together.heads.as_ref().unwrap()[1], (&first.heads.as_ref().unwrap()[1], &second.heads.as_ref().unwrap()[1])),
    ] {
        let mean: Vec<f64> = first.values.iter().zip(&second.values).map(|(a, b)| (a + b) / 2.0).collect();
        assert_close(&both.values, &Tensor::from_slice(&mean), 1e-10, "mean over rows");
    }
    let ask = |rows: &[Vec<i64>]| LayerAttribution::new(Prompt::Rows(rows.to_vec())).run(&cx).unwrap();
    assert_eq!(ask(&rows).rows[1].raised, ask(&rows[1..]).rows[0].raised);
}

#[test]
fn bad_input_is_named() {
    let model = golden("gpt2");
    let prompt = Prompt::Ids(vec![9, 3, 17, 40]);
    let layers = LayerAttribution::new(prompt.clone());
    assert!(refused(&LayerAttribution { top: 62, ..layers.clone() }, &model).contains("top 62"));
    assert!(refused(&LayerAttribution { position: Some(4), ..layers.clone() }, &model).contains("position 4"));
    assert!(refused(&LayerAttribution { targets: vec![61.into()], ..layers }, &model).contains("token id 61"));
    let effects = AblationEffects::new(prompt, 3, 8);
    assert!(refused(&AblationEffects { answer: 61.into(), ..effects.clone() }, &model).contains("token id 61"));
    assert!(refused(&AblationEffects { position: Some(-5), ..effects }, &model).contains("position -5"));
}

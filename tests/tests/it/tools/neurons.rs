//! `logit_attribution.neurons`, `logit_attribution.circulation`

use arrakis_core::{Context, Model as _, PosSlice, Prompt, Residual, RowTokens, Tokens, Tool as _, Weight, answer};
use arrakis_tools::{LogitLens, NeuronAttribution, ResidualWrites, StreamPlace, TokenCirculation};
use tch::{Kind, Tensor};

use super::{TransformerLens, assert_close, assert_small, each_folder, golden, refused};

#[test]
fn neurons_are_those_of_the_stack() {
    let Some(fixture) = TransformerLens::open() else { return };
    let model = &fixture.model;
    let (answer, wrong) = (fixture.tokens("answer_tokens"), fixture.tokens("wrong_tokens"));
    let cx = Context::new(model);
    let found = NeuronAttribution::new(fixture.prompt("clean_tokens"), answer, wrong).run(&cx).unwrap();
    // TransformerLens' neurons at the last position, projected as its `logit_attrs` projects.
    let neurons = &fixture.file("attribution.raw")["stack_neuron_results.last"];
    let scale = &fixture.file("attribution.raw")["ln_final_scale"].select(1, -1);
    let unembed = model.weight(Weight::U.global()).unwrap();
    let column = |name: &str| unembed.index_select(1, &fixture.inputs[name]).transpose(0, 1);
    let direction = column("answer_tokens") - column("wrong_tokens");
    let parts = (model.final_norm_with_scale(neurons, scale).unwrap() * direction)
        .sum_dim_intlist(-1, false, Kind::Double)
        .mean_dim(1, false, Kind::Double);
    assert_close(&found.neurons.values, &parts, 1e-9, "neurons");
    let expected = fixture.file("patching")["clean_logit_diff"].double_value(&[]);
    assert_small((found.logit_difference - expected).abs(), 1e-9, "logit difference");
}

#[test]
fn identities_hold_everywhere() {
    each_folder("neurons and circulation", |model, rows, name| {
        let prompt = Prompt::Rows(vec![rows[0].clone(), rows[1][..7].to_vec()]);
        let cx = Context::new(model);
        let each = RowTokens::Each(vec![3.into(), 8.into()]);
        for (position, wrong) in [(None, Some(5.into())), (Some(2), None), (Some(-7), Some(9.into()))] {
            let mut asked = NeuronAttribution::new(prompt.clone(), each.clone(), 0);
            (asked.position, asked.wrong) = (position, wrong);
            let found = asked.run(&cx).unwrap();
            assert_small(found.mlp_gap, 1e-9, name);
            let mut asked = TokenCirculation::new(prompt.clone(), vec![3.into(), 5.into()]);
            asked.position = position;
            for found in asked.run(&cx).unwrap().rows {
                assert_small(found.logit_gap, 1e-9, name);
                let per_layer = if model.dims().residual == Residual::Serial { 2 } else { 1 };
                assert_eq!(found.movement.rows.len(), per_layer * model.dims().n_layers, "{name}");
            }
        }
    });
}

#[test]
fn a_planted_neuron_is_the_greatest() {
    let model = golden("llama");
    let ids = [9, 3, 17, 40];
    let tokens = Tokens::from_ids(&ids).unwrap();
    let writes = ResidualWrites::of(&Context::new(&model), &tokens, &PosSlice::Last, true).unwrap();
    let active = writes.neuron_factors(1).unwrap().0.reshape([-1]).get(4).double_value(&[]);
    assert!(active != 0.0 && writes.stream(StreamPlace::End).is_ok());
    // Neuron 4 of the last layer writes token 6's unembedding, with the sign that raises it.
    let out = model.weight(Weight::OUT.at(1)).unwrap().copy();
    let column = model.weight(Weight::U.global()).unwrap().select(1, 6) * (50.0 / active);
    out.get(4).copy_(&column);
    let planted = model.with_weights(vec![(Weight::OUT.at(1), out)]).unwrap();
    let cx = Context::new(planted.as_ref());
    let mut asked = NeuronAttribution::new(Prompt::Ids(ids.to_vec()), 6, 0);
    asked.wrong = None;
    let found = asked.run(&cx).unwrap();
    assert_eq!(found.top.entries[0].label, "L1N4");
    assert!(found.top.entries[0].value > 0.0);
    assert_eq!(found.by_layer.cells.as_ref().unwrap()[10], "L1N4");
    let moved = TokenCirculation::new(Prompt::Ids(ids.to_vec()), vec![6.into()]).run(&cx).unwrap();
    assert!(moved.rows[0].movers.entries[0].label.contains("1_mlp_out"), "{:?}", moved.rows[0].movers);
}

#[test]
fn circulation_is_the_lens_followed() {
    let model = golden("gpt2");
    let cx = Context::new(&model);
    let prompt = Prompt::Ids(vec![9, 3, 17, 40]);
    let lens = LogitLens { mid: true, targets: vec![5.into()], ..LogitLens::new(prompt.clone()) };
    let lens = lens.run(&cx).unwrap().rows.remove(0);
    let found = TokenCirculation::new(prompt, vec![5.into()]).run(&cx).unwrap().rows.remove(0);
    let expected = Tensor::from_slice(&lens.target_probability.unwrap().lines[0].values);
    assert_close(&found.probability.lines[0].values, &expected, 1e-12, "probability");
    assert_eq!(found.rank.lines[0].values, lens.target_rank.unwrap().lines[0].values);
    assert_eq!(found.logits.axis.labels, ["0_pre", "0_mid", "1_pre", "1_mid", "final_post"]);
}

#[test]
fn a_batch_is_its_rows() {
    let model = golden("llama");
    let cx = Context::new(&model);
    let rows = [vec![9, 3, 17, 40], vec![5, 8]];
    let ask = |rows: &[Vec<i64>]| NeuronAttribution::new(Prompt::Rows(rows.to_vec()), 3, 8).run(&cx).unwrap();
    let (together, first, second) = (ask(&rows), ask(&rows[..1]), ask(&rows[1..]));
    let mean: Vec<f64> = first.neurons.values.iter().zip(&second.neurons.values).map(|(a, b)| (a + b) / 2.0).collect();
    assert_close(&together.neurons.values, &Tensor::from_slice(&mean), 1e-12, "mean over rows");
    let ask = |rows: &[Vec<i64>]| TokenCirculation::new(Prompt::Rows(rows.to_vec()), vec![3.into()]).run(&cx).unwrap();
    assert_eq!(ask(&rows).rows[1].movement, ask(&rows[1..]).rows[0].movement);
}

#[test]
fn bad_input_is_named() {
    let model = golden("gpt2");
    let prompt = Prompt::Ids(vec![9, 3, 17, 40]);
    let neurons = NeuronAttribution::new(prompt.clone(), 3, 8);
    assert!(refused(&NeuronAttribution { top: 0, ..neurons.clone() }, &model).contains("top 0"));
    assert!(refused(&NeuronAttribution { position: Some(4), ..neurons.clone() }, &model).contains("position 4"));
    assert!(refused(&NeuronAttribution { answer: 61.into(), ..neurons }, &model).contains("token id 61"));
    let tokens = TokenCirculation::new(prompt, vec![3.into()]);
    assert!(refused(&TokenCirculation { tokens: vec![], ..tokens.clone() }, &model).contains("the list is empty"));
    assert!(refused(&TokenCirculation { tokens: vec![61.into()], ..tokens.clone() }, &model).contains("token id 61"));
    assert!(refused(&TokenCirculation { position: Some(-5), ..tokens }, &model).contains("position -5"));
    let weight = model.weight(Weight::OUT.at(0)).unwrap();
    let broken = model.with_weights(vec![(Weight::OUT.at(0), weight.full_like(f64::NAN))]).unwrap();
    let why = super::message(NeuronAttribution::new(Prompt::Ids(vec![9]), 3, 8).run(&Context::new(broken.as_ref())));
    assert!(why.contains("not a number"), "{why}");
    assert!(answer::numbers(&weight).is_ok());
}

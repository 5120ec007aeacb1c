//! `residual_decomposition.*`, and the stacks they are made of.

use arrakis_core::{Context, Model, PosSlice, Prompt, Tokens, Tool as _, Weight, answer};
use arrakis_models::processing::processed;
use arrakis_tools::{
    Decomposition, Direction, FullDecomposition, MlpBasis, MlpSide, ResidualWrites, Split, StreamPlace, Sublayers,
    TopBy, TopComponents,
};
use tch::{Kind, Tensor};

use super::{TransformerLens, assert_close, assert_small, each_folder, golden, refused};
use crate::fixtures::{self, greatest};

/// The model's stacks against a file of TransformerLens' answers, each by name, with its labels.
///
/// `whole` is the model with the final norm's weight, which TransformerLens applies to accumulated streams alone.
fn compare(fixture: &TransformerLens, model: &dyn Model, whole: &dyn Model, file: &str) {
    let labels = std::fs::read(fixture.folder.join("labels.json")).unwrap();
    let labels: serde_json::Value = serde_json::from_slice(&labels).unwrap();
    let expected = fixture.file(file);
    let tokens = Tokens::from_tensor(&fixture.inputs["clean_tokens"]).unwrap();
    let cx = Context::new(model);
    let all = ResidualWrites::of(&cx, &tokens, &PosSlice::All, false).unwrap();
    let last = ResidualWrites::of(&cx, &tokens, &PosSlice::Last, true).unwrap();
    let whole_all = ResidualWrites::of(&Context::new(whole), &tokens, &PosSlice::All, false).unwrap();
    let whole_last = ResidualWrites::of(&Context::new(whole), &tokens, &PosSlice::Last, false).unwrap();
    let (end, block1) = (StreamPlace::End, StreamPlace::Before(1));
    let ln = |writes: &ResidualWrites<'_>, parts: Decomposition| writes.apply_ln(&parts).unwrap();
    let found = [
        ("accumulated_resid", all.accumulated_resid(end, false).unwrap()),
        ("accumulated_resid.mid", all.accumulated_resid(end, true).unwrap()),
        ("accumulated_resid.ln", whole_all.apply_own_ln(&all.accumulated_resid(end, false).unwrap()).unwrap()),
        ("accumulated_resid.layer1", all.accumulated_resid(block1, false).unwrap()),
        (
            "accumulated_resid.last.mid.ln",
            whole_last.apply_own_ln(&last.accumulated_resid(end, true).unwrap()).unwrap(),
        ),
        ("decompose_resid", all.decompose_resid(end, Sublayers::All, true).unwrap()),
        ("decompose_resid.ln", ln(&all, all.decompose_resid(end, Sublayers::All, true).unwrap())),
        ("decompose_resid.attn", all.decompose_resid(end, Sublayers::Attention, true).unwrap()),
        ("decompose_resid.mlp", all.decompose_resid(end, Sublayers::Mlp, true).unwrap()),
        ("decompose_resid.noembed.last", last.decompose_resid(end, Sublayers::All, false).unwrap()),
        (
            "decompose_resid.layer1.mlp_input",
            all.decompose_resid(StreamPlace::BeforeMlp(1), Sublayers::All, true).unwrap(),
        ),
        ("stack_head_results", all.stack_head_results(end, false).unwrap()),
        ("stack_head_results.remainder.ln", ln(&all, all.stack_head_results(end, true).unwrap())),
        ("stack_head_results.last", last.stack_head_results(end, false).unwrap()),
        ("stack_head_results.layer1", all.stack_head_results(block1, false).unwrap()),
        ("full_decomposition", all.full_decomposition(end, false).unwrap()),
        ("full_decomposition.neurons.last", last.full_decomposition(end, true).unwrap()),
        ("stack_neuron_results.last", last.stack_neuron_results(end, false).unwrap()),
    ];
    let mut compared = 0;
    for (name, found) in &found {
        let wanted: Vec<&str> = labels[name].as_array().unwrap().iter().map(|label| label.as_str().unwrap()).collect();
        assert_eq!(found.labels, wanted, "{name}");
        let expected = &expected[*name];
        assert_small(greatest(&found.stack.reshape(expected.size()), expected), 1e-9, &format!("{file} {name}"));
        compared += 1;
    }
    let ids = |name: &str| fixture.inputs[name].shallow_clone();
    let (answer, wrong) = (ids("answer_tokens"), ids("wrong_tokens"));
    let attrs = [
        ("accumulated_resid", last.accumulated_resid(end, true).unwrap(), Some(&wrong)),
        ("decompose_resid", last.decompose_resid(end, Sublayers::All, true).unwrap(), Some(&wrong)),
        ("answer_only.decompose_resid", last.decompose_resid(end, Sublayers::All, true).unwrap(), None),
        ("stack_head_results", last.stack_head_results(end, true).unwrap(), Some(&wrong)),
    ];
    for (name, parts, wrong) in &attrs {
        let name = format!("logit_attrs.{name}");
        let found = last.logit_attrs(parts, &answer, *wrong).unwrap().squeeze_dim(-1);
        assert_small(greatest(&found, &expected[&name]), 1e-9, &format!("{file} {name}"));
        compared += 1;
    }
    for (name, mid, count) in [("accumulated_bias", false, 4), ("accumulated_bias.mlp_input", true, 3)] {
        for layer in 0..count {
            let place = if mid { StreamPlace::BeforeMlp(layer) } else { StreamPlace::Before(layer) };
            let expected = expected[name].get(layer as i64);
            let bias = all.accumulated_bias(place, true).unwrap();
            assert_small(greatest(&bias, &expected), 1e-9, &format!("{file} {name} {layer}"));
        }
        compared += 1;
    }
    assert_small(greatest(all.final_scale().unwrap(), &expected["ln_final_scale"]), 1e-9, "ln_final_scale");
    fixtures::say(&format!("{file}: {} of {} answers compared", compared + 1, expected.len()));
}

/// The lens of the accumulated streams: by the model's own unembedding, and through `apply_own_ln`.
fn compare_lens(fixture: &TransformerLens, model: &dyn Model, file: &str) {
    let expected = fixture.file(file);
    let tokens = Tokens::from_tensor(&fixture.inputs["clean_tokens"]).unwrap();
    let last = ResidualWrites::of(&Context::new(model), &tokens, &PosSlice::Last, false).unwrap();
    let stream = last.accumulated_resid(StreamPlace::End, true).unwrap();
    let own = model.unembed(&stream.stack).unwrap().squeeze_dim(2);
    assert_small(greatest(&own, &expected["logit_lens.mid.last_position"]), 1e-9, "logit_lens");
    // The name says otherwise, but TransformerLens 3.9 takes each stream's own scale here too.
    let held = last.apply_own_ln(&stream).unwrap().stack;
    let mut held = held.matmul(&model.weight(Weight::U.global()).unwrap()).squeeze_dim(2);
    if let Some(bias) = model.weight_if_any(Weight::U_B.global()).unwrap() {
        held += bias;
    }
    assert_small(greatest(&held, &expected["logit_lens_cached_scale.mid.last_position"]), 1e-9, "cached scale");
}

#[test]
fn stacks_are_those_of_transformer_lens() {
    let Some(fixture) = TransformerLens::open() else { return };
    let folded = processed(&fixture.model).unwrap();
    compare(&fixture, folded.as_ref(), folded.as_ref(), "attribution.processed");
    compare_lens(&fixture, folded.as_ref(), "attribution.processed");
    // TransformerLens' `apply_ln` leaves the final norm's weight out; so its stacks are those of a weight of 1.
    let ones = Tensor::ones([fixture.model.dims().d_model as i64], (Kind::Double, tch::Device::Cpu));
    let plain = fixture.model.with_weights(vec![(Weight::LN_FINAL_W.global(), ones)]).unwrap();
    compare(&fixture, plain.as_ref(), &fixture.model, "attribution.raw");
    compare_lens(&fixture, &fixture.model, "attribution.raw");
}

#[test]
fn parts_sum_to_the_stream() {
    each_folder("residual decomposition", |model, rows, name| {
        let prompt = Prompt::Rows(vec![rows[0].clone(), rows[1][..7].to_vec()]);
        let cx = Context::new(model);
        for by in [Split::Sublayers, Split::Heads, Split::Neurons] {
            for layer in [None, Some(1)] {
                let mut asked = FullDecomposition { by, layer, ..FullDecomposition::new(prompt.clone()) };
                asked.direction = Some(Direction::Token(3.into()));
                asked.positions = Some(vec![-1, 2]);
                for found in asked.run(&cx).unwrap().rows {
                    assert_small(found.sum_gap, 1e-9, name);
                    assert_small(found.projection_gap.unwrap(), 1e-9, name);
                    let sum: f64 = found.shares.values.iter().step_by(2).sum();
                    assert_small((sum - 1.0).abs(), 1e-9, name);
                }
            }
        }
        for side in [MlpSide::In, MlpSide::Gate] {
            let found = MlpBasis { side, ..MlpBasis::default() }.run(&cx);
            if side == MlpSide::In || model.weight_if_any(Weight::GATE.at(0)).unwrap().is_some() {
                assert_small(found.unwrap().product_gap, 1e-9, name);
            }
        }
    });
}

#[test]
fn neurons_are_measured_as_what_they_write() {
    for name in ["gpt2", "llama"] {
        let model = golden(name);
        let cx = Context::new(&model);
        let tokens = Tokens::from_ids(&[9, 3, 17, 40]).unwrap();
        let writes = ResidualWrites::of(&cx, &tokens, &PosSlice::Last, true).unwrap();
        let neurons = writes.stack_neuron_results(StreamPlace::End, false).unwrap();
        let ids = Tensor::from_slice(&[3_i64]);
        let logits = writes.logit_attrs(&neurons, &ids, None).unwrap();
        let asked = FullDecomposition {
            by: Split::Neurons,
            direction: Some(Direction::Token(3.into())),
            ..FullDecomposition::new(Prompt::Ids(vec![9, 3, 17, 40]))
        };
        let found = asked.run(&cx).unwrap().rows.remove(0);
        let place = |label: &String| found.norms.rows.labels.iter().position(|known| known == label).unwrap();
        let places: Vec<usize> = neurons.labels.iter().map(place).collect();
        let chosen = |values: &[f64]| places.iter().map(|place| values[*place]).collect::<Vec<_>>();
        let norms = neurons.stack.square().sum_dim_intlist(-1, false, Kind::Double).sqrt();
        assert_close(&chosen(&found.norms.values), &norms, 1e-12, "norms");
        assert_close(&chosen(&found.projections.unwrap().values), &logits, 1e-12, "projections");

        // The ranking holds the greatest of them.
        let mut top = TopComponents::new(Prompt::Ids(vec![9, 3, 17, 40]));
        (top.split, top.by, top.top) = (Split::Neurons, Some(TopBy::Share), 10_000);
        let top = top.run(&cx).unwrap().rows.remove(0);
        assert_eq!(top.count, found.norms.rows.len());
        assert!(top.top.entries.is_sorted_by(|a, b| a.value.abs() >= b.value.abs()));
        assert_small((top.sum_of_top - 1.0).abs(), 1e-10, "shares sum to 1");
    }
}

#[test]
fn a_planted_write_is_found() {
    let model = golden("gpt2");
    let dims = model.dims();
    // Neuron 5 of layer 1 writes along the first axis, a hundred times as much as usual; and layer 0's MLP is of rank 1.
    let out = model.weight(Weight::OUT.at(1)).unwrap().copy();
    let axis = Tensor::zeros([dims.d_model as i64], (Kind::Double, tch::Device::Cpu));
    let _ = axis.get(0).fill_(100.0);
    out.get(5).copy_(&axis);
    let into = Tensor::zeros([dims.d_model as i64, dims.d_mlp as i64], (Kind::Double, tch::Device::Cpu));
    let _ = into.get(2).get(7).fill_(3.0);
    let edited = model.with_weights(vec![(Weight::OUT.at(1), out), (Weight::IN.at(0), into)]).unwrap();
    let cx = Context::new(edited.as_ref());
    let mut asked = TopComponents::new(Prompt::Ids(vec![9, 3, 17, 40]));
    let mut direction = vec![0.0; dims.d_model];
    direction[0] = 2.0;
    (asked.split, asked.direction) = (Split::Neurons, Some(Direction::Vector(direction)));
    let found = asked.run(&cx).unwrap().rows.remove(0);
    assert_eq!(found.top.entries[0].label, "L1N5");

    let bases = MlpBasis { layers: Some(vec![0]), top: 2, ..MlpBasis::default() }.run(&cx).unwrap();
    let values = &bases.singular_values.lines[0].values;
    let row = edited.weight(Weight::OUT.at(0)).unwrap().get(7);
    let length = row.square().sum(Kind::Double).sqrt().double_value(&[]);
    assert_small((values[0] - 3.0 * length).abs(), 1e-10, "the one singular value");
    assert!(values[1] < 1e-10);
    let read = answer::numbers(&bases.layers[0].directions.values.get(0).get(0)).unwrap();
    assert_small((read[2].abs() - 1.0).abs(), 1e-10, "the one direction read");
}

#[test]
fn rows_are_answered_one_by_one() {
    let model = golden("llama");
    let cx = Context::new(&model);
    let rows = [vec![9, 3, 17, 40], vec![5, 8]];
    let together = FullDecomposition::new(Prompt::Rows(rows.to_vec())).run(&cx).unwrap();
    for (row, ids) in rows.into_iter().enumerate() {
        let alone = FullDecomposition::new(Prompt::Ids(ids)).run(&cx).unwrap();
        assert_eq!(alone.rows[0].norms, together.rows[row].norms);
    }
}

#[test]
fn bad_input_is_named() {
    let (model, parallel) = (golden("gpt2"), golden("gpt-neox"));
    let full = FullDecomposition::new(Prompt::Ids(vec![9, 3, 17, 40]));
    let ask = |change: &dyn Fn(&mut FullDecomposition)| {
        let mut asked = full.clone();
        change(&mut asked);
        refused(&asked, &model)
    };
    assert!(ask(&|asked| asked.layer = Some(3)).contains("layer 3 is out of range: there are 3"));
    assert!(ask(&|asked| asked.mid = true).contains("say in which block"));
    assert!(ask(&|asked| asked.positions = Some(vec![])).contains("the list is empty"));
    assert!(ask(&|asked| asked.positions = Some(vec![4])).contains("position 4"));
    assert!(ask(&|asked| asked.direction = Some(Direction::Vector(vec![1.0]))).contains("it has 1 numbers"));
    let nan = vec![f64::NAN; model.dims().d_model];
    assert!(ask(&|asked| asked.direction = Some(Direction::Vector(nan.clone()))).contains("entry 0 is NaN"));
    assert!(ask(&|asked| asked.direction = Some(Direction::Token(61.into()))).contains("token id 61"));
    let mid = FullDecomposition { layer: Some(1), mid: true, ..full.clone() };
    assert!(refused(&mid, &parallel).contains("read the same stream"));
    let top = TopComponents::new(Prompt::Ids(vec![9]));
    assert!(refused(&TopComponents { by: Some(TopBy::Projection), ..top.clone() }, &model).contains("`direction`"));
    assert!(refused(&TopComponents { top: 0, ..top }, &model).contains("top 0"));
    let basis = MlpBasis::default();
    assert!(refused(&MlpBasis { side: MlpSide::Gate, ..basis.clone() }, &model).contains("have no gate"));
    assert!(refused(&MlpBasis { layers: Some(vec![2]), ..basis.clone() }, &model).contains("layer 2"));
    assert!(refused(&MlpBasis { tokens: 62, ..basis }, &model).contains("tokens 62"));
    let cx = Context::new(&model).with_memory_limit(100);
    assert!(super::message(full.run(&cx)).contains("may hold 100"));
}

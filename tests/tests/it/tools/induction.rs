//! A hand-built induction circuit (Elhage et al. 2021), found by the questions that should find it.

use std::f64::consts::PI;

use arrakis_core::{Context, Model, Prompt, Stream, Tool as _, Weight, WeightPoint};
use arrakis_tools::{AttentionHeads, CompositionScores, HeadInput, HeadPath, HeadPlace, VirtualHead};
use tch::{Device, Kind, Tensor};

use super::{assert_small, golden};

/// The head that attends to the previous token and writes it into a subspace of its own.
const PREVIOUS: HeadPlace = HeadPlace::new(0, 0);
/// The head whose keys are that subspace and whose queries are tokens.
const INDUCTION: HeadPlace = HeadPlace::new(1, 1);

/// The golden GPT-2 with an induction circuit for the tokens 0 to 5 and twelve positions.
fn induction_circuit() -> Box<dyn Model> {
    let model = golden("gpt2");
    let dims = model.dims();
    let (d_model, d_head) = (dims.d_model as i64, dims.d_head as i64);
    // Orthonormal directions that the layer norm does not centre away: tokens, copies of them, and a plane of positions.
    let ones = Tensor::ones([d_model, 1], (Kind::Double, Device::Cpu));
    let drawn = Stream::new(2, "directions").normals(&[d_model, 2 * d_head + 2]).unwrap();
    let (directions, _) = Tensor::linalg_qr(&Tensor::cat(&[ones, drawn], 1), "reduced");
    let (tokens, copies) = (directions.narrow(1, 1, d_head), directions.narrow(1, 1 + d_head, d_head));
    let plane = directions.narrow(1, 1 + 2 * d_head, 2);

    let old = |weight: WeightPoint| model.weight(weight).unwrap();
    let step = PI / 6.0;
    let angles = Tensor::arange(dims.context as i64, (Kind::Double, Device::Cpu)) * step;
    let positions = Tensor::stack(&[angles.cos(), angles.sin()], 1).matmul(&plane.tr());
    let embedding = tokens.tr().constant_pad_nd([0, 0, 0, dims.vocab as i64 - d_head]);
    // A step back along the circle of positions.
    let back = Tensor::from_slice(&[step.cos(), -step.sin(), step.sin(), step.cos()]).view([2, 2]);
    let wide = |columns: &Tensor| columns.constant_pad_nd([0, d_head - columns.size()[1]]);
    let with = |weight: Weight, place: HeadPlace, value: &Tensor| {
        let weight = weight.at(place.layer);
        (weight, old(weight).select_scatter(value, 0, place.head as i64))
    };
    let zeros = |weight: Weight, layer: usize| (weight.at(layer), old(weight.at(layer)).zeros_like());
    let mut edits = vec![
        (Weight::E.global(), embedding),
        (Weight::POS.global(), positions),
        with(Weight::Q, PREVIOUS, &wide(&(plane.matmul(&back) * 20.0))),
        with(Weight::K, PREVIOUS, &wide(&plane)),
        with(Weight::V, PREVIOUS, &tokens),
        with(Weight::Q, INDUCTION, &(&tokens * 8.0)),
        with(Weight::K, INDUCTION, &copies),
        with(Weight::V, INDUCTION, &tokens),
    ];
    for layer in 0..dims.n_layers {
        let biases = [Weight::Q_B, Weight::K_B, Weight::V_B, Weight::O_B, Weight::LN1_B, Weight::OUT, Weight::OUT_B];
        edits.extend(biases.map(|bias| zeros(bias, layer)));
        edits.push((Weight::LN1_W.at(layer), old(Weight::LN1_W.at(layer)).ones_like()));
    }
    // The other heads write next to nothing. Two unit vectors come out of the norm about 3.5 times as long.
    let quiet = |layer: usize| old(Weight::O.at(layer)) * 1e-3;
    edits.push((Weight::O.at(0), quiet(0).select_scatter(&(copies.tr() / 3.5), 0, 0)));
    edits.push((Weight::O.at(1), quiet(1).select_scatter(&tokens.tr(), 0, 1)));
    model.with_weights(edits).unwrap()
}

/// A first token, then five twice.
fn repeated() -> Prompt {
    Prompt::Ids(vec![0, 3, 1, 5, 2, 4, 3, 1, 5, 2, 4])
}

#[test]
fn its_heads_are_found_by_their_attention() {
    let model = induction_circuit();
    let asked = AttentionHeads { prompt: Some(repeated()), ..AttentionHeads::default() };
    let found = asked.run(&Context::new(&*model)).unwrap();
    assert_eq!(found.best[0].entries[0].label, "L0H0");
    assert_eq!(found.best[2].entries[0].label, "L1H1");
    assert!(found.previous_token.get(0, 0).unwrap() > 0.95 && found.induction.get(1, 1).unwrap() > 0.95);
}

#[test]
fn its_heads_are_found_by_their_weights() {
    let model = induction_circuit();
    let cx = Context::new(&*model);
    let found = CompositionScores::default().run(&cx).unwrap();
    let strongest =
        found.inputs.iter().flat_map(|scores| &scores.top.entries).max_by(|a, b| a.value.total_cmp(&b.value));
    assert_eq!(strongest.unwrap().label, "L0H0 → L1H1");
    assert_eq!(strongest.unwrap().value, found.inputs[1].top.entries[0].value, "it is K-composition");
    // What the earlier head copies the later one looks for: orthonormal circuits of rank `d_head` that meet.
    assert_small((strongest.unwrap().value - 1.0 / 6_f64.sqrt()).abs(), 1e-12, "composition");
    // A token, once copied, is found by the queries of that token.
    let tokens = (0..6).map(Into::into).collect();
    let asked = VirtualHead { tokens, top: 1, ..VirtualHead::new(PREVIOUS, INDUCTION, HeadInput::K) };
    let found = asked.run(&cx).unwrap();
    assert_small((found.copying_score - 1.0).abs(), 1e-12, "copying");
    let queries: Vec<String> = (0..6).map(|token| format!("[{token}]")).collect();
    assert_eq!(found.effect.unwrap().cells.unwrap(), queries);
}

#[test]
fn its_path_is_found_in_a_prompt() {
    let model = induction_circuit();
    let cx = Context::new(&*model);
    let path = |input| {
        let asked = HeadPath::new(repeated(), PREVIOUS, INDUCTION, input);
        asked.run(&cx).unwrap().rows.remove(0)
    };
    // The last token, 4, was last seen at position 5; what came after it is at position 6.
    let keys = path(HeadInput::K);
    assert_eq!((keys.query, keys.key), (10, 6));
    assert!((keys.sender_share - 1.0).abs() < 0.01, "{:?}", keys.shares);
    assert_eq!(keys.effects.entries[0].label, "L0H0");
    assert!((keys.sender_effect / keys.whole_effect - 1.0).abs() < 0.01, "{:?}", keys.effects);
    // Its queries are the tokens themselves.
    let queries = path(HeadInput::Q);
    assert_eq!(queries.shares.entries[0].label, "embed");
    assert!((queries.shares.entries[0].value - 1.0).abs() < 0.01 && queries.sender_share.abs() < 0.01);
    for found in [keys, queries] {
        assert_small(found.input_gap, 1e-12, "input");
        assert_small(found.effect_gap, 1e-12, "effect");
    }
}

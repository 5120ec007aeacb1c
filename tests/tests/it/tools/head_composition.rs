//! `head_composition.*`

use arrakis_core::{Context, Model, Stream, Tool as _, Weight};
use arrakis_models::processing::processed;
use arrakis_tools::{Circuit, CompositionScores, HeadInput};
use tch::{Kind, Tensor};

use super::{TransformerLens, assert_small, each_folder, golden, refused};
use crate::fixtures::{self, greatest};

#[test]
fn scores_agree_with_transformer_lens() {
    let Some(fixture) = TransformerLens::open() else { return };
    let expected = fixture.file("factored");
    let processed = processed(&fixture.model).unwrap();
    let models: [(&str, &dyn Model); 2] = [("raw", &fixture.model), ("processed", &*processed)];
    for (which, model) in models {
        let found = CompositionScores::default().run(&Context::new(model)).unwrap();
        assert_small(found.dense_gap, 1e-12, which);
        for scores in found.inputs {
            let name = format!("{which}.composition.{}", scores.input.name().to_uppercase());
            assert_small(greatest(&scores.scores.values, &expected[&name]), 1e-9, &name);
        }
    }
}

#[test]
fn scores_are_those_of_the_factored_circuits() {
    each_folder("composition scores", |model, _, name| {
        // The bound makes several blocks of columns.
        let cx = Context::new(model).with_memory_limit(60_000);
        let found = CompositionScores::default().run(&cx).unwrap();
        assert_small(found.dense_gap, 1e-9, name);
        let earlier = Circuit::Ov.of_layer(model, 0).unwrap();
        let heads = model.dims().n_heads as i64;
        for scores in found.inputs {
            let later = match scores.input {
                HeadInput::Q => Circuit::Qk.of_layer(model, 1).unwrap(),
                HeadInput::K => Circuit::Qk.of_layer(model, 1).unwrap().transpose().unwrap(),
                HeadInput::V => Circuit::Ov.of_layer(model, 1).unwrap(),
            };
            let values = scores.scores.values.get(0).select(1, 1);
            for head in 0..heads {
                let expected = earlier.get(head).unwrap().composition(&later).unwrap();
                assert_small(greatest(&values.get(head), &expected), 1e-9, name);
            }
            assert_eq!(scores.scores.values.get(1).select(1, 0).abs().max().double_value(&[]), 0.0);
            assert_eq!(scores.by_layer.get(0, 1).unwrap(), values.max().double_value(&[]));
            let best = scores.top.entries[0].value;
            assert_eq!(best, scores.scores.values.max().double_value(&[]));
        }
    });
}

/// An orthogonal matrix drawn evenly (Mezzadri, 2007).
fn rotation(stream: &mut Stream, len: i64) -> Tensor {
    let (q, r) = Tensor::linalg_qr(&stream.normals(&[len, len]).unwrap(), "reduced");
    q * r.diagonal(0, 0, 1).sign()
}

#[test]
fn rotated_at_random_heads_compose_by_chance() {
    let model = golden("gpt2");
    let out = model.weight(Weight::O.at(0)).unwrap();
    let (mut stream, d_model) = (Stream::new(7, "rotations"), model.dims().d_model as i64);
    let mut squares: [Vec<f64>; 3] = Default::default();
    for _ in 0..80 {
        // One rotation for each head, so that a draw's pairs are as independent as they get.
        let turned: Vec<Tensor> = (0..4).map(|head| out.get(head).matmul(&rotation(&mut stream, d_model))).collect();
        let turned = model.with_weights(vec![(Weight::O.at(0), Tensor::stack(&turned, 0))]).unwrap();
        let found = CompositionScores::default().run(&Context::new(&*turned)).unwrap();
        for (squares, scores) in squares.iter_mut().zip(found.inputs) {
            squares.push(scores.scores.values.get(0).select(1, 1).square().mean(Kind::Double).double_value(&[]));
        }
        assert_small((found.random - 1.0 / (d_model as f64).sqrt()).abs(), 1e-15, "random");
    }
    for squares in squares {
        let count = squares.len() as f64;
        let mean = squares.iter().sum::<f64>() / count;
        let variance = squares.iter().map(|square| (square - mean).powi(2)).sum::<f64>() / (count - 1.0);
        let errors = (mean - 1.0 / d_model as f64).abs() / (variance / count).sqrt();
        fixtures::say(&format!("random composition: {errors:.2} standard errors from 1/d_model"));
        assert_small(errors, 4.0, "standard errors of the mean square");
    }
}

#[test]
fn bad_questions_are_refused() {
    let model = golden("gpt2");
    let asked = CompositionScores { inputs: Vec::new(), ..CompositionScores::default() };
    assert!(refused(&asked, &model).contains("inputs: the list is empty"));
    assert!(refused(&CompositionScores { top: 0, ..CompositionScores::default() }, &model).contains("top 0"));
}

//! `head_composition.*`

use arrakis_core::{Context, Metric, Model, ModelExt as _, Prompt, Site, Stream, Tokens, Tool as _, Weight, edit};
use arrakis_models::processing::processed;
use arrakis_tools::{
    BlendOf, BlendedHead, Circuit, CompositionScores, HeadInput, HeadPath, HeadPlace, RowPath, VirtualHead,
};
use tch::{Kind, Tensor};

use super::{TransformerLens, assert_close, assert_small, each_folder, golden, loaded, message, refused};
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
        let earlier = Circuit::Ov.of_layer(model, 0, None).unwrap();
        let heads = model.dims().n_heads as i64;
        for scores in found.inputs {
            let later = match scores.input {
                HeadInput::Q => Circuit::Qk.of_layer(model, 1, None).unwrap(),
                HeadInput::K => Circuit::Qk.of_layer(model, 1, None).unwrap().transpose().unwrap(),
                HeadInput::V => Circuit::Ov.of_layer(model, 1, None).unwrap(),
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
fn a_virtual_head_is_the_product_of_four_matrices() {
    each_folder("virtual heads", |model, _, name| {
        let last = model.dims().n_heads - 1;
        let (earlier, later) = (HeadPlace::new(0, 0), HeadPlace::new(1, last));
        let first = Circuit::Ov.of_head(model, earlier, None).unwrap().dense().unwrap();
        let scores = CompositionScores::default().run(&Context::new(model)).unwrap();
        let embedding = model.weight(Weight::E.global()).unwrap();
        let unembedding = model.weight(Weight::U.global()).unwrap();
        for (input, scores) in HeadInput::ALL.into_iter().zip(scores.inputs) {
            let mut asked = VirtualHead::new(earlier, later, input);
            (asked.tokens, asked.top) = (vec![3.into(), 8.into()], 4);
            let found = asked.run(&Context::new(model)).unwrap();
            assert_small(found.product_gap, 1e-9, name);
            let score = scores.scores.values.double_value(&[0, 0, 1, last as i64]);
            assert_small((found.composition - score).abs(), 1e-9, name);
            let (second, out) = match input {
                HeadInput::Q => (Circuit::Qk.of_head(model, later, None).unwrap().dense().unwrap(), embedding.tr()),
                HeadInput::K => {
                    (Circuit::Qk.of_head(model, later, None).unwrap().dense().unwrap().tr(), embedding.tr())
                }
                HeadInput::V => {
                    (Circuit::Ov.of_head(model, later, None).unwrap().dense().unwrap(), unembedding.shallow_clone())
                }
            };
            let product = first.matmul(&second);
            assert_small((found.norm - product.norm().double_value(&[])).abs(), 1e-9, name);
            let rows = embedding.index_select(0, &Tensor::from_slice(&[3_i64, 8]));
            let (values, _) = rows.matmul(&product).matmul(&out).topk(4, -1, true, true);
            assert_close(&found.effect.unwrap().values, &values, 1e-9, name);
        }
    });
}

#[test]
fn a_blend_of_one_head_is_that_head() {
    each_folder("blended heads", |model, rows, name| {
        let cx = Context::new(model);
        let heads = model.dims().n_heads;
        let prompt = Prompt::Rows(vec![rows[0].clone(), rows[1][..5].to_vec()]);
        let tokens = prompt.tokens(model).unwrap();
        let one = |chosen: usize| (0..heads).map(|head| f64::from(u8::from(head == chosen))).collect::<Vec<_>>();
        for of in [BlendOf::Writes, BlendOf::Circuits] {
            let ask = |weights: Vec<f64>, replace: Option<usize>| {
                let metric = Some(Metric::Logit(4.into()));
                let asked = BlendedHead { replace, of, metric, ..BlendedHead::new(prompt.clone(), 1, weights) };
                let found = asked.run(&cx).unwrap();
                assert_small(found.single_gap, 1e-9, name);
                found
            };
            let same = ask(one(1), Some(1));
            assert_small(same.divergence.abs(), 1e-12, name);
            assert_small((same.before.unwrap() - same.after.unwrap()).abs(), 1e-9, name);
            // In the place of all heads, the others are gone.
            let alone = ask(one(0), None);
            let rest = edit::with(|result| Ok(result * Tensor::from_slice(&one(0)).view([-1, 1])));
            let trace = model.trace(&tokens).edit(Site::RESULT.at(1), rest);
            let logits = trace.run().unwrap().logits.unwrap();
            let last = arrakis_core::PosSlice::Last.of(&logits, 1, tokens.mask()).unwrap().select(1, 0);
            let expected = last.select(1, 4).mean(Kind::Double).double_value(&[]);
            assert_small((alone.after.unwrap() - expected).abs(), 1e-9, name);
        }
        // The sum of what all heads write, in the place of all.
        let asked = BlendedHead::new(prompt.clone(), 0, vec![1.0; heads]);
        assert_small(asked.run(&cx).unwrap().divergence.abs(), 1e-12, name);
    });
}

#[test]
fn a_batch_of_blends_is_the_mean_of_its_rows() {
    let model = golden("llama");
    let rows = vec![vec![9, 3, 17, 40], vec![5, 8]];
    let ask = |rows: Vec<Vec<i64>>| {
        let blend = BlendedHead::new(Prompt::Rows(rows), 0, vec![0.5, 0.2, -0.1, 0.4]);
        let asked =
            BlendedHead { of: BlendOf::Circuits, replace: Some(2), metric: Some(Metric::Logit(4.into())), ..blend };
        asked.run(&Context::new(&model)).unwrap()
    };
    let [first, second] = [0, 1].map(|row: usize| ask(vec![rows[row].clone()]));
    let both = ask(rows);
    assert_small((both.divergence - f64::midpoint(first.divergence, second.divergence)).abs(), 1e-12, "divergence");
    let mean = f64::midpoint(first.after.unwrap(), second.after.unwrap());
    assert_small((both.after.unwrap() - mean).abs(), 1e-12, "after");
    assert!(both.divergence > 0.0);
}

#[test]
fn a_blend_of_circuits_is_a_head_with_both_means() {
    let model = golden("gpt2");
    // Two heads that look the same way: the blend moves with the mean of their OV circuits.
    let (mut q, mut k) = (model.weight(Weight::Q.at(1)).unwrap().copy(), model.weight(Weight::K.at(1)).unwrap().copy());
    let (mut q_b, mut k_b) =
        (model.weight(Weight::Q_B.at(1)).unwrap().copy(), model.weight(Weight::K_B.at(1)).unwrap().copy());
    for weight in [&mut q, &mut k, &mut q_b, &mut k_b] {
        let first = weight.get(0).copy();
        weight.get(1).copy_(&first);
    }
    let points = [Weight::Q, Weight::K, Weight::Q_B, Weight::K_B].map(|weight| weight.at(1));
    let alike = model.with_weights(points.into_iter().zip([q, k, q_b, k_b]).collect()).unwrap();
    let cx = Context::new(&*alike);
    let ask = |of| {
        let prompt = Prompt::Ids(vec![9, 3, 17, 40]);
        BlendedHead { of, top: 61, ..BlendedHead::new(prompt, 1, vec![0.5, 0.5, 0.0, 0.0]) }.run(&cx).unwrap()
    };
    let (writes, circuits) = (ask(BlendOf::Writes), ask(BlendOf::Circuits));
    for (write, circuit) in writes.changed.entries.iter().zip(circuits.changed.entries) {
        assert_small((write.value - circuit.value).abs(), 1e-12, "both blends");
    }
}

fn path(model: &dyn Model, ids: &[i64], sender: HeadPlace, receiver: HeadPlace, input: HeadInput) -> RowPath {
    HeadPath::new(Prompt::Ids(ids.to_vec()), sender, receiver, input).run(&Context::new(model)).unwrap().rows.remove(0)
}

#[test]
fn what_a_head_reads_is_the_sum_of_what_was_written() {
    each_folder("paths from head to head", |model, rows, name| {
        let dims = model.dims();
        let receiver = HeadPlace::new(dims.n_layers - 1, dims.n_heads - 1);
        let prompts = vec![rows[0].clone(), rows[1][..5].to_vec()];
        for input in HeadInput::ALL {
            let asked = HeadPath {
                query: Some(-2),
                top: 1000,
                ..HeadPath::new(Prompt::Rows(prompts.clone()), HeadPlace::new(0, 1), receiver, input)
            };
            let found = asked.run(&Context::new(model)).unwrap();
            for (ids, path) in prompts.iter().zip(&found.rows) {
                assert_small(path.input_gap, 1e-9, name);
                assert_small(path.effect_gap, 1e-9, name);
                let sum =
                    |ranking: &arrakis_core::Ranking| ranking.entries.iter().map(|entry| entry.value).sum::<f64>();
                assert_small((sum(&path.shares) - 1.0).abs(), 1e-9, name);
                assert_small((sum(&path.effects) - path.whole_effect).abs(), 1e-9, name);
                let cell = path.sender.get(path.query, path.key).unwrap();
                assert_small((cell - path.sender_effect).abs(), 1e-9, name);
                let single = HeadPath { prompt: Prompt::Ids(ids.clone()), ..asked.clone() };
                let single = single.run(&Context::new(model)).unwrap().rows.remove(0);
                assert_eq!(single.effects, path.effects, "{name}");
            }
        }
    });
}

#[test]
fn effects_on_scores_are_what_patching_the_input_does() {
    // Without what the sender wrote, under the same scale, scores are less by its effect.
    for name in ["gpt2", "gpt-neox", "llama"] {
        let model = golden(name);
        let ids = [9, 3, 17, 40, 8];
        let last = model.dims().n_heads as i64 - 1;
        let (sender, receiver) = (HeadPlace::new(0, 0), HeadPlace::new(1, last as usize));
        let found = path(&model, &ids, sender, receiver, HeadInput::Q);
        let tokens = Tokens::from_ids(&ids).unwrap();
        let run = model.trace(&tokens).keep(Site::Q).keep(Site::ATTN_SCORES).run().unwrap();
        let names = &found.parts.axes[0].labels;
        let place = names.iter().position(|name| name == "L0H0").unwrap() as i64;
        let part = found.parts.values.get(place);
        let less = edit::with(|q| {
            let own = q.select(1, -1).select(1, last) - &part;
            Ok(q.slice_scatter(&q.narrow(1, 4, 1).select_scatter(&own.unsqueeze(1), 2, last), 1, 4, 5, 1))
        });
        let without = model.trace(&tokens).keep(Site::ATTN_SCORES).edit(Site::Q.at(1), less).run().unwrap();
        let scores = |run: &arrakis_core::Run| run.cache[Site::ATTN_SCORES.at(1)].get(0).get(last).get(4);
        let change = scores(&run) - scores(&without);
        let cells: Vec<f64> = (0..5).map(|key| found.sender.get(4, key).unwrap()).collect();
        assert_close(&cells, &change, 1e-10, name);
    }
}

#[test]
fn a_planted_composition_is_found() {
    let model = golden("gpt2");
    let dims = model.dims();
    let (d_model, d_head) = (dims.d_model as i64, dims.d_head as i64);
    // L0H2 writes into directions that only the keys of L1H1 read: what L0H2 reads comes out where L1H1 looks.
    let mut stream = Stream::new(3, "planted");
    let basis = rotation(&mut stream, d_model);
    let plant = |weight: Weight, layer: usize, head: i64, value: &Tensor| {
        let old = model.weight(weight.at(layer)).unwrap();
        (weight.at(layer), old.select_scatter(value, 0, head))
    };
    let directions = basis.narrow(1, 0, d_head);
    let edits = vec![plant(Weight::O, 0, 2, &(directions.tr() * 3.0)), plant(Weight::K, 1, 1, &(&directions * 3.0))];
    let planted = model.with_weights(edits).unwrap();
    let found = CompositionScores::default().run(&Context::new(&*planted)).unwrap();
    let keys = &found.inputs[1];
    assert_eq!(keys.top.entries[0].label, "L0H2 → L1H1");
    // All of what the one writes the other reads, with whatever weights.
    assert!(keys.top.entries[0].value > 1.5 * keys.top.entries[1].value, "{:?}", keys.top.entries);
    let ids = [9, 3, 17, 40, 8, 22];
    let path = path(&*planted, &ids, HeadPlace::new(0, 2), HeadPlace::new(1, 1), HeadInput::K);
    let heads = path.shares.entries.iter().filter(|entry| entry.label.contains('H'));
    let greatest = heads.max_by(|a, b| a.value.abs().total_cmp(&b.value.abs())).unwrap();
    assert_eq!(greatest.label, "L0H2");
}

#[test]
fn half_precision_is_answered() {
    let folder = fixtures::root().join("tests/golden/llama-bf16");
    for kind in [Kind::BFloat16, Kind::Half, Kind::Float] {
        let model = loaded(&folder, kind);
        let cx = Context::new(&model);
        let bound = if kind == Kind::Float { 1e-5 } else { 0.1 };
        let scores = CompositionScores::default().run(&cx).unwrap();
        assert_small(scores.dense_gap, 1e-5, "scores");
        let prompt = Prompt::Rows(vec![vec![9, 3, 17, 40], vec![5, 8]]);
        let blend = BlendedHead::new(prompt.clone(), 1, vec![0.5, 0.5]);
        for of in [BlendOf::Writes, BlendOf::Circuits] {
            assert_small(BlendedHead { of, ..blend.clone() }.run(&cx).unwrap().single_gap, bound, "blend");
        }
        for input in HeadInput::ALL {
            let path = HeadPath::new(prompt.clone(), HeadPlace::new(0, 0), HeadPlace::new(1, 1), input);
            for row in path.run(&cx).unwrap().rows {
                assert_small(row.input_gap, bound, "input");
                assert_small(row.effect_gap, bound, "effect");
            }
        }
    }
}

#[test]
fn bad_questions_are_refused() {
    let model = golden("gpt2");
    let asked = CompositionScores { inputs: Vec::new(), ..CompositionScores::default() };
    assert!(refused(&asked, &model).contains("inputs: the list is empty"));
    assert!(refused(&CompositionScores { top: 0, ..CompositionScores::default() }, &model).contains("top 0"));
    let (early, late) = (HeadPlace::new(0, 1), HeadPlace::new(1, 3));
    let backwards = VirtualHead::new(late, early, HeadInput::V);
    assert!(refused(&backwards, &model).contains("head L1H3: it is not in a layer before that of L0H1"));
    assert!(refused(&VirtualHead::new(early, HeadPlace::new(2, 0), HeadInput::Q), &model).contains("layer 2"));
    let tokens = VirtualHead { tokens: vec![61.into()], ..VirtualHead::new(early, late, HeadInput::Q) };
    assert!(refused(&tokens, &model).contains("token id 61"));
    assert!(
        refused(&VirtualHead { top: 62, ..VirtualHead::new(early, late, HeadInput::Q) }, &model).contains("top 62")
    );
    let prompt = Prompt::Ids(vec![9, 3, 17]);
    let blend = |weights: Vec<f64>| BlendedHead::new(prompt.clone(), 1, weights);
    assert!(refused(&blend(vec![1.0; 3]), &model).contains("weights: 3 are given, and the layer has 4 heads"));
    assert!(refused(&blend(vec![0.0, f64::NAN, 0.0, 0.0]), &model).contains("that of head 1 is NaN"));
    assert!(refused(&BlendedHead { replace: Some(4), ..blend(vec![1.0; 4]) }, &model).contains("head 4"));
    assert!(refused(&BlendedHead { layer: 2, ..blend(vec![1.0; 4]) }, &model).contains("layer 2"));
    let bounded = Context::new(&model).with_memory_limit(1000);
    assert!(message(blend(vec![1.0; 4]).run(&bounded)).contains("may hold 1000"));
    let path = HeadPath::new(prompt, early, late, HeadInput::K);
    assert!(refused(&HeadPath { query: Some(3), ..path.clone() }, &model).contains("position 3"));
    assert!(refused(&HeadPath { query: Some(0), key: Some(1), ..path.clone() }, &model).contains("key 1: the query"));
    assert!(refused(&HeadPath { top: 0, ..path.clone() }, &model).contains("top 0"));
    assert!(refused(&HeadPath { receiver: early, ..path }, &model).contains("head L0H1"));
}

//! `relations.*`

use arrakis_core::{Context, Model, Stream, Tool as _, Weight, answer};
use arrakis_tools::{Circuit, HeadPlace, RelationSubspaces, RelationTokens, TypedRelation, TypedRelations};
use tch::{Device, Kind, Tensor};

use super::{assert_close, assert_small, each_folder, golden, refused};

const CIRCUITS: [Circuit; 2] = [Circuit::Qk, Circuit::Ov];

#[test]
fn subspaces_are_those_of_the_dense_circuits() {
    each_folder("relational subspaces", |model, _, name| {
        let heads = model.dims().n_heads;
        for circuit in CIRCUITS {
            let asked =
                RelationSubspaces { circuit, lags: None, layers: Some(vec![1]), ..RelationSubspaces::default() };
            let asked = RelationSubspaces { heads: Some(vec![heads - 1, 0]), top: 3, ..asked };
            let found = asked.run(&Context::new(model)).unwrap();
            assert_small(found.norm_gap, 1e-9, name);
            assert_small(found.direction_gap, 1e-9, name);
            assert_eq!(found.singular_values.rows.labels, [format!("L1H{}", heads - 1), "L1H0".into()]);
            let dense = circuit.of_head(model, HeadPlace::new(1, heads - 1), None).unwrap().dense().unwrap();
            let (_, values, _) = dense.svd(true, false);
            let ranks = found.singular_values.columns.len();
            assert_close(&found.singular_values.values[..ranks], &values.narrow(0, 0, ranks as i64), 1e-9, name);
            let [left, right] = [&found.left, &found.right].map(|stack| stack.values.get(0).get(0));
            let between = left.matmul(&dense).matmul(&right.tr());
            assert_close(&answer::numbers(&between).unwrap(), &values.narrow(0, 0, 3).diag(0), 1e-9, name);
            let rank = found.effective_rank.get(0, 0).unwrap();
            assert!((1.0..=ranks as f64 + 1e-9).contains(&rank), "{name}: {rank}");
            assert_small((found.share.values[ranks - 1] - 1.0).abs(), 1e-12, name);
        }
    });
}

#[test]
fn tokens_lie_where_their_embeddings_point() {
    each_folder("tokens on directions", |model, _, name| {
        for circuit in CIRCUITS {
            let place = HeadPlace::new(1, 1);
            let asked = RelationTokens { circuit, directions: 2, top: 3, ..RelationTokens::new(place) };
            let found = asked.run(&Context::new(model)).unwrap();
            assert_small(found.form_gap, 1e-9, name);
            let given = RelationTokens { tokens: vec![3.into(), 8.into(), 3.into()], ..asked };
            let given = given.run(&Context::new(model)).unwrap();
            assert_small(given.form_gap, 1e-9, name);

            let subspaces =
                RelationSubspaces { circuit, lags: None, layers: Some(vec![1]), heads: Some(vec![1]), top: 2 };
            let subspaces = subspaces.run(&Context::new(model)).unwrap();
            let embedding = model.weight(Weight::E.global()).unwrap();
            let right = match circuit {
                Circuit::Qk => embedding.shallow_clone(),
                Circuit::Ov => model.weight(Weight::U.global()).unwrap().tr(),
            };
            let sides = [
                (&found.left, given.given_left.unwrap(), &embedding, &subspaces.left),
                (&found.right, given.given_right.unwrap(), &right, &subspaces.right),
            ];
            for (ends, chosen, embedding, directions) in sides {
                let projected = embedding.matmul(&directions.values.get(0).get(0).tr());
                let expected = projected.index_select(0, &Tensor::from_slice(&[3_i64, 8, 3]));
                assert_close(&chosen.values, &expected, 1e-9, name);
                let (most, _) = projected.topk(3, 0, true, true);
                let (least, _) = projected.topk(3, 0, false, true);
                let expected = Tensor::stack(&[most.tr(), least.tr()], 1);
                assert_close(&ends.values, &expected, 1e-9, name);
            }
        }
    });
}

#[test]
fn forms_are_those_of_the_dense_circuits() {
    each_folder("typed relations", |model, _, name| {
        let pairs = [(1, 2), (3, 4), (5, 6), (1, 2), (3, 7)];
        for circuit in CIRCUITS {
            let relations = vec![TypedRelation::new("other", [(2, 9), (4, 1)]), TypedRelation::new("some", pairs)];
            let asked = TypedRelations { circuit, layers: Some(vec![1]), ..TypedRelations::new(relations) };
            let found = asked.run(&Context::new(model)).unwrap();
            assert_small(found.mean_gap, 1e-9, name);
            let head = model.dims().n_heads - 1;
            let form = circuit.of_vocabulary(model, HeadPlace::new(1, head), None).unwrap().dense().unwrap();
            let at = |subject: i64, object: i64| form.double_value(&[subject, object]);
            // A pair given twice counts once.
            let with: Vec<f64> = [(1, 2), (3, 4), (5, 6), (3, 7)].map(|(subject, object)| at(subject, object)).into();
            let without: Vec<f64> = [1, 3, 5]
                .into_iter()
                .flat_map(|subject| [2, 4, 6, 7].map(|object| (subject, object)))
                .filter(|pair| !pairs.contains(pair))
                .map(|(subject, object)| at(subject, object))
                .collect();
            assert_eq!(without.len(), 8);
            let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
            let wins = with.iter().flat_map(|a| without.iter().map(move |b| f64::from(u8::from(a > b)))).sum::<f64>();
            let some = &found.relations[1];
            assert_small((some.true_mean.get(0, head).unwrap() - mean(&with)).abs(), 1e-9, name);
            assert_small((some.shuffled_mean.get(0, head).unwrap() - mean(&without)).abs(), 1e-9, name);
            let difference = mean(&with) - mean(&without);
            assert_small((some.difference.get(0, head).unwrap() - difference).abs(), 1e-9, name);
            assert_small((some.auc.get(0, head).unwrap() - wins / 32.0).abs(), 1e-12, name);
        }
    });
}

/// The matrix whose rows meet those of `vectors` (`[n, d_model]`) one by one: `vectors · dualᵀ = 1`.
fn dual(vectors: &Tensor) -> Tensor {
    vectors.matmul(&vectors.tr()).inverse().matmul(vectors)
}

#[test]
fn a_planted_relation_of_low_rank_is_found() {
    let pairs = [(3, 40), (8, 22), (17, 9), (31, 5)];
    let ids = |side: fn((i64, i64)) -> i64| Tensor::from_slice(&pairs.map(side));
    for (name, head, kv_head) in [("gpt2", 2, 2), ("llama", 3, 1)] {
        let model = golden(name);
        let d_head = model.dims().d_head as i64;
        let embedding = model.weight(Weight::E.global()).unwrap();
        let unembedding = model.weight(Weight::U.global()).unwrap();
        let subjects = dual(&embedding.index_select(0, &ids(|pair| pair.0)));
        let keys = dual(&embedding.index_select(0, &ids(|pair| pair.1)));
        let promoted = dual(&unembedding.index_select(1, &ids(|pair| pair.1)).tr());
        // The pairs take as many dimensions of the head as there are; noise fills none of the others.
        let wide = |rows: &Tensor| rows.constant_pad_nd([0, 0, 0, d_head - rows.size()[0]]);
        let plant = |weight: Weight, head: i64, value: &Tensor| {
            let old = model.weight(weight.at(1)).unwrap();
            (weight.at(1), old.select_scatter(value, 0, head))
        };
        let planted = [
            (
                Circuit::Qk,
                [plant(Weight::Q, head, &wide(&subjects).tr()), plant(Weight::K, kv_head, &wide(&keys).tr())],
            ),
            (Circuit::Ov, [plant(Weight::V, kv_head, &wide(&subjects).tr()), plant(Weight::O, head, &wide(&promoted))]),
        ];
        for (circuit, edits) in planted {
            let model = model.with_weights(edits.into()).unwrap();
            let cx = Context::new(&*model);
            let asked = TypedRelations { circuit, ..TypedRelations::new(vec![TypedRelation::new("planted", pairs)]) };
            let found = asked.run(&cx).unwrap().relations.remove(0);
            assert_eq!(found.heads.entries[0].label, format!("L1H{head}"), "{name}");
            assert_eq!(found.auc.get(1, head as usize), Some(1.0));
            assert_small((found.difference.get(1, head as usize).unwrap() - 1.0).abs(), 1e-9, name);
            // Its subspace has a dimension for each pair, and the subjects lie in it.
            let asked = RelationSubspaces {
                circuit,
                lags: None,
                layers: Some(vec![1]),
                heads: Some(vec![head as usize]),
                top: 4,
            };
            let subspaces = asked.run(&cx).unwrap();
            assert_small((subspaces.share.get(0, 3).unwrap() - 1.0).abs(), 1e-12, name);
            assert!(subspaces.effective_rank.get(0, 0).unwrap() <= 4.0 + 1e-9);
            let span = subspaces.left.values.get(0).get(0);
            let rest = &subjects - subjects.matmul(&span.tr()).matmul(&span);
            assert_small(rest.abs().max().double_value(&[]), 1e-9, name);
        }
    }
}

#[test]
fn by_chance_a_relation_is_held_by_half() {
    let model = golden("gpt2");
    let mut stream = Stream::new(5, "pairs");
    let order = stream.permutation(60);
    let pairs: Vec<(i64, i64)> = order.chunks(2).map(|pair| (pair[0] as i64, pair[1] as i64)).collect();
    let found = TypedRelations::new(vec![TypedRelation::new("random", pairs)]).run(&Context::new(&model)).unwrap();
    let auc = &found.relations[0].auc.values;
    let mean = auc.iter().sum::<f64>() / auc.len() as f64;
    // 30 true pairs: the AUC of a head has a standard error of about 0.3 / √30.
    assert!((mean - 0.5).abs() < 0.1, "{auc:?}");
}

#[test]
fn bad_relations_are_refused() {
    let model = golden("gpt2");
    let ask = |pairs: &[(i64, i64)]| TypedRelations::new(vec![TypedRelation::new("r", pairs.iter().copied())]);
    assert!(refused(&ask(&[]), &model).contains("relation `r`: it has no pairs"));
    assert!(refused(&ask(&[(1, 2), (1, 2)]), &model).contains("no shuffled pair is left"));
    assert!(refused(&ask(&[(1, 2), (3, 61)]), &model).contains("token id 61"));
    let twice =
        TypedRelations::new(vec![TypedRelation::new("r", [(1, 2), (3, 4)]), TypedRelation::new("r", [(1, 2), (3, 4)])]);
    assert!(refused(&twice, &model).contains("relation `r`: there are two of that name"));
    assert!(refused(&TypedRelations { layers: Some(vec![7]), ..ask(&[(1, 2), (3, 4)]) }, &model).contains("layer 7"));
    assert!(refused(&TypedRelations { top: 0, ..ask(&[(1, 2), (3, 4)]) }, &model).contains("top 0"));
    assert!(refused(&RelationTokens::new(HeadPlace::new(0, 9)), &model).contains("head 9"));
    assert!(
        refused(&RelationTokens { top: 62, ..RelationTokens::new(HeadPlace::new(0, 0)) }, &model).contains("top 62")
    );
    let nan = Tensor::full([24, 4, 6], f64::NAN, (Kind::Double, Device::Cpu)).permute([1, 0, 2]);
    let nan = model.with_weights(vec![(Weight::Q.at(0), nan)]).unwrap();
    let found = ask(&[(1, 2), (3, 4)]).run(&Context::new(&*nan)).unwrap().relations.remove(0);
    assert!(found.auc.get(0, 0).unwrap().is_nan() && found.auc.get(1, 0).unwrap().is_finite());
}

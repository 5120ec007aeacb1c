//! `logit_lens.lens`

use arrakis_core::{Answer, Context, Part, Prompt, TokenChoice, Tool as _, answer};
use arrakis_tools::LogitLens;
use tch::{Kind, Tensor};

use super::{TransformerLens, assert_close, assert_small, each_folder, golden};

#[test]
fn agrees_with_transformer_lens() {
    let Some(fixture) = TransformerLens::open() else { return };
    let expected = &fixture.file("attribution.raw")["logit_lens.mid.last_position"];
    let vocab = expected.size()[2] as usize;
    let lens = LogitLens { mid: true, top: vocab, ..LogitLens::new(fixture.prompt("clean_tokens")) };
    let found = lens.run(&Context::new(&fixture.model)).unwrap();
    assert_eq!(found.rows.len(), 2);
    for (row, lens) in found.rows.iter().enumerate() {
        let ids = lens.ids.values.select(1, -1);
        let expected = expected.select(1, row as i64).softmax(-1, Kind::Double);
        let probabilities = answer::numbers(&lens.probabilities.values.select(1, -1)).unwrap();
        assert_close(&probabilities, &expected.gather(-1, &ids, false), 1e-10, "lens");
        let entropy = lens.entropy.values.chunks(10).map(|layer| layer[9]).collect::<Vec<_>>();
        assert_close(&entropy, &expected.special_entr().sum_dim_intlist(-1, false, Kind::Double), 1e-10, "entropy");
        assert_eq!(lens.grid.rows.labels, ["embed", "0_mid", "0_post", "1_mid", "1_post", "2_mid", "2_post"]);
    }
}

#[test]
fn the_last_layer_is_the_model() {
    each_folder("logit lens", |model, rows, name| {
        let lens = LogitLens { top: 1, ..LogitLens::new(Prompt::Rows(rows.to_vec())) };
        let bounded = Context::new(model).with_memory_limit(1);
        for cx in [Context::new(model), bounded] {
            for lens in lens.run(&cx).unwrap().rows {
                assert_small(lens.logit_gap, 1e-10, name);
            }
        }
    });
}

#[test]
fn targets_are_followed_through_the_layers() {
    let model = golden("llama");
    let ids = vec![9, 3, 17, 40];
    let mut lens = LogitLens { top: 61, ..LogitLens::new(Prompt::Ids(ids)) };
    lens.position = Some(1);
    lens.positions = Some(vec![-1, 0]);
    lens.targets = vec![TokenChoice::Id(5), TokenChoice::Id(60)];
    let found = lens.run(&Context::new(&model)).unwrap().rows.remove(0);
    assert_eq!(found.grid.columns.labels, ["[40]", "[9]"]);
    assert_eq!(found.top.entries.len(), 61);
    let probability = &found.target_probability.as_ref().unwrap().lines;
    let rank = &found.target_rank.as_ref().unwrap().lines;
    for (line, name) in ["[5]", "[60]"].into_iter().enumerate() {
        assert_eq!(probability[line].name, name);
        for layer in 0..3 {
            // The ranking of the layer holds the target at its rank with its probability.
            let place = rank[line].values[layer] as usize;
            assert_eq!(found.by_layer.cells.as_ref().unwrap()[layer * 61 + place], name);
            assert_eq!(found.by_layer.get(layer, place), Some(probability[line].values[layer]));
        }
    }
    let last = &found.top.entries[rank[0].values[2] as usize];
    assert_eq!((last.label.as_str(), last.value), ("[5]", probability[0].values[2]));
}

#[test]
fn rows_are_answered_one_by_one() {
    let model = golden("gpt2");
    let cx = Context::new(&model);
    let rows = [vec![9, 3, 17, 40], vec![5, 8]];
    let together: Answer = LogitLens::new(Prompt::Rows(rows.to_vec())).run(&cx).unwrap().into();
    for (row, ids) in rows.into_iter().enumerate() {
        let alone: Answer = LogitLens::new(Prompt::Ids(ids)).run(&cx).unwrap().into();
        let Some((Part::Grid(alone), Part::Grid(with))) =
            alone.get("lens").zip(together.get(&format!("row{row}.lens")))
        else {
            panic!("there are grids");
        };
        assert_eq!(alone, with);
    }
}

#[test]
fn half_precision_is_read_in_single() {
    let folder = crate::fixtures::root().join("tests/golden/llama");
    let model = super::loaded(&folder, Kind::BFloat16);
    let found = LogitLens::new(Prompt::Ids(vec![9, 3, 17])).run(&Context::new(&model)).unwrap().rows.remove(0);
    assert_eq!(found.probabilities.values.kind(), Kind::Float);
    let sum = Tensor::from_slice(&found.grid.values).isnan().any();
    assert_eq!(sum.int64_value(&[]), 0);
    assert_small(found.logit_gap, 1e-1, "bfloat16");
}

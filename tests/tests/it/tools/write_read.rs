//! `write_read.writers`, `write_read.readers` and `write_read.flow`

use arrakis_core::{Context, Metric, Model as _, ModelExt as _, Prompt, Site, Tokens, Tool as _};
use arrakis_tools::{Direction, HeadInput, WriteReadFlow, WriteReadReaders, WriteReadWriters};
use tch::{Kind, Tensor};

use super::{assert_small, each_folder, golden, refused};
use crate::planted;

fn directions(d_model: usize) -> Vec<Direction> {
    let vector = (0..d_model).map(|place| (place as f64 * 0.7).sin()).collect();
    let head = |side| Direction::Head { head: [1, 1], side, component: 1 };
    vec![
        Direction::Token(4.into()),
        Direction::Difference { answer: 4.into(), wrong: 7.into() },
        head(HeadInput::Q),
        head(HeadInput::K),
        head(HeadInput::V),
        Direction::Vector(vector),
    ]
}

#[test]
fn parts_sum_to_the_stream_and_readings_are_the_models() {
    each_folder("writers and readers", |model, rows, name| {
        let rows = vec![rows[0].clone(), rows[1][..rows[1].len() - 2].to_vec()];
        for direction in directions(model.dims().d_model) {
            let asked = WriteReadWriters::new(Prompt::Rows(rows.clone()), direction.clone());
            let found = asked.run(&Context::new(model)).unwrap();
            assert_small(found.sum_gap.max(found.head_gap), 1e-9, name);
            assert_small(found.weight_gap, 1e-9, name);
            let mut asked = WriteReadReaders::new(direction);
            (asked.prompt, asked.position) = (Some(Prompt::Rows(rows.clone())), Some(-2));
            let found = asked.run(&Context::new(model)).unwrap();
            assert_small(found.weight_gap, 1e-9, name);
            assert_small(found.shares.unwrap().1, 1e-9, name);
        }
    });
}

#[test]
fn a_logit_is_what_is_written_along_its_direction() {
    let model = golden("llama");
    let ids = vec![9, 3, 17, 40];
    let tokens = Tokens::from_ids(&ids).unwrap();
    let run = model.trace(&tokens).keep(Site::LN_FINAL_SCALE.global()).run().unwrap();
    let logits = run.logits.as_ref().unwrap().get(0).get(-1);
    let scale = run.cache[Site::LN_FINAL_SCALE.global()].double_value(&[0, -1, 0]);
    let unembedding =
        model.weight_named("unembed.W_U").unwrap() * model.weight_named("ln_final.w").unwrap().unsqueeze(-1);
    let length = unembedding.select(1, 4).norm().double_value(&[]);
    let found = WriteReadWriters::new(Prompt::Ids(ids), Direction::Token(4.into())).run(&Context::new(&model)).unwrap();
    assert_small((found.stream * length / scale - logits.double_value(&[4])).abs(), 1e-10, "logit");
}

#[test]
fn gains_are_one_in_the_mean_over_a_basis() {
    let model = golden("gpt2");
    let d_model = model.dims().d_model;
    let mut sums = [0.0; 2];
    for place in 0..d_model {
        let vector = (0..d_model).map(|other| f64::from(u8::from(other == place))).collect();
        let found = WriteReadReaders::new(Direction::Vector(vector)).run(&Context::new(&model)).unwrap();
        sums[0] += found.gains[1].get(1, 2).unwrap().powi(2);
        sums[1] += found.mlp_gain.lines[0].values[0].powi(2);
    }
    for sum in sums {
        assert_small((sum / d_model as f64 - 1.0).abs(), 1e-10, "mean square");
    }
}

#[test]
fn directions_of_a_head_are_singular_vectors_of_its_circuits() {
    let model = golden("gpt2");
    let norm = model.weight_named("blocks.1.ln1.w").unwrap().unsqueeze(-1);
    let read = |weight: &str| {
        let folded = model.weight_named(&format!("blocks.1.attn.{weight}")).unwrap().get(2) * &norm;
        &folded - folded.mean_dim(0, true, Kind::Double)
    };
    let (query, key, value) = (read("W_Q"), read("W_K"), read("W_V"));
    let out = model.weight_named("blocks.1.attn.W_O").unwrap().get(2);
    let qk = query.matmul(&key.transpose(0, 1));
    for (side, circuit) in
        [(HeadInput::Q, qk.copy()), (HeadInput::K, qk.transpose(0, 1)), (HeadInput::V, value.matmul(&out))]
    {
        let (left, _, _) = circuit.svd(true, true);
        for component in [0, 3] {
            let expected = left.select(1, component as i64);
            let sign = expected.get(expected.abs().argmax(0, false).int64_value(&[])).sign();
            let numbers = arrakis_core::answer::numbers(&(expected * sign)).unwrap();
            let gains = |direction: Direction| {
                let found = WriteReadReaders::new(direction).run(&Context::new(&model)).unwrap();
                found.gains.map(|grid| grid.values).concat()
            };
            let found = gains(Direction::Head { head: [1, 2], side, component });
            let expected = gains(Direction::Vector(numbers));
            super::assert_close(&found, &Tensor::from_slice(&expected), 1e-9, "gains");
        }
    }
}

/// The direction of an entry of the planted model's stream.
fn entry(place: i64) -> Direction {
    let d_model = planted::induction().dims().d_model as i64;
    Direction::Vector((0..d_model).map(|other| f64::from(u8::from(other == place))).collect())
}

#[test]
fn the_planted_circuit_is_found_by_who_writes_and_who_reads() {
    let model = planted::induction();
    let cx = Context::new(&model);
    let ids = planted::repeated();
    let (last, read) = (ids.len() - 1, ids[..ids.len() - 1].to_vec());

    // The logit of the token that follows is written by the induction head.
    let found = WriteReadWriters::new(Prompt::Ids(read.clone()), Direction::Token(ids[last].into())).run(&cx).unwrap();
    assert_eq!(found.strongest.entries[0].label, "L1H2");
    assert_eq!(found.head_gain.strongest(1).entries[0].label, "layer 1, head 2");

    // What the induction head's keys read is written by the previous-token head, and nobody else's keys read it so.
    // The direction read most is that of position 0, where the head rests.
    let keys = Direction::Head { head: [1, 2], side: HeadInput::K, component: 1 };
    let found = WriteReadWriters::new(Prompt::Ids(read.clone()), keys.clone()).run(&cx).unwrap();
    assert_eq!(found.head_gain.strongest(1).entries[0].label, "layer 0, head 1");
    let found = WriteReadReaders::new(keys).run(&cx).unwrap();
    assert_eq!(found.strongest.entries[0].label, "L1H2 key");

    // The token before, where the induction head looks, is in the stream by the previous-token head's doing.
    let before = entry(planted::BEFORE + ids[11]);
    let mut asked = WriteReadWriters::new(Prompt::Ids(read.clone()), before.clone());
    asked.position = Some(12);
    assert_eq!(asked.run(&cx).unwrap().strongest.entries[0].label, "L0H1");
    let mut asked = WriteReadReaders::new(before);
    (asked.prompt, asked.position) = (Some(Prompt::Ids(read)), Some(12));
    let shares = asked.run(&cx).unwrap().shares.unwrap().0;
    assert!(shares[1].get(1, 2).unwrap() > 0.9, "{:?}", shares[1].values);
}

#[test]
fn information_flows_along_the_planted_circuit() {
    let model = planted::induction();
    let ids = planted::repeated();
    let (last, read) = (ids.len() - 1, ids[..ids.len() - 1].to_vec());
    let flow = |source: i64| {
        let mut asked = WriteReadFlow::new(Prompt::Ids(read.clone()), source);
        asked.metric = Some(Metric::Logit(ids[last].into()));
        let row = asked.run(&Context::new(&model)).unwrap().rows.remove(0);
        (row.flow.lines[0].values[1], row.gradient.unwrap().flow.lines[0].values[1])
    };
    // What followed the token earlier is at 12.
    let (there, elsewhere) = (flow(12), flow(9));
    assert!(there.0 > 2.0 * elsewhere.0 && there.1 > 10.0 * elsewhere.1, "{there:?} {elsewhere:?}");
}

#[test]
fn rollouts_are_the_products_of_the_patterns() {
    // Whole rows: a rotation that stretches with the text would see the longest row of a batch.
    each_folder("attention rollout", |model, rows, name| {
        let mut asked = WriteReadFlow::new(Prompt::Rows(rows.to_vec()), 1);
        asked.metric = Some(Metric::Logit(3.into()));
        let found = asked.run(&Context::new(model)).unwrap();
        for (ids, found) in rows.iter().zip(found.rows) {
            assert_small(found.row_gap, 1e-12, name);
            let tokens = Tokens::from_ids(ids).unwrap();
            let logit = |logits: &Tensor| Ok(logits.get(0).get(-1).get(3));
            let run = model.trace(&tokens).keep(Site::PATTERN).gradients(logit).run().unwrap();
            let len = ids.len() as i64;
            let identity = Tensor::eye(len, (Kind::Double, tch::Device::Cpu));
            let (mut rollout, mut relevance) = (identity.copy(), identity.copy());
            for layer in 0..model.dims().n_layers {
                let pattern = run.cache[Site::PATTERN.at(layer)].get(0);
                let weighted = (&pattern * run.gradients[Site::PATTERN.at(layer)].get(0)).clamp_min(0.0);
                rollout = (pattern.mean_dim(0, false, Kind::Double) + &identity).matmul(&rollout) / 2.0;
                relevance = &relevance + weighted.mean_dim(0, false, Kind::Double).matmul(&relevance);
            }
            super::assert_close(&found.rollout.values, &rollout, 1e-9, name);
            super::assert_close(&found.gradient.unwrap().rollout.values, &relevance, 1e-9, name);
            let last = found.flow.lines[0].values.last().copied().unwrap();
            assert_small((last - rollout.double_value(&[len - 1, 1])).abs(), 1e-9, name);
        }
    });
}

#[test]
fn a_batch_is_its_rows() {
    let model = golden("llama");
    let rows = [vec![9, 3, 17, 40, 5], vec![5, 8, 2]];
    let ask = |rows: &[Vec<i64>]| {
        let found = WriteReadWriters::new(Prompt::Rows(rows.to_vec()), Direction::Token(4.into()));
        let found = found.run(&Context::new(&model)).unwrap();
        let mut asked = WriteReadReaders::new(Direction::Token(4.into()));
        asked.prompt = Some(Prompt::Rows(rows.to_vec()));
        let shares = asked.run(&Context::new(&model)).unwrap().shares.unwrap().0.map(|grid| grid.values);
        [vec![found.stream], found.heads.values, shares.concat()].concat()
    };
    let flow = |rows: &[Vec<i64>]| {
        let mut asked = WriteReadFlow::new(Prompt::Rows(rows.to_vec()), 1);
        asked.metric = Some(Metric::Logit(4.into()));
        let found = asked.run(&Context::new(&model)).unwrap().rows.into_iter();
        found.map(|row| [row.rollout.values, row.gradient.unwrap().rollout.values].concat()).collect::<Vec<_>>()
    };
    for (together, alone) in flow(&rows).iter().zip([flow(&rows[..1]), flow(&rows[1..])].concat()) {
        super::assert_close(together, &Tensor::from_slice(&alone), 1e-10, "flow");
    }
    let singles = ask(&rows[..1]).into_iter().zip(ask(&rows[1..]));
    for (both, (first, second)) in ask(&rows).into_iter().zip(singles) {
        assert_small((both - f64::midpoint(first, second)).abs(), 1e-9, "mean over rows");
    }
}

#[test]
fn what_cannot_be_asked_is_said() {
    let model = golden("gpt2");
    let prompt = Prompt::Ids(vec![9, 3, 17, 40]);
    for (direction, expected) in [
        (Direction::Vector(vec![1.0]), "it has 1 numbers where 24 are wanted"),
        (Direction::Vector(vec![0.0; 24]), "its length is 0"),
        (Direction::Vector(vec![f64::NAN; 24]), "entry 0 is NaN"),
        (Direction::Token(61.into()), "token id 61"),
        (Direction::Head { head: [0, 0], side: HeadInput::K, component: 0 }, "only the embedding writes"),
        (Direction::Head { head: [1, 4], side: HeadInput::K, component: 0 }, "head 4 is out of range"),
        (Direction::Head { head: [1, 0], side: HeadInput::K, component: 99 }, "component 99"),
    ] {
        let why = refused(&WriteReadWriters::new(prompt.clone(), direction), &model);
        assert!(why.contains(expected), "{why}");
    }
    let flow = WriteReadFlow { target: Some(0), ..WriteReadFlow::new(prompt.clone(), 2) };
    assert!(refused(&flow, &model).contains("nothing flows to position 0"));
    let flow = WriteReadFlow { residual: 1.5, ..WriteReadFlow::new(prompt.clone(), 2) };
    assert!(refused(&flow, &model).contains("residual 1.5"));
    let flow = WriteReadFlow { metric: Some(Metric::Rank(3.into())), ..WriteReadFlow::new(prompt, 2) };
    assert!(refused(&flow, &model).contains("gradient"));
}

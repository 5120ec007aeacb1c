//! `causal_tracing.*`

use arrakis_core::{Context, HookPoint, Metric, Model as _, ModelExt as _, Prompt, Site, Tokens, Tool as _, edit};
use arrakis_models::Decoder;
use arrakis_tools::{CausalTrace, NeuronIntervention, ProbabilityByLayer, Subject};
use tch::Kind;

use super::{assert_small, each_folder, golden, refused};

fn asked(ids: &[i64], subject: &[i64]) -> CausalTrace {
    let asked = CausalTrace::new(Prompt::Ids(ids.to_vec()), Subject::Positions(subject.to_vec()));
    CausalTrace { samples: 3, answer: Some(5.into()), ..asked }
}

#[test]
fn the_whole_stream_restored_is_the_clean_run_on_every_family() {
    each_folder("causal tracing", |model, rows, name| {
        let ids = &rows[0][..8];
        let found = asked(ids, &[2, 3]).run(&Context::new(model)).unwrap().rows.remove(0);
        assert_small(found.restored_gap, 1e-9, name);
        let (layers, len) = (model.dims().n_layers, ids.len());
        for grid in [&found.resid, &found.attention, &found.mlp] {
            assert_eq!(grid.values.len(), layers * len);
            // Before the subject there is nothing to restore.
            assert_small((grid.get(0, 1).unwrap() - found.corrupted).abs(), 0.0, name);
        }
        // Restored after the last block, only the last position tells, and it tells all.
        assert_small((found.resid.get(layers - 1, len - 1).unwrap() - found.clean).abs(), 1e-9, name);
        assert_small((found.resid.get(layers - 1, len - 2).unwrap() - found.corrupted).abs(), 1e-9, name);
        let through = ProbabilityByLayer {
            samples: 2,
            ..ProbabilityByLayer::new(Prompt::Ids(ids.to_vec()), Subject::Positions(vec![2]))
        };
        assert_small(through.run(&Context::new(model)).unwrap().rows[0].output_gap, 1e-9, name);
        let metric = Metric::LogitDifference { answer: 3.into(), wrong: 8.into() };
        let neuron = NeuronIntervention::new(Prompt::Rows(rows.to_vec()), layers - 1, 3, metric);
        assert_small(neuron.run(&Context::new(model)).unwrap().own_gap, 1e-9, name);
    });
}

/// The same by whole passes: noise is drawn by the tool, and taken back here from what it left at the embedding.
#[test]
fn windows_and_noise_are_those_of_the_definition() {
    let model = golden("llama");
    let (ids, samples) = ([9, 3, 17, 40, 5], 3);
    let cx = Context::new(&model);
    let found = CausalTrace { window: Some(2), ..asked(&ids, &[1]) }.run(&cx).unwrap().rows.remove(0);
    let drawn = cx.stream("causal tracing row 0").normals(&[samples, 1, model.dims().d_model as i64]).unwrap();
    let noise = drawn * found.deviation;
    let table = model.weight(arrakis_core::Weight::E.global()).unwrap();
    let wanted = 3.0 * table.std(true).double_value(&[]);
    assert_small((found.deviation - wanted).abs(), 1e-12, "three standard deviations");
    let clean = model.trace(&Tokens::from_ids(&ids).unwrap()).keep("*").run().unwrap().cache;
    let rows = Tokens::from_rows(&vec![ids.to_vec(); samples as usize]).unwrap();
    let likely = |points: &[HookPoint], position: i64| {
        let noisy = edit::position(1, edit::add(&noise));
        let trace = model.trace(&rows).edit(Site::EMBED.global(), noisy);
        let trace = points.iter().fold(trace, |trace, point| {
            let value = clean[*point].narrow(1, position, 1);
            trace.edit(*point, edit::position(position, edit::set(&value)))
        });
        let run = trace.run().unwrap();
        let last = run.logits().unwrap().select(1, -1).softmax(-1, Kind::Double);
        last.select(1, 5).mean(Kind::Double).double_value(&[])
    };
    assert_small((likely(&[], 0) - found.corrupted).abs(), 1e-12, "nothing restored");
    for position in 1..5 {
        for layer in 0..model.dims().n_layers {
            let one = likely(&[Site::RESID_POST.at(layer)], position);
            assert_small((found.resid.get(layer, position as usize).unwrap() - one).abs(), 1e-12, "stream");
            let from = layer.saturating_sub(1).min(model.dims().n_layers - 2);
            for (grid, site) in [(&found.attention, Site::ATTN_OUT), (&found.mlp, Site::MLP_OUT)] {
                let both = likely(&[site.at(from), site.at(from + 1)], position);
                assert_small((grid.get(layer, position as usize).unwrap() - both).abs(), 1e-12, "window");
            }
        }
    }
}

/// A neuron that alone carries the answer: planted by its output weights.
#[test]
fn a_planted_neuron_moves_its_token_and_another_does_not() {
    let plain = golden("gpt2");
    let (layer, token) = (plain.dims().n_layers - 1, 7);
    let out = plain.weight(arrakis_core::Weight::OUT.at(layer)).unwrap();
    let direction = plain.weight(arrakis_core::Weight::U.global()).unwrap().select(1, token);
    let planted = out.zeros_like();
    planted.get(5).copy_(&(direction * 3.0));
    let model = plain.with_weights(vec![(arrakis_core::Weight::OUT.at(layer), planted)]).unwrap();
    let respond = |neuron: usize| {
        let asked = NeuronIntervention {
            values: Some(vec![0.0, 2.0, 4.0]),
            position: Some(-1),
            ..NeuronIntervention::new(Prompt::Ids(vec![9, 3, 17]), layer, neuron, Metric::Logit(token.into()))
        };
        asked.run(&Context::new(&*model)).unwrap().response.lines.remove(0).values
    };
    let (carrier, other) = (respond(5), respond(6));
    assert!(carrier[0] < carrier[1] && carrier[1] < carrier[2], "{carrier:?}");
    assert_small((other[0] - other[2]).abs(), 1e-12, "a neuron without output");
}

#[test]
fn rows_are_traced_as_they_are_alone() {
    let model = golden("gpt2");
    let cx = Context::new(&model);
    let rows = [vec![9, 3, 17, 40], vec![5, 8, 6]];
    let both = CausalTrace { prompt: Prompt::Rows(rows.to_vec()), ..asked(&rows[0], &[1]) }.run(&cx).unwrap();
    let alone = asked(&rows[0], &[1]).run(&cx).unwrap();
    assert_eq!(both.rows.len(), 2);
    assert_eq!(both.rows[0].resid.values, alone.rows[0].resid.values);
    assert_eq!(both.rows[1].resid.columns.labels, ["[5]", "[8]*", "[6]"]);
}

#[test]
fn bad_input_is_named() {
    let model: Decoder = golden("gpt2");
    let with = |change: &dyn Fn(&mut CausalTrace)| {
        let mut asked = asked(&[9, 3, 17], &[1]);
        change(&mut asked);
        refused(&asked, &model)
    };
    assert!(with(&|asked| asked.subject = Subject::Positions(vec![3])).contains("position 3"));
    assert!(with(&|asked| asked.subject = Subject::Positions(vec![])).contains("subject"));
    assert!(with(&|asked| asked.subject = Subject::Text("nowhere".into())).contains("holds it 0 times"));
    assert!(with(&|asked| asked.noise = 0.0).contains("noise 0"));
    assert!(with(&|asked| asked.noise = f64::NAN).contains("noise NaN"));
    assert!(with(&|asked| asked.samples = 0).contains("samples 0"));
    assert!(with(&|asked| asked.window = Some(99)).contains("window 99"));
    assert!(with(&|asked| asked.answer = Some(9999.into())).contains("token id 9999"));
    let neuron = NeuronIntervention::new(Prompt::Ids(vec![9, 3]), 0, 0, Metric::Loss);
    let with = |change: &dyn Fn(&mut NeuronIntervention)| {
        let mut asked = neuron.clone();
        change(&mut asked);
        refused(&asked, &model)
    };
    assert!(with(&|asked| asked.neuron = 9999).contains("neuron 9999"));
    assert!(with(&|asked| asked.layer = 9).contains("layer 9"));
    assert!(with(&|asked| asked.values = Some(vec![])).contains("values"));
    assert!(with(&|asked| asked.position = Some(5)).contains("position 5"));
    let padded = Prompt::Rows(vec![vec![1, 2], vec![3]]);
    assert!(with(&|asked| (asked.prompt, asked.position) = (padded.clone(), Some(0))).contains("position of a batch"));
}

//! `feature_viz.*`

use arrakis_core::{Context, Corpus, Model as _, ModelExt as _, Prompt, Site, Tokens, Tool as _, Weight, answer};
use arrakis_tools::{Direction, Feature, InterpolateNeurons, NeuronPortrait, NeuronWeights, TopTokens};
use tch::{Kind, Tensor};

use super::sparsity::neuron_of_one_token;
use super::{assert_close, assert_small, each_folder, golden, refused};

#[test]
fn the_strongest_tokens_are_the_greatest_of_all() {
    each_folder("strongest tokens", |model, rows, name| {
        let dims = model.dims();
        let direction: Vec<f64> = (0..dims.d_model).map(|entry| (entry as f64).sin()).collect();
        let features = [
            Feature::Neuron { layer: 1, neuron: 2 },
            Feature::Head { layer: 1, head: 1, direction: Direction::Vector(direction.clone()) },
            Feature::Direction { point: "blocks.0.hook_resid_post".into(), direction: Direction::Token(3.into()) },
            Feature::Entry { point: "blocks.0.attn.hook_z".into(), index: dims.d_head + 1 },
        ];
        let len = rows[0].len().min(model.dims().context);
        let documents = vec![rows[0][..len].to_vec(), rows[1][..3].to_vec(), rows[1][3..len].to_vec()];
        for feature in features {
            let asked =
                TopTokens { top: 4, around: 2, ..TopTokens::new(Corpus::Rows(documents.clone()), feature.clone()) };
            for cx in [Context::new(model), Context::new(model).with_memory_limit(1)] {
                let found = asked.run(&cx).unwrap();
                assert_small(found.replay_gap, 1e-9, name);
                let mut all: Vec<f64> = documents
                    .iter()
                    .flat_map(|ids| {
                        let tokens = Tokens::from_ids(ids).unwrap();
                        let keep = |site: Site, layer: usize| {
                            let run = model.trace(&tokens).keep(site.at(layer)).run().unwrap();
                            run.cache[site.at(layer)].get(0)
                        };
                        let values = match &feature {
                            Feature::Neuron { .. } => keep(Site::MLP_POST, 1).select(1, 2),
                            Feature::Head { .. } => {
                                keep(Site::RESULT, 1).select(1, 1).matmul(&Tensor::from_slice(&direction))
                            }
                            Feature::Entry { .. } => keep(Site::Z, 0).select(1, 1).select(1, 1),
                            Feature::Direction { .. } => {
                                let one = Tensor::ones([1], (Kind::Double, tch::Device::Cpu));
                                let normed = model.final_norm_with_scale(&keep(Site::RESID_POST, 0), &one).unwrap();
                                normed.matmul(&model.weight(Weight::U.global()).unwrap()).select(1, 3)
                            }
                        };
                        answer::numbers(&values).unwrap()
                    })
                    .collect();
                all.sort_by(|a, b| b.total_cmp(a));
                let values: Vec<f64> = found.top.entries.iter().map(|entry| entry.value).collect();
                assert_close(&values, &Tensor::from_slice(&all[..4]), 1e-9, name);
            }
        }
    });
}

#[test]
fn contexts_are_what_was_read() {
    let model = neuron_of_one_token();
    let corpus = Corpus::Rows(vec![vec![9, 3, 17, 5, 40], vec![5, 8, 11]]);
    let feature = Feature::Neuron { layer: 0, neuron: 0 };
    let asked = TopTokens { top: 2, around: 1, window: Some(3), ..TopTokens::new(corpus, feature) };
    let found = asked.run(&Context::new(&*model)).unwrap();
    let mut labels: Vec<&str> = found.top.entries.iter().map(|entry| entry.label.as_str()).collect();
    labels.sort_unstable();
    // The window that begins with the token has nothing before it.
    assert_eq!(labels, ["«[5]»[40]", "«[5]»[8]"]);
    let mut places = found.places;
    places.sort_unstable();
    assert_eq!(places, [(0, 3), (1, 0)]);
    assert!(found.contexts.get(0, 0).unwrap().is_nan());
    assert_eq!(found.contexts.cells.unwrap()[0], "");
}

#[test]
fn a_neuron_is_drawn_in_every_family() {
    each_folder("portrait of a neuron", |model, rows, name| {
        // A window holds no more than the context.
        let len = rows[0].len().min(model.dims().context);
        let rows = &[rows[0][..len].to_vec(), rows[1][..len].to_vec()][..];
        let asked = NeuronPortrait { bins: 7, top: 5, ..NeuronPortrait::new(Corpus::Rows(rows.to_vec()), 1, 4) };
        let found = asked.run(&Context::new(model)).unwrap();
        assert_small(found.count_gap, 0.0, name);
        assert_small(found.effect_gap, 1e-9, name);
        let tokens = Tokens::from_rows(rows).unwrap();
        let point = Site::MLP_POST.at(1);
        let seen = model.trace(&tokens).keep(point).run().unwrap().cache[point].select(2, 4);
        assert_close(&[found.mean], &seen.mean(Kind::Double), 1e-9, name);
        assert_close(&[found.greatest], &seen.max(), 1e-9, name);
        let active = seen.gt(0.0).to_kind(Kind::Double).mean(Kind::Double);
        assert_close(&[found.active], &active, 1e-12, name);
        let order = |entries: &[arrakis_core::Entry]| entries.windows(2).all(|pair| pair[0].value >= pair[1].value);
        assert!(order(&found.promoted.entries), "{name}");
        assert!(found.promoted.entries[0].value >= found.suppressed.entries[0].value);
    });
}

#[test]
fn a_neuron_that_writes_a_token_promotes_it() {
    let model = golden("gpt2");
    let out = model.weight(Weight::OUT.at(1)).unwrap().copy();
    // What the final norm and the unembedding read of the token.
    let read =
        model.weight(Weight::U.global()).unwrap().select(1, 17) * model.weight(Weight::LN_FINAL_W.global()).unwrap();
    let unit = &read - read.mean(Kind::Double);
    let () = out.get(6).copy_(&(&unit * 3.0));
    let planted = model.with_weights(vec![(Weight::OUT.at(1), out)]).unwrap();
    let found = NeuronPortrait::new(Corpus::Rows(vec![vec![9, 3, 17]]), 1, 6).run(&Context::new(&*planted)).unwrap();
    let own = found.promoted.entries.iter().find(|entry| entry.label == "[17]").unwrap();
    assert_small((own.value - 3.0 * unit.square().sum(Kind::Double).double_value(&[])).abs(), 1e-9, "effect");
}

#[test]
fn the_ends_of_the_way_are_the_neurons() {
    each_folder("between neurons", |model, rows, name| {
        for weights in [NeuronWeights::Output, NeuronWeights::Input] {
            let prompt = Prompt::Rows(vec![rows[0].clone(), rows[1][..3].to_vec()]);
            let asked = InterpolateNeurons { weights, top: 3, ..InterpolateNeurons::new(prompt, 1, 4, 2) };
            let found = asked.run(&Context::new(model)).unwrap();
            assert_small(found.gap, 1e-9, name);
            assert_eq!((found.rows.len(), found.rows[1].activation.columns.len()), (2, 3));
            // Linear on the way.
            let grid = &found.rows[0].activation;
            let middle = f64::midpoint(grid.get(0, 1).unwrap(), grid.get(4, 1).unwrap());
            assert_small((grid.get(2, 1).unwrap() - middle).abs(), 1e-9, name);
            if weights == NeuronWeights::Output {
                let asked = NeuronPortrait { top: 3, ..NeuronPortrait::new(Corpus::Rows(rows.to_vec()), 1, 4) };
                let portrait = asked.run(&Context::new(model)).unwrap();
                let promoted: Vec<f64> = portrait.promoted.entries.iter().map(|entry| entry.value).collect();
                assert_close(&promoted, &Tensor::from_slice(&found.tokens.values[..3]), 1e-9, name);
            }
        }
    });
}

#[test]
fn what_cannot_be_asked_is_named() {
    let model = golden("gpt2");
    let asked = |feature| TopTokens::new(Corpus::Rows(vec![vec![9, 3, 17]]), feature);
    let direction = |numbers: Vec<f64>| {
        asked(Feature::Direction { point: "hook_embed".into(), direction: Direction::Vector(numbers) })
    };
    let neuron = |layer, neuron| asked(Feature::Neuron { layer, neuron });
    assert!(refused(&neuron(2, 0), &model).contains("layer 2 is out of range: there are 2"));
    assert!(refused(&neuron(0, 9999), &model).contains("neuron 9999"));
    assert!(refused(&direction(vec![1.0; 3]), &model).contains("it has 3 numbers where 24 are wanted"));
    assert!(refused(&direction(vec![0.0; 24]), &model).contains("its length is 0"));
    assert!(refused(&direction(vec![f64::NAN; 24]), &model).contains("entry 0 is NaN"));
    let head = Feature::Head { layer: 0, head: 4, direction: Direction::Token(3.into()) };
    assert!(refused(&asked(head), &model).contains("head 4 is out of range: there are 4"));
    assert!(
        refused(&NeuronPortrait { bins: 0, ..NeuronPortrait::new(Corpus::Rows(vec![vec![9]]), 0, 0) }, &model)
            .contains("bins 0")
    );
    let way = InterpolateNeurons { steps: 1, ..InterpolateNeurons::new(Prompt::Ids(vec![9]), 0, 0, 1) };
    assert!(refused(&way, &model).contains("steps 1"));
}

//! Tool crates written as an outsider would: found by name, right where the answer is known, the same when loaded.

use arrakis_core::plugin::Handles;
use arrakis_core::{
    Answer, Context, Corpus, Grid, Metric, Model, ModelExt, Part, PosSlice, Prompt, Series, Site, Tokens, Tool, Weight,
    edit, tool,
};
use arrakis_leviathan::{Config, Lags};
use arrakis_models::Decoder;
use head_entropy::HeadEntropy;
use prefix_copying::PrefixCopying;
use serde_json::{Value, json};
use steering_sweep::SteeringSweep;
use tch::{Kind, Tensor};
use token_frequency::TokenFrequency;

use crate::families::loaded;
use crate::fixtures::root;
use crate::{leviathan, plugins};

fn golden(name: &str) -> Decoder {
    loaded(&root().join("tests/golden").join(name), Kind::Double)
}

fn grid<'a>(answer: &'a Answer, part: &str) -> &'a Grid {
    let Some(Part::Grid(grid)) = answer.get(part) else { panic!("`{part}` of {answer:?}") };
    grid
}

fn series<'a>(answer: &'a Answer, part: &str) -> &'a Series {
    let Some(Part::Series(series)) = answer.get(part) else { panic!("`{part}` of {answer:?}") };
    series
}

fn number(answer: &Answer, part: &str) -> f64 {
    let Some(Part::Number(number)) = answer.get(part) else { panic!("`{part}` of {answer:?}") };
    *number
}

/// Questions to the four crates: the package, the tool, and its parameters.
fn questions() -> [(&'static str, &'static str, Value); 4] {
    [
        ("head-entropy", HeadEntropy::NAME, json!({ "prompt": [[3, 4, 5, 6], [7, 8]] })),
        ("prefix-copying", PrefixCopying::NAME, json!({ "length": 8, "batch": 2 })),
        (
            "steering-sweep",
            SteeringSweep::NAME,
            json!({ "prompt": [[9, 3, 17], [4, 4, 8]], "layer": 0, "towards": [5, 6], "away": [5, 7], "answer": 3, "wrong": 8 }),
        ),
        ("token-frequency", TokenFrequency::NAME, json!({ "corpus": [[9, 3, 3, 3, 17], [3, 9]], "top": 3 })),
    ]
}

#[test]
fn linked_and_loaded_they_answer_the_same() {
    let leviathan = leviathan::config(leviathan::correlation(3, Lags::Separable));
    let leviathan = Config { vocab: 20, ..leviathan };
    let models: [Box<dyn Model>; 3] =
        [Box::new(golden("gpt2")), Box::new(golden("llama")), Box::new(leviathan::model(&leviathan, 3, Kind::Double))];
    for model in &models {
        for (package, name, parameters) in questions() {
            let (linked, loaded) = (tool(name).unwrap(), plugins::loaded(package, name));
            assert!(linked.owner().starts_with(package));
            assert!(linked.doc().contains("Source: ") || name == HeadEntropy::NAME, "{name} cites nothing");
            assert_eq!((linked.schema(), linked.owner()), (loaded.schema(), loaded.owner()));
            let parameters = loaded.complete(parameters).unwrap();
            let plugin = plugins::opened(package);
            let (here, there) = (Handles::here(), plugin.handles().unwrap());
            let cx = Context::new(model.as_ref()).with_seed(5);
            let answers = [linked, &loaded].map(|tool| tool.ask(parameters.clone(), &cx).unwrap());
            plugins::assert_same(&answers[0], &answers[1], name);
            plugins::assert_at_rest(here, there, plugin);
            for gap in ["row_gap", "trace_gap", "zero_gap", "normal_gap"] {
                if answers[0].get(gap).is_some() {
                    assert!(number(&answers[0], gap) <= 1e-10, "{name}: {gap} {}", number(&answers[0], gap));
                }
            }
        }
    }
}

#[test]
fn the_spread_of_attention_is_a_share() {
    let model = golden("llama");
    let cx = Context::new(&model);
    let rows = Prompt::Rows(vec![vec![3, 4, 5, 6], vec![7, 8]]);
    let answer: Answer = HeadEntropy { prompt: rows }.run(&cx).unwrap().into();
    let entropy = grid(&answer, "entropy");
    assert_eq!((entropy.rows.len(), entropy.columns.len()), (2, 4));
    assert!(entropy.values.iter().all(|share| (0.0..=1.0 + 1e-12).contains(share)), "{:?}", entropy.values);
    let why = tool(HeadEntropy::NAME).unwrap().ask(json!({ "prompt": "text" }), &cx).unwrap_err().to_string();
    assert!(why.contains("tokenizer"), "{why}");
}

#[test]
fn a_head_that_is_made_to_copy_scores_one_and_its_opposite_minus_one() {
    let model = golden("gpt2");
    let dims = arrakis_core::Model::dims(&model).clone();
    let (embed, unembed) = (model_weight(&model, Weight::E.global()), model_weight(&model, Weight::U.global()));
    // Values read along what output writes, seen through embedding and unembedding: `V = (U E)^T O^T` makes a square.
    let across = unembed.matmul(&embed);
    let output = model_weight(&model, Weight::O.at(0));
    let copying = across.transpose(0, 1).matmul(&output.transpose(1, 2));
    let signs = Tensor::from_slice(&[1.0, -1.0, 1.0, -1.0]).view([4, 1, 1]);
    let edited = arrakis_core::Model::with_weights(&model, vec![(Weight::V.at(0), copying * signs)]).unwrap();
    let answer: Answer = PrefixCopying { length: 5, batch: 1 }.run(&Context::new(edited.as_ref())).unwrap().into();
    let scores = &grid(&answer, "copying").values[..dims.n_heads];
    for (score, expected) in scores.iter().zip([1.0, -1.0, 1.0, -1.0]) {
        assert!((score - expected).abs() < 1e-9, "{scores:?}");
    }
    assert!(grid(&answer, "prefix_matching").values.iter().all(|score| (0.0..=1.0).contains(score)));
}

fn model_weight(model: &Decoder, weight: arrakis_core::WeightPoint) -> Tensor {
    arrakis_core::Model::weight(model, weight).unwrap()
}

#[test]
fn prefix_matching_is_attention_to_what_followed() {
    let model = golden("gpt2");
    let cx = Context::new(&model).with_seed(1);
    let answer: Answer = PrefixCopying { length: 6, batch: 3 }.run(&cx).unwrap().into();
    let mut stream = cx.stream(PrefixCopying::NAME);
    let rows: Vec<Vec<i64>> = (0..3)
        .map(|_| {
            let half: Vec<i64> = stream.permutation(61).into_iter().take(6).map(|id| id as i64).collect();
            [half.clone(), half].concat()
        })
        .collect();
    let tokens = Tokens::from_rows(&rows).unwrap();
    let run = model.trace(&tokens).keep(Site::PATTERN).run().unwrap();
    let pattern = &run.cache[Site::PATTERN.at(1)];
    for head in 0..4 {
        let pairs = (0..3).flat_map(|row| (6..12).map(move |query| [row, head, query, query - 5]));
        let mean = pairs.map(|place| pattern.double_value(&place)).sum::<f64>() / 18.0;
        let found = grid(&answer, "prefix_matching").get(1, head as usize).unwrap();
        assert!((found - mean).abs() < 1e-12, "{found} {mean}");
    }
}

#[test]
fn steering_follows_single_runs_and_finds_the_crossing() {
    let model = golden("llama");
    let cx = Context::new(&model);
    let steering: SteeringSweep = serde_json::from_value(questions()[2].2.clone()).unwrap();
    let answer: Answer = steering.run(&cx).unwrap().into();
    let line = &series(&answer, "difference").lines[0].values;
    assert_eq!(line.len(), 17);
    let stream = |ids: &[i64]| {
        let tokens = Tokens::from_ids(ids).unwrap();
        let run = model.trace(&tokens).keep(Site::RESID_POST.at(0)).run().unwrap();
        run.cache[Site::RESID_POST.at(0)].get(0).get(-1)
    };
    let direction = stream(&[5, 6]) - stream(&[5, 7]);
    let tokens = steering.prompt.tokens(&model).unwrap();
    let plain = model.trace(&tokens).keep(Site::RESID_POST.at(0)).run().unwrap();
    let length = plain.cache[Site::RESID_POST.at(0)].norm_scalaropt_dim(2.0, [-1_i64], false).mean(Kind::Double);
    let term = (&direction / direction.norm()) * length * (-0.5);
    let trace = model.trace(&tokens).edit(Site::RESID_POST.at(0), edit::add(&term)).logits(PosSlice::Last);
    let metric = Metric::LogitDifference { answer: 3.into(), wrong: 8.into() };
    let values = metric.prepare(&model, &tokens).unwrap().of(trace.run().unwrap().logits().unwrap()).unwrap();
    assert!((line[4] - values.mean(Kind::Double).double_value(&[])).abs() < 1e-12);
    let crossing = number(&answer, "crossing");
    let changes = line.windows(2).any(|pair| pair[0] * pair[1] <= 0.0);
    assert_eq!(changes, crossing.is_finite());
    let why = |field: &str, value: Value| {
        let mut parameters = questions()[2].2.clone();
        parameters[field] = value;
        tool(SteeringSweep::NAME).unwrap().ask(parameters, &cx).unwrap_err().to_string()
    };
    assert!(why("layer", json!(2)).contains("layer 2 is out of range"));
    assert!(why("greatest", json!(0)).contains("greatest 0"));
    assert!(why("steps", json!(0)).contains("steps 0"));
    assert!(why("away", json!([5, 6])).contains("give prompts that differ"));
}

#[test]
fn a_frequency_that_lies_in_the_stream_is_found_whole() {
    let model = golden("gpt2");
    let cx = Context::new(&model);
    let counted =
        TokenFrequency { corpus: Corpus::Rows(vec![vec![7; 20], vec![9; 5]]), smoothing: 1.0, window: 8, top: 2 };
    let found = counted.run(&cx).unwrap();
    assert!(found.fit > 0.0 && found.fit < 1.0, "{}", found.fit);
    // With a stream as wide as the vocabulary any frequency has its direction.
    let unembed = model_weight(&model, Weight::U.global());
    let d_model = unembed.size()[0];
    let few = Tensor::zeros_like(&unembed);
    let rest = d_model - 2;
    let _ = few.narrow(1, 7, 1).narrow(0, 0, 1).fill_(1.0);
    let _ = few.narrow(1, 9, 1).narrow(0, 1, 1).fill_(1.0);
    few.narrow(0, 2, rest).copy_(&(unembed.narrow(0, 2, rest) * 1e-3));
    let edited = arrakis_core::Model::with_weights(&model, vec![(Weight::U.global(), few)]).unwrap();
    let whole = counted.run(&Context::new(edited.as_ref())).unwrap();
    assert!(whole.fit > 1.0 - 1e-9, "{}", whole.fit);
    assert_eq!(whole.raised.entries[0].label, "[7]");
    assert_eq!(whole.raised.entries[1].label, "[9]");
    let why = |field: &str, value: Value| {
        let mut parameters = json!({ "corpus": [[1, 2]] });
        parameters[field] = value;
        tool(TokenFrequency::NAME).unwrap().ask(parameters, &cx).unwrap_err().to_string()
    };
    assert!(why("smoothing", json!(0)).contains("smoothing 0"));
    assert!(why("top", json!(0)).contains("top 0"));
    assert!(why("corpus", json!([[1, 99]])).contains("token id in document 0 of the corpus 99 is out of range"));
}

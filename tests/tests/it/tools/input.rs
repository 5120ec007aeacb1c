//! What every tool has: a place in the registry, help, JSON in and out, and errors that name the thing.

use arrakis_core::{Answer, Context, Corpus, Metric, Prompt, RowTokens, Tool, tool, tools};
use arrakis_models::Decoder;
use arrakis_tools::{
    AblationEffects, ActivationPatching, AttentionHeads, AttentionPatterns, DirectAttribution, Direction,
    FullDecomposition, LayerAttribution, LensAblation, LogitLens, MlpBasis, MlpSide, NeuronAttribution, PatchKind,
    PatchScale, ResidualGradient, ResidualMovement, ResidualSources, Split, TokenCirculation, TopBy, TopComponents,
    TunedLens, TunedLensTraining,
};
use serde_json::{Value, json};

use super::{golden, message, refused};

const NAMES: [&str; 17] = [
    "attention.heads",
    "attention.patterns",
    "logit_attribution.circulation",
    "logit_attribution.direct",
    "logit_attribution.neurons",
    "logit_lens.effects",
    "logit_lens.layers",
    "logit_lens.lens",
    "logit_lens.tuned",
    "logit_lens.tuned_train",
    "patching.activation",
    "residual.gradient",
    "residual.movement",
    "residual.sources",
    "residual_decomposition.full",
    "residual_decomposition.mlp_basis",
    "residual_decomposition.top",
];

/// Parameters that a tool takes, without the optional ones.
pub(super) fn least(name: &str) -> Value {
    let prompt = [9, 3, 17, 40];
    match name {
        "attention.heads" => json!({ "length": 6 }),
        "logit_lens.tuned" => json!({ "prompt": prompt, "file": super::tuned::untrained() }),
        "logit_lens.tuned_train" => json!({
            "corpus": [[9, 3, 17, 40], [5, 8, 2], [7, 1]],
            "file": super::tuned::scratch("input"),
            "steps": 2,
        }),
        "residual.gradient" => json!({ "prompt": prompt, "metric": { "logit": 3 } }),
        "residual_decomposition.mlp_basis" => json!({}),
        "logit_attribution.circulation" => json!({ "prompt": prompt, "tokens": [3, 8] }),
        "logit_attribution.direct" | "logit_attribution.neurons" | "logit_lens.effects" => {
            json!({ "prompt": prompt, "answer": 3 })
        }
        "patching.activation" => json!({
            "clean": prompt,
            "corrupted": [9, 7, 17, 40],
            "metric": { "logit_difference": { "answer": 3, "wrong": 8 } },
        }),
        _ => json!({ "prompt": prompt }),
    }
}

#[test]
fn tools_are_registered_with_help() {
    let names: Vec<&str> = tools().iter().map(|tool| tool.name()).collect();
    for name in NAMES {
        assert!(names.contains(&name), "{name} is not among {names:?}");
        let entry = tool(name).unwrap();
        assert!(entry.doc().contains("Source: "), "{name} cites nothing");
        for field in entry.fields() {
            assert!(!field.doc.is_empty(), "{name} does not say what `{}` is", field.name);
            assert!(field.required || field.schema.get("default").is_some(), "{name}: `{}` is neither", field.name);
        }
    }
}

#[test]
fn asked_by_name_they_answer_and_prove_themselves() {
    let model = golden("gpt2");
    for name in NAMES {
        let entry = tool(name).unwrap();
        let complete = entry.complete(least(name)).unwrap();
        assert_eq!(entry.complete(complete.clone()).unwrap(), complete, "{name}");
        let answer = entry.ask(least(name), &Context::new(&model)).unwrap();
        let from_complete = entry.ask(complete, &Context::new(&model)).unwrap();
        let (json, tensors) = answer.split().unwrap();
        assert_eq!(json, from_complete.split().unwrap().0, "{name}");
        let back = Answer::join(json.clone(), tensors).unwrap();
        assert_eq!(back.split().unwrap().0, json, "{name}");
        assert!(!json.to_string().contains("null"), "{name}");
        let gaps: Vec<f64> = json
            .as_object()
            .unwrap()
            .iter()
            .filter(|(part, _)| part.ends_with("gap"))
            .map(|(_, gap)| gap["number"].as_f64().unwrap())
            .collect();
        assert!(!gaps.is_empty() && gaps.iter().all(|gap| *gap <= 1e-10), "{name}: {gaps:?}");
    }
}

#[test]
fn unknown_and_missing_fields_are_named() {
    let model = golden("gpt2");
    let cx = Context::new(&model);
    for name in NAMES {
        let mut parameters = least(name);
        parameters["promt"] = json!("a");
        let why = message(tool(name).unwrap().ask(parameters, &cx));
        assert!(why.contains("unknown field `promt`") && why.contains(name), "{why}");
    }
    let why = message(tool("logit_attribution.direct").unwrap().ask(json!({ "prompt": [1, 2] }), &cx));
    assert!(why.contains("missing field `answer`"), "{why}");
    let why = message(tool("logit_lens.lense"));
    assert!(why.contains("`logit_lens.lens`"), "{why}");
}

#[test]
fn parameters_survive_json() {
    fn same<T: Tool + std::fmt::Debug>(tool: &T) {
        let json = serde_json::to_string(tool).unwrap();
        let back: T = serde_json::from_str(&json).unwrap();
        assert_eq!(format!("{tool:?}"), format!("{back:?}"));
    }
    same(&LogitLens { mid: true, position: Some(-2), targets: vec![" a".into(), 3.into()], ..LogitLens::new("text") });
    same(&AttentionPatterns { heads: Some(vec![1]), ..AttentionPatterns::new(Prompt::Texts(vec!["a".into()])) });
    same(&AttentionHeads { bos: Some(1.into()), ..AttentionHeads::default() });
    same(&DirectAttribution::new("text", " a", 3));
    let mut full = FullDecomposition::new("text");
    for direction in [
        Direction::Vector(vec![0.5, -1.0]),
        Direction::Token(" a".into()),
        Direction::Difference { answer: 3.into(), wrong: " b".into() },
    ] {
        full.direction = Some(direction);
        same(&full);
    }
    same(&TopComponents { by: Some(TopBy::Share), split: Split::Neurons, ..TopComponents::new("text") });
    same(&MlpBasis { side: MlpSide::Gate, ..MlpBasis::default() });
    same(&ResidualSources { position: Some(-1), ..ResidualSources::new("text") });
    same(&ResidualMovement::new("text"));
    same(&ResidualGradient { baseline: Some("b".into()), ..ResidualGradient::new("text", Metric::Loss) });
    same(&NeuronAttribution::new("text", " a", 3));
    same(&TokenCirculation::new("text", vec![" a".into(), 3.into()]));
    same(&LayerAttribution { targets: vec![3.into()], ..LayerAttribution::new("text") });
    same(&AblationEffects { ablation: LensAblation::Mean, ..AblationEffects::new("text", " a", 3) });
    same(&TunedLens::new("text", "lens.safetensors"));
    same(&TunedLensTraining::new(Corpus::Texts(vec!["text".into()]), "lens.safetensors"));
    let each = RowTokens::Each(vec![" a".into(), 4.into()]);
    let metric = Metric::LogitDifference { answer: each, wrong: 3.into() };
    let mut patching = ActivationPatching::new("a", "b", metric);
    (patching.kinds, patching.scale) = (vec![PatchKind::ZByPos, PatchKind::ResidPre], PatchScale::Raw);
    same(&patching);
}

/// Asks with one parameter changed, which must be refused.
fn wrong(model: &Decoder, name: &str, field: &str, value: Value) -> String {
    let mut parameters = least(name);
    parameters[field] = value;
    message(tool(name).unwrap().ask(parameters, &Context::new(model)))
}

#[test]
fn bad_values_are_named() {
    let model = golden("gpt2");
    let cases = [
        ("logit_lens.lens", "prompt", json!([]), "the prompt is empty"),
        ("logit_lens.lens", "prompt", json!([[1, 2], []]), "the prompt is empty"),
        ("logit_lens.lens", "prompt", json!([1, 61]), "token id 61"),
        ("logit_lens.lens", "prompt", json!("text"), "no tokenizer"),
        ("logit_lens.lens", "prompt", json!(vec![1; 25]), "25 positions"),
        ("logit_lens.lens", "position", json!(4), "position 4 is out of range: there are 4"),
        ("logit_lens.lens", "position", json!(-5), "position -5"),
        ("logit_lens.lens", "positions", json!([0, 9]), "position 9"),
        ("logit_lens.lens", "positions", json!([]), "the list is empty"),
        ("logit_lens.lens", "top", json!(0), "top 0: give a number in 1..=61"),
        ("logit_lens.lens", "top", json!(62), "top 62"),
        ("logit_lens.lens", "targets", json!([61]), "token id 61"),
        ("attention.patterns", "layers", json!([2]), "layer 2 is out of range: there are 2"),
        ("attention.patterns", "heads", json!([0, 4]), "head 4 is out of range: there are 4"),
        ("attention.patterns", "heads", json!([]), "the list is empty"),
        ("attention.patterns", "position", json!(4), "position 4"),
        ("attention.patterns", "top", json!(0), "top 0"),
        ("attention.heads", "length", json!(1), "length 1"),
        ("attention.heads", "length", json!(61), "length 61"),
        ("attention.heads", "length", json!(13), "26 positions"),
        ("attention.heads", "batch", json!(0), "batch 0"),
        ("attention.heads", "bos", json!(61), "token id 61"),
        ("attention.heads", "top", json!(0), "top 0"),
        ("attention.heads", "method", json!("guess"), "unknown variant `guess`"),
        ("logit_attribution.direct", "answer", json!(-1), "token id -1"),
        ("logit_attribution.direct", "answer", json!([1, 2]), "2 tokens for 1 rows"),
        ("logit_attribution.direct", "position", json!(4), "position 4"),
        ("logit_attribution.direct", "top", json!(0), "top 0"),
        ("patching.activation", "corrupted", json!([9, 7, 17]), "4 and 3 tokens in row 0"),
        ("patching.activation", "corrupted", json!([[9, 7, 17, 1], [9, 7, 17, 1]]), "1 and 2 rows"),
        ("patching.activation", "layers", json!([5]), "layer 5"),
        ("patching.activation", "kinds", json!([]), "the list is empty"),
        ("patching.activation", "kinds", json!(["q"]), "unknown variant `q`"),
    ];
    for (name, field, value, expected) in cases {
        let why = wrong(&model, name, field, value.clone());
        assert!(why.contains(expected), "{name} {field}={value}: {why}");
    }
}

#[test]
fn memory_and_padding_have_their_bounds() {
    let model = golden("gpt2");
    let cx = Context::new(&model).with_memory_limit(100);
    let why = message(AttentionPatterns::new(Prompt::Ids(vec![9, 3, 17])).run(&cx));
    assert!(why.contains("choose fewer `layers` or `heads`"), "{why}");
    let rows = Prompt::Rows(vec![vec![9, 3, 17], vec![4, 5]]);
    let patching = ActivationPatching::new(rows.clone(), rows, Metric::Loss);
    assert!(refused(&patching, &model).contains("`resid_pre` of a batch: its rows differ in length"));
}

#[test]
fn a_cancelled_tool_ends() {
    struct Cancelling;
    impl arrakis_core::Host for Cancelling {
        fn cancelled(&self) -> bool {
            true
        }
    }
    let model = golden("gpt2");
    for name in NAMES.into_iter().filter(|name| *name != "logit_attribution.direct") {
        let why = message(tool(name).unwrap().ask(least(name), &Context::new(&model).with_host(&Cancelling)));
        assert_eq!(why, "cancelled", "{name}");
    }
}

//! What every tool has: a place in the registry, help, JSON in and out, and errors that name the thing.

use arrakis_core::{Answer, Context, Corpus, Metric, Part, Prompt, RowTokens, Tool, tool, tools};
use arrakis_models::Decoder;
use arrakis_tools::{
    AblationEffects, AblationKind, ActivationPatching, AttentionAblation, AttentionHeads, AttentionKnockout,
    AttentionMerge, AttentionPatterns, AttentionTop, BlendOf, BlendedHead, Circuit, CompositionScores, Control,
    DirectAttribution, Direction, Feature, FullDecomposition, HeadCircuit, HeadInput, HeadPath, HeadPlace,
    KnowledgeNeuron, LayerAttribution, LayerPlan, LensAblation, LinearProbe, LogitLens, MlpBasis, MlpSide,
    NeuronAttribution, PatchKind, PatchScale, Prunable, Prune, RelationSubspaces, RelationTokens, ResidualGradient,
    ResidualMovement, ResidualSources, Split, SurgeryEach, SurgeryLayers, TokenCirculation, TopBy, TopComponents,
    TopTokens, TunedLens, TunedLensTraining, TypedRelation, TypedRelations, VirtualHead, WriteReadFlow,
    WriteReadReaders, WriteReadWriters,
};
use serde_json::{Value, json};

use super::{golden, message, refused};

const NAMES: &[&str] = &[
    "attention.ablate",
    "attention.heads",
    "attention.knockout",
    "attention.merge",
    "attention.patterns",
    "attention.top",
    "causal_tracing.neuron",
    "causal_tracing.probability",
    "causal_tracing.trace",
    "factored_matrix.circuit",
    "feature_viz.interpolate",
    "feature_viz.neuron",
    "feature_viz.top_tokens",
    "head_composition.blend",
    "head_composition.path",
    "head_composition.scores",
    "head_composition.virtual_head",
    "knowledge.neuron",
    "knowledge.polysemanticity",
    "knowledge.probe",
    "logit_attribution.circulation",
    "logit_attribution.direct",
    "logit_attribution.neurons",
    "logit_lens.effects",
    "logit_lens.layers",
    "logit_lens.lens",
    "logit_lens.tuned",
    "logit_lens.tuned_train",
    "patching.activation",
    "patching.attribution",
    "patching.direct_path",
    "patching.path",
    "patching.steer",
    "relations.subspaces",
    "relations.tokens",
    "relations.typed",
    "residual.gradient",
    "residual.movement",
    "residual.sources",
    "residual_decomposition.full",
    "residual_decomposition.mlp_basis",
    "residual_decomposition.top",
    "sparsity.activations",
    "sparsity.polysemantic",
    "sparsity.prune",
    "superposition.concepts",
    "superposition.covariance",
    "superposition.geometry",
    "superposition.interpolate",
    "superposition.reconstruct",
    "surgery.each",
    "surgery.layers",
    "write_read.flow",
    "write_read.readers",
    "write_read.writers",
];

/// Parameters that a tool takes, without the optional ones.
pub(crate) fn least(name: &str) -> Value {
    let prompt = [9, 3, 17, 40];
    let corpus = [[9, 3, 17, 40], [5, 8, 2, 11]];
    let point = "blocks.0.hook_resid_post";
    match name {
        "attention.ablate" => json!({ "prompt": prompt, "metric": "loss" }),
        "attention.heads" => json!({ "length": 6 }),
        "factored_matrix.circuit" => json!({ "layer": 0, "head": 1, "circuit": "ov" }),
        "head_composition.blend" => json!({ "prompt": prompt, "layer": 1, "weights": [0.5, 0.5, 0, 0] }),
        "head_composition.path" => {
            let (sender, receiver) = (json!({ "layer": 0, "head": 1 }), json!({ "layer": 1, "head": 2 }));
            json!({ "prompt": prompt, "sender": sender, "receiver": receiver, "input": "k" })
        }
        "head_composition.scores" | "relations.subspaces" | "residual_decomposition.mlp_basis" => json!({}),
        "head_composition.virtual_head" => {
            json!({ "earlier": { "layer": 0, "head": 1 }, "later": { "layer": 1, "head": 2 }, "input": "q" })
        }
        "relations.tokens" => json!({ "layer": 1, "head": 3 }),
        "relations.typed" => json!({ "relations": [{ "name": "next", "pairs": [[1, 2], [3, 4]] }] }),
        "attention.knockout" => json!({ "prompt": prompt, "metric": { "logit": 3 }, "keys": [1] }),
        "attention.merge" => json!({ "prompt": prompt, "first": [0, 0], "second": [1, 1] }),
        "logit_lens.tuned" => json!({ "prompt": prompt, "file": super::tuned::untrained() }),
        "logit_lens.tuned_train" => json!({
            "corpus": [[9, 3, 17, 40], [5, 8, 2], [7, 1]],
            "file": super::tuned::scratch("input"),
            "steps": 2,
        }),
        "residual.gradient" => json!({ "prompt": prompt, "metric": { "logit": 3 } }),
        "logit_attribution.circulation" => json!({ "prompt": prompt, "tokens": [3, 8] }),
        "logit_attribution.direct" | "logit_attribution.neurons" | "logit_lens.effects" => {
            json!({ "prompt": prompt, "answer": 3 })
        }
        "patching.activation" | "patching.attribution" | "patching.path" => json!({
            "clean": prompt,
            "corrupted": [9, 7, 17, 40],
            "metric": { "logit_difference": { "answer": 3, "wrong": 8 } },
        }),
        "patching.direct_path" => json!({
            "clean": prompt,
            "corrupted": [9, 7, 17, 40],
            "metric": { "logit_difference": { "answer": 3, "wrong": 8 } },
            "sender": { "layer": 0, "head": 1 },
            "input": "q",
        }),
        "causal_tracing.trace" | "causal_tracing.probability" => json!({ "prompt": prompt, "subject": [1, 2] }),
        "causal_tracing.neuron" => json!({ "prompt": prompt, "layer": 1, "neuron": 5, "metric": { "logit": 3 } }),
        "patching.steer" => json!({
            "prompt": prompt, "layer": 1, "metric": { "logit": 3 }, "towards": [5, 6], "away": [5, 7],
        }),
        "feature_viz.interpolate" => json!({ "prompt": prompt, "layer": 1, "from": 3, "to": 4 }),
        "feature_viz.neuron" => json!({ "corpus": corpus, "layer": 1, "neuron": 3 }),
        "feature_viz.top_tokens" => json!({ "corpus": corpus, "feature": { "neuron": { "layer": 1, "neuron": 3 } } }),
        "knowledge.neuron" => json!({
            "feature": { "entry": { "point": point, "index": 2 } },
            "true_texts": corpus,
            "false_texts": [[9, 3, 18], [6, 8, 2]],
        }),
        "knowledge.polysemanticity" => json!({ "texts": corpus, "labels": ["a", "b"] }),
        "knowledge.probe" => json!({
            "texts": [[9, 3], [9, 4], [9, 5], [9, 6]],
            "labels": ["a", "b", "a", "b"],
        }),
        "sparsity.activations" | "sparsity.polysemantic" => json!({ "corpus": corpus }),
        "sparsity.prune" => json!({ "corpus": corpus, "levels": [0.5] }),
        "superposition.concepts" | "superposition.covariance" => json!({ "corpus": corpus, "point": point }),
        "superposition.geometry" => json!({ "weight": "blocks.0.mlp.W_in" }),
        "superposition.interpolate" => json!({ "from": prompt, "to": [9, 7, 17, 41], "point": point }),
        "superposition.reconstruct" => json!({ "corpus": corpus, "point": point, "components": [2] }),
        "surgery.layers" => json!({ "prompt": prompt, "plan": { "order": [0, 1, 1] } }),
        "write_read.flow" => json!({ "prompt": prompt, "source": 1 }),
        "write_read.readers" => json!({ "direction": { "token": 4 } }),
        "write_read.writers" => json!({ "prompt": prompt, "direction": { "token": 4 } }),
        _ => json!({ "prompt": prompt }),
    }
}

#[test]
fn tools_are_registered_with_help() {
    let names: Vec<&str> = tools().iter().map(|tool| tool.name()).collect();
    for name in NAMES.iter().copied() {
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
    for name in NAMES.iter().copied() {
        let entry = tool(name).unwrap();
        let complete = entry.complete(least(name)).unwrap();
        assert_eq!(entry.complete(complete.clone()).unwrap(), complete, "{name}");
        let answer = entry.ask(least(name), &Context::new(&model)).unwrap();
        if least(name)["answer"] == 3 || least(name)["metric"].is_object() {
            let first = answer.parts().next();
            let says = matches!(first, Some(("measured", Part::Text(words))) if words.contains("`[3]` (id 3)"));
            assert!(says, "{name} does not say which token it measures: {first:?}");
        }
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
    for name in NAMES.iter().copied() {
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
    same(&AttentionTop { positions: Some(vec![-1]), ..AttentionTop::new("text") });
    same(&AttentionAblation { kind: AblationKind::Resample, ..AttentionAblation::new("text", Metric::Loss) });
    same(&AttentionKnockout::new("text", Metric::Loss, vec![1]));
    same(&AttentionMerge { blend: 0.25, ..AttentionMerge::new("text", [0, 1], [1, 0]) });
    same(&SurgeryLayers::new("text", LayerPlan::Swap([0, 1])));
    same(&SurgeryLayers::new("text", LayerPlan::Reverse));
    same(&SurgeryEach::new("text"));
    same(&WriteReadFlow { metric: Some(Metric::Loss), ..WriteReadFlow::new("text", 1) });
    let keys = Direction::Head { head: [1, 0], side: HeadInput::K, component: 2 };
    same(&WriteReadWriters::new("text", keys));
    same(&WriteReadReaders::new(Direction::Difference { answer: " a".into(), wrong: 3.into() }));
    same(&AttentionHeads { bos: Some(1.into()), ..AttentionHeads::default() });
    same(&DirectAttribution::new("text", " a", 3));
    let mut full = FullDecomposition::new("text");
    for direction in [
        arrakis_tools::Direction::Vector(vec![0.5, -1.0]),
        arrakis_tools::Direction::Token(" a".into()),
        arrakis_tools::Direction::Difference { answer: 3.into(), wrong: " b".into() },
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
    let towards = arrakis_tools::Direction::Token(" a".into());
    let head = Feature::Head { layer: 1, head: 2, direction: arrakis_tools::Direction::Vector(vec![0.5, -1.0]) };
    same(&TopTokens { skip: 1, ..TopTokens::new(vec!["a text".to_owned()], head) });
    let along = Feature::Direction { point: "hook_embed".into(), direction: towards };
    same(&KnowledgeNeuron { paired: true, ..KnowledgeNeuron::new(along, "a", Prompt::Rows(vec![vec![1]])) });
    same(&Prune { maps: Some(vec![Prunable::Gate]), ..Prune::new(Corpus::File("texts.json".into()), [0.5]) });
    same(&LinearProbe { control: Control::Text, ..LinearProbe::new("a", ["b"]) });
    same(&HeadCircuit { vocab: true, ..HeadCircuit::new(1, 2, Circuit::Qk) });
    same(&CompositionScores { inputs: vec![HeadInput::K], ..CompositionScores::default() });
    let (early, late) = (HeadPlace::new(0, 1), HeadPlace::new(1, 2));
    same(&VirtualHead { tokens: vec![" a".into(), 3.into()], ..VirtualHead::new(early, late, HeadInput::Q) });
    let blend = BlendedHead::new("text", 1, vec![0.5, -1.0]);
    same(&BlendedHead { replace: Some(0), of: BlendOf::Circuits, metric: Some(Metric::Loss), ..blend });
    same(&HeadPath { query: Some(-2), key: Some(0), ..HeadPath::new("text", early, late, HeadInput::V) });
    same(&RelationSubspaces { circuit: Circuit::Ov, layers: Some(vec![1]), ..RelationSubspaces::default() });
    same(&RelationTokens { tokens: vec![3.into()], ..RelationTokens::new(early) });
    same(&TypedRelations::new(vec![TypedRelation::new("capital", [(" France", " Paris")])]));
}

/// Asks with one parameter changed, which must be refused.
fn wrong(model: &Decoder, name: &str, field: &str, value: Value) -> String {
    let mut parameters = least(name);
    parameters[field] = value;
    message(tool(name).unwrap().ask(parameters, &Context::new(model)))
}

#[test]
#[expect(clippy::too_many_lines, reason = "it is a table")]
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
        ("attention.top", "positions", json!([4]), "position 4"),
        ("attention.top", "positions", json!([]), "the list is empty"),
        ("attention.top", "top", json!(0), "top 0"),
        ("attention.ablate", "heads", json!([4]), "head 4"),
        ("attention.ablate", "parts", json!([]), "the list is empty"),
        ("attention.knockout", "keys", json!([]), "the list is empty"),
        ("attention.knockout", "keys", json!([4]), "position 4"),
        ("attention.knockout", "queries", json!([]), "the list is empty"),
        ("attention.knockout", "window", json!(0), "window 0"),
        ("attention.knockout", "layers", json!([2]), "layer 2"),
        ("attention.merge", "first", json!([2, 0]), "layer 2"),
        ("attention.merge", "second", json!([0, 4]), "head 4"),
        ("attention.merge", "blend", json!(1.5), "blend 1.5"),
        ("surgery.layers", "plan", json!({ "order": [2] }), "layer 2"),
        ("surgery.layers", "plan", json!({ "delete": [] }), "it names no layer"),
        ("surgery.layers", "prompt", json!([9]), "at least two tokens"),
        ("surgery.each", "metric", json!({ "logit": 61 }), "token id 61"),
        ("write_read.flow", "source", json!(4), "position 4"),
        ("write_read.writers", "position", json!(4), "position 4"),
        ("write_read.writers", "top", json!(0), "top 0"),
        ("write_read.readers", "direction", json!({ "vector": [1.0] }), "it has 1 numbers where 24 are wanted"),
        ("write_read.readers", "top", json!(0), "top 0"),
        ("attention.heads", "length", json!(1), "length 1"),
        ("attention.heads", "length", json!(61), "length 61"),
        ("attention.heads", "length", json!(62), "length 62: give a number in 2..=61"),
        ("attention.heads", "length", json!(13), "length 13: given twice it has 26 positions"),
        ("attention.heads", "length", json!(13), "give at most 12"),
        ("residual_decomposition.mlp_basis", "expert", json!(0), "expert: the MLPs of this model are no mixtures"),
        ("factored_matrix.circuit", "lags", json!([0, 0]), "lags: values do not lag"),
        ("relations.typed", "lags", json!([0, 1]), "lags: the scores of layer 0 compare a pair's own query and key"),
        ("logit_attribution.direct", "wrong", json!(3), "[3]` (id 3) in row 0 is compared with itself"),
        ("logit_attribution.neurons", "wrong", json!(3), "compared with itself"),
        ("logit_lens.effects", "wrong", json!(3), "compared with itself"),
        (
            "patching.activation",
            "metric",
            json!({ "logit_difference": { "answer": 3, "wrong": 3 } }),
            "compared with itself",
        ),
        (
            "write_read.writers",
            "direction",
            json!({ "difference": { "answer": 3, "wrong": 3 } }),
            "compared with itself",
        ),
        ("attention.heads", "batch", json!(0), "batch 0"),
        ("attention.heads", "bos", json!(61), "token id 61"),
        ("attention.heads", "top", json!(0), "top 0"),
        ("attention.heads", "method", json!("guess"), "`method` is `\"guess\"` where "),
        ("logit_attribution.direct", "answer", json!(-1), "token id -1"),
        ("logit_attribution.direct", "answer", json!([1, 2]), "2 tokens for 1 rows"),
        ("logit_attribution.direct", "position", json!(4), "position 4"),
        ("logit_attribution.direct", "top", json!(0), "top 0"),
        ("factored_matrix.circuit", "layer", json!(2), "layer 2 is out of range: there are 2"),
        ("factored_matrix.circuit", "head", json!(4), "head 4 is out of range: there are 4"),
        ("factored_matrix.circuit", "circuit", json!("qv"), "`circuit` is `\"qv\"`"),
        ("head_composition.blend", "weights", json!([1]), "weights: 1 are given"),
        ("head_composition.blend", "prompt", json!([]), "the prompt is empty"),
        (
            "head_composition.path",
            "receiver",
            json!({ "layer": 0, "head": 1 }),
            "head L0H1: it is not in a layer before",
        ),
        ("head_composition.path", "key", json!(4), "position 4"),
        ("head_composition.scores", "inputs", json!([]), "the list is empty"),
        ("head_composition.scores", "inputs", json!(["z"]), "`inputs.0` is `\"z\"`"),
        ("head_composition.virtual_head", "later", json!({ "layer": 1 }), "`later` lacks `head`"),
        ("head_composition.virtual_head", "tokens", json!([61]), "token id 61"),
        ("relations.subspaces", "top", json!(7), "top 7: give a number in 1..=6"),
        ("relations.subspaces", "heads", json!([]), "the list is empty"),
        ("relations.tokens", "directions", json!(0), "directions 0"),
        ("relations.tokens", "tokens", json!([-1]), "token id -1"),
        ("relations.typed", "relations", json!([]), "relations: the list is empty"),
        ("patching.activation", "corrupted", json!([9, 7, 17]), "4 and 3 tokens in row 0"),
        ("patching.activation", "corrupted", json!([[9, 7, 17, 1], [9, 7, 17, 1]]), "1 and 2 rows"),
        ("patching.activation", "layers", json!([5]), "layer 5"),
        ("patching.activation", "kinds", json!([]), "the list is empty"),
        ("patching.activation", "kinds", json!(["queries"]), "`kinds.0` is `\"queries\"`"),
        ("feature_viz.interpolate", "to", json!(96), "neuron 96 is out of range: there are 96"),
        ("feature_viz.interpolate", "layer", json!(2), "layer 2"),
        ("feature_viz.interpolate", "top", json!(62), "top 62"),
        ("feature_viz.neuron", "corpus", json!([]), "it holds no document"),
        ("feature_viz.neuron", "neuron", json!(96), "neuron 96"),
        ("feature_viz.neuron", "window", json!(25), "window of 25 tokens: give a number in 1..=24"),
        ("feature_viz.top_tokens", "top", json!(0), "top 0"),
        ("feature_viz.top_tokens", "corpus", json!([[1], []]), "document 1 of the corpus: it is empty"),
        ("feature_viz.top_tokens", "corpus", json!([[61]]), "token id 61"),
        ("feature_viz.top_tokens", "corpus", json!("nowhere.json"), "corpus `nowhere.json`"),
        ("feature_viz.top_tokens", "feature", json!({ "neuron": { "layer": 1 } }), "`feature.neuron` lacks `neuron`"),
        ("knowledge.neuron", "true_texts", json!([]), "the prompt is empty"),
        ("knowledge.neuron", "true_texts", json!([[9, 3]]), "true_texts: there is 1"),
        ("knowledge.neuron", "position", json!(3), "position 3"),
        ("knowledge.neuron", "resamples", json!(0), "resamples 0"),
        ("knowledge.polysemanticity", "labels", json!(["a"]), "1 labels for 2 texts"),
        ("knowledge.polysemanticity", "labels", json!(["a", "a"]), "every text is `a`"),
        ("knowledge.polysemanticity", "position", json!(-5), "position -5"),
        ("knowledge.polysemanticity", "layers", json!([2]), "layer 2"),
        ("knowledge.probe", "texts", json!([[9, 3], [9, 4], [9, 5], [9, 66]]), "token id 66"),
        ("knowledge.probe", "points", json!("blocks.*.attn.hook_pattern"), "no vector for each token"),
        ("knowledge.probe", "penalty", json!(-1), "penalty -1"),
        ("knowledge.probe", "controls", json!(0), "controls 0"),
        ("sparsity.activations", "points", json!("hook_tokens"), "no vector for each token"),
        ("sparsity.activations", "corpus", json!([]), "it holds no document"),
        ("sparsity.polysemantic", "layers", json!([]), "the list is empty"),
        ("sparsity.polysemantic", "top", json!(0), "top 0"),
        ("sparsity.prune", "levels", json!([-0.1]), "level -0.1"),
        ("sparsity.prune", "methods", json!([]), "methods: the list is empty"),
        ("sparsity.prune", "layers", json!([2]), "layer 2"),
        ("superposition.concepts", "components", json!(25), "components 25"),
        ("superposition.concepts", "top", json!(9), "top 9: give a number in 1..=8"),
        ("superposition.covariance", "window", json!(0), "window of 0 tokens"),
        ("superposition.covariance", "point", json!("hook_embd"), "`hook_embed`"),
        ("superposition.geometry", "weight", json!("blocks.0.mlp.W_inn"), "`blocks.0.mlp.W_in`"),
        ("superposition.geometry", "weight", json!("ln_final.w"), "where a matrix is wanted"),
        ("superposition.geometry", "head", json!(0), "it has no heads"),
        ("superposition.geometry", "top", json!(0), "top 0"),
        ("superposition.interpolate", "to", json!([9, 7]), "4 and 2 tokens in row 0"),
        ("superposition.interpolate", "to", json!([[9], [7]]), "1 and 2 rows"),
        ("superposition.interpolate", "steps", json!(1), "steps 1"),
        ("superposition.interpolate", "position", json!(4), "position 4"),
        ("superposition.interpolate", "targets", json!([61]), "token id 61"),
        ("superposition.reconstruct", "components", json!([]), "components: the list is empty"),
        ("superposition.reconstruct", "components", json!([25]), "components 25: there are 24"),
        ("superposition.reconstruct", "test", json!([[1]]), "every window has a single token"),
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
    for name in NAMES.iter().copied().filter(|name| *name != "logit_attribution.direct") {
        let why = message(tool(name).unwrap().ask(least(name), &Context::new(&model).with_host(&Cancelling)));
        assert_eq!(why, "cancelled", "{name}");
    }
}

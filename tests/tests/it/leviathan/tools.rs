//! Every tool on every form of Leviathan: its identities hold, or it says why it does not answer.

use arrakis_core::{Answer, Context, Model as _, ModelExt as _, Prompt, Scores, Site, Tokens, Tool as _, Weight, tool};
use arrakis_leviathan::{Config, FeedForward, Lags, Leviathan, Mixer};
use arrakis_tools::{AttentionMerge, AttentionPatterns, BlendedHead, Circuit, HeadPlace};
use serde_json::{Value, json};
use tch::{Kind, Tensor};

use super::{config, correlation, model};
use crate::laws::assert_close;
use crate::tools::input::least;

/// A model of the sizes that the least parameters of tools are made for.
fn sized(mixer: Mixer, feed_forward: FeedForward) -> Leviathan {
    let config = Config { n_heads: 4, d_model: 24, d_mlp: 32, vocab: 61, context: 24, feed_forward, ..config(mixer) };
    model(&config, 7, Kind::Double)
}

const INVOLUTION: Mixer = Mixer::Involution { kernel: 3 };
const MIXTURE: FeedForward = FeedForward::Mixture { experts: 3, top_k: 2 };

fn lagged() -> [Mixer; 3] {
    [correlation(3, Lags::Separable), correlation(3, Lags::LowRank(2)), correlation(3, Lags::Diagonal)]
}

/// Every tool with its least parameters, and those that ask of queries, keys and values where the least do not.
fn questions() -> Vec<(&'static str, Value)> {
    let own = arrakis_core::tools().into_iter().filter(|tool| tool.owner().starts_with("arrakis-tools "));
    let mut questions: Vec<(&str, Value)> = own.map(|tool| (tool.name(), least(tool.name()))).collect();
    let with = |name: &'static str, field: &str, value: Value| {
        let mut parameters = least(name);
        parameters[field] = value;
        (name, parameters)
    };
    let head = |side: &str| json!({ "head": { "head": [1, 2], "side": side } });
    questions.extend([
        with("factored_matrix.circuit", "circuit", json!("qk")),
        with("factored_matrix.circuit", "vocab", json!(true)),
        with("head_composition.scores", "inputs", json!(["v"])),
        with("head_composition.blend", "of", json!("circuits")),
        with("head_composition.path", "input", json!("q")),
        with("head_composition.path", "input", json!("v")),
        with("head_composition.virtual_head", "input", json!("v")),
        with("relations.typed", "circuit", json!("ov")),
        with("relations.tokens", "circuit", json!("ov")),
        with("relations.subspaces", "circuit", json!("ov")),
        with("residual_decomposition.mlp_basis", "expert", json!(1)),
        with("write_read.readers", "prompt", json!([9, 3, 17])),
        with("write_read.writers", "direction", head("k")),
        with("write_read.writers", "direction", head("v")),
        with("write_read.flow", "metric", json!({ "logit": 3 })),
        with("patching.direct_path", "input", json!("v")),
    ]);
    questions
}

/// What an answer says of its own identities, by the names of the parts.
fn gaps(answer: &Answer) -> Vec<(String, f64)> {
    let (json, _) = answer.split().unwrap();
    let parts = json.as_object().unwrap().iter().filter(|(part, _)| part.ends_with("gap"));
    parts.map(|(part, gap)| (part.clone(), gap["number"].as_f64().unwrap_or(f64::NAN))).collect()
}

/// Asks every question; an answer proves itself, and an error has the words expected of that question.
fn proven(model: &Leviathan, refusal: impl Fn(&str, &Value) -> Option<&'static str>) {
    let kind = format!("{} {}", model.config().mixer, model.config().feed_forward);
    // Tests run beside each other, and a lens is of one model.
    let lens = format!("{}/tuned-{}.safetensors", env!("CARGO_TARGET_TMPDIR"), kind.replace([' ', ':'], "-"));
    let mut questions = questions();
    questions.sort_by_key(|(name, _)| *name != "logit_lens.tuned_train");
    for (name, mut parameters) in questions {
        if name.starts_with("logit_lens.tuned") {
            parameters["file"] = json!(lens);
        }
        let asked = tool(name).unwrap().ask(parameters.clone(), &Context::new(model));
        match (asked, refusal(name, &parameters)) {
            (Ok(answer), None) => {
                let gaps = gaps(&answer);
                let small = !gaps.is_empty() && gaps.iter().all(|(_, gap)| *gap <= 1e-9);
                assert!(small, "{name} {parameters} on {kind}: {gaps:?}");
            }
            (Err(error), Some(why)) => {
                let error = error.to_string();
                assert!(error.contains(why), "{name} {parameters} on {kind} says `{error}`, not `{why}`");
            }
            (Ok(_), Some(why)) => panic!("{name} {parameters} on {kind} answers where `{why}`"),
            (Err(error), None) => panic!("{name} {parameters} on {kind}: {error}"),
        }
    }
}

/// Whether a question is one of a QK circuit.
fn of_circuit(name: &str, parameters: &Value) -> bool {
    match name {
        "factored_matrix.circuit" => parameters["circuit"] == "qk",
        "head_composition.virtual_head" => parameters["input"] != "v",
        "relations.typed" | "relations.tokens" | "relations.subspaces" => parameters["circuit"] != "ov",
        _ => false,
    }
}

fn of_path(name: &str, parameters: &Value) -> bool {
    name == "head_composition.path" && parameters["input"] != "v"
}

fn of_expert(name: &str, parameters: &Value, mixture: bool) -> Option<&'static str> {
    let basis = name == "residual_decomposition.mlp_basis" && mixture == parameters["expert"].is_null();
    basis.then_some(if mixture { "each position uses some of 3 experts" } else { "no mixtures" })
}

#[test]
fn tools_prove_themselves_where_queries_and_keys_lag() {
    let mixers = lagged().map(|mixer| (mixer, FeedForward::Dense));
    let mixture = (correlation(3, Lags::Separable), MIXTURE);
    for (mixer, feed_forward) in mixers.into_iter().chain([mixture]) {
        proven(&sized(mixer, feed_forward), |name, parameters| match name {
            _ if of_circuit(name, parameters) => Some("lags: wanted where heads compare"),
            _ if of_path(name, parameters) => Some("ask for the input `v`"),
            _ => of_expert(name, parameters, feed_forward == MIXTURE),
        });
    }
}

#[test]
fn tools_prove_themselves_on_attention_with_experts() {
    proven(&sized(Mixer::Attention, MIXTURE), |name, parameters| of_expert(name, parameters, true));
}

#[test]
fn tools_prove_themselves_on_kernels_or_say_that_there_are_no_scores() {
    proven(&sized(INVOLUTION, FeedForward::Dense), |name, parameters| match name {
        "attention.heads" | "attention.top" | "attention.knockout" | "write_read.flow" => Some("made without scores"),
        "head_composition.scores" if parameters["inputs"] != json!(["v"]) => Some("it has no scores"),
        "write_read.readers" => Some("it has no scores"),
        "write_read.writers" if parameters["direction"]["head"]["side"] == "k" => Some("it has no scores"),
        "patching.direct_path" => Some("_input` matches no hook point"),
        _ if of_circuit(name, parameters) || of_path(name, parameters) => Some("it has no scores"),
        _ => of_expert(name, parameters, false),
    });
    let model = sized(INVOLUTION, FeedForward::Dense);
    for (name, parameters) in
        [("contrib.head_entropy", json!({ "prompt": [9, 3, 17] })), ("contrib.prefix_copying", json!({ "length": 5 }))]
    {
        let why = tool(name).unwrap().ask(parameters, &Context::new(&model)).unwrap_err().to_string();
        assert!(why.contains("made without scores"), "{name}: {why}");
    }
}

#[test]
fn the_published_score_has_no_circuits() {
    let model = sized(Mixer::Original, FeedForward::Dense);
    assert!(matches!(model.scores(1), Scores::Others(point) if point.to_string() == "blocks.1.attn.hook_correlation"));
    for (name, parameters) in
        questions().into_iter().filter(|(name, asked)| of_circuit(name, asked) || of_path(name, asked))
    {
        let why = tool(name).unwrap().ask(parameters, &Context::new(&model)).unwrap_err().to_string();
        assert!(why.contains("hook_correlation"), "{name}: {why}");
    }
}

#[test]
fn circuits_at_every_pair_of_lags_prove_themselves() {
    for mixer in lagged() {
        let model = sized(mixer, FeedForward::Dense);
        for (name, mut parameters) in questions().into_iter().filter(|(name, asked)| of_circuit(name, asked)) {
            parameters["lags"] = json!([1, 1]);
            let answer = tool(name).unwrap().ask(parameters.clone(), &Context::new(&model)).unwrap();
            assert!(gaps(&answer).iter().all(|(_, gap)| *gap <= 1e-9), "{name}: {:?}", gaps(&answer));
            parameters["lags"] = json!([0, 3]);
            let why = tool(name).unwrap().ask(parameters, &Context::new(&model)).unwrap_err().to_string();
            assert!(why.contains("lag 3 is out of range: there are 3"), "{name}: {why}");
        }
    }
    let single = sized(correlation(1, Lags::Separable), FeedForward::Dense);
    let norm =
        |lags| Circuit::Qk.of_head(&single, HeadPlace::new(1, 2), lags).unwrap().norm().unwrap().double_value(&[]);
    assert!((norm(None) - norm(Some([0, 0]))).abs() < 1e-15, "one lag leaves no choice");
    let plain = sized(Mixer::Attention, FeedForward::Dense);
    let asked = |lags: Value, circuit: &str| {
        let parameters = json!({ "layer": 0, "head": 1, "circuit": circuit, "lags": lags });
        tool("factored_matrix.circuit")
            .unwrap()
            .ask(parameters, &Context::new(&plain))
            .map_err(|error| error.to_string())
    };
    assert!(asked(json!([0, 0]), "qk").is_ok());
    assert!(asked(json!([0, 1]), "qk").unwrap_err().contains("leave them out"));
    assert!(asked(json!([0, 0]), "ov").unwrap_err().contains("values do not lag"));
}

/// Rows of `x` (`[pos, d_model]`) moved on by so many positions, with zeros before them.
fn moved(x: &Tensor, by: i64) -> Tensor {
    x.constant_pad_nd([0, 0, by, 0]).narrow(0, 0, x.size()[0])
}

#[test]
fn the_circuits_of_all_lags_make_the_scores() {
    for mixer in lagged() {
        let model = sized(mixer, FeedForward::Dense);
        let biases = [Weight::Q_B.at(1), Weight::K_B.at(1)];
        let without = biases.map(|bias| (bias, model.weight(bias).unwrap().zeros_like()));
        let model = model.with_weights(without.into()).unwrap();
        let tokens = Tokens::from_ids(&[9, 3, 17, 40, 5, 22]).unwrap();
        let [read, scores] = [Site::LN1_NORMALIZED.at(1), Site::ATTN_SCORES.at(1)];
        let run = model.trace(&tokens).keep(read).keep(scores).run().unwrap();
        let read = run.cache[read].get(0) * model.weight(Weight::LN1_W.at(1)).unwrap()
            + model.weight(Weight::LN1_B.at(1)).unwrap();
        for head in 0..4 {
            let mut sum = Tensor::zeros([6, 6], (Kind::Double, tch::Device::Cpu));
            for (query, key) in (0..3).flat_map(|query| (0..3).map(move |key| (query, key))) {
                match Circuit::Qk.of_head(&*model, HeadPlace::new(1, head), Some([query, key])) {
                    Ok(circuit) => {
                        let (queries, keys) = (moved(&read, query as i64), moved(&read, key as i64));
                        sum += queries.matmul(&circuit.dense().unwrap()).matmul(&keys.tr());
                    }
                    Err(error) => assert!(query != key && error.to_string().contains("no head of layer 1"), "{error}"),
                }
            }
            let found = run.cache[scores].get(0).get(head as i64).tril(0).nan_to_num(0.0, 0.0, 0.0);
            assert_close(&(sum / 6_f64.sqrt()).tril(0), &found, 1e-12, format!("{mixer} head {head}"));
        }
    }
}

#[test]
fn a_head_merged_away_is_the_other_in_its_place() {
    let prompt = || Prompt::Ids(vec![9, 3, 17, 40, 5, 22]);
    let metric = || arrakis_core::Metric::Logit(3.into());
    for mixer in lagged().into_iter().chain([INVOLUTION, Mixer::Attention]) {
        let model = sized(mixer, FeedForward::Dense);
        let cx = Context::new(&model);
        let merge = AttentionMerge { blend: 1.0, metric: metric(), ..AttentionMerge::new(prompt(), [1, 0], [1, 1]) };
        let merged = merge.run(&cx).unwrap();
        let blend = BlendedHead {
            replace: Some(1),
            metric: Some(metric()),
            ..BlendedHead::new(prompt(), 1, vec![1.0, 0.0, 0.0, 0.0])
        };
        let blended = blend.run(&cx).unwrap();
        assert!((merged.after - blended.after.unwrap()).abs() < 1e-12, "{mixer}");
        assert!((merged.after - merged.before).abs() > 1e-6, "{mixer}");
        let names: Vec<&str> = merged.similarity.entries.iter().map(|entry| entry.label.as_str()).collect();
        match mixer {
            Mixer::Attention => assert_eq!(names, ["W_Q", "W_K", "W_V", "W_O"]),
            Mixer::Involution { .. } => assert_eq!(names, ["W_V", "W_O", "W_kernel", "b_kernel"]),
            _ => assert!(names[4].starts_with("lag") && merged.merged.contains(names[4]), "{}", merged.merged),
        }
    }
}

#[test]
fn patterns_of_kernels_are_their_weights() {
    let model = sized(INVOLUTION, FeedForward::Dense);
    let asked = AttentionPatterns { heads: Some(vec![2]), ..AttentionPatterns::new(Prompt::Ids(vec![9, 3, 17, 40])) };
    let row = asked.run(&Context::new(&model)).unwrap().rows.remove(0);
    assert!(row.row_gap < 1e-12, "{}", row.row_gap);
    let sums = row.patterns.values.sum_dim_intlist(-1, false, Kind::Double) - 1.0;
    assert!(sums.abs().max().double_value(&[]) > 1e-3, "kernels sum to anything");
}

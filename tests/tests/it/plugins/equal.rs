//! Loaded tools answer as linked ones do, to the bit, and every tensor that crosses comes to rest.

use std::cell::{Cell, RefCell};

use arrakis_bench::Plugin;
use arrakis_core::plugin::Handles;
use arrakis_core::{
    Answer, Context, Error, Host, Model, ModelExt, Part, Site, Tokens, Tool, ToolEntry, edit, tool, tools,
};
use arrakis_leviathan::{Config, FeedForward, Lags, Mixer};
use serde_json::json;
use tch::Kind;
use unruly_plugin::Everything;

use super::compiled::Compiled;
use super::{assert_at_rest, assert_same, loaded, opened};
use crate::fixtures::{root, say, shared};
use crate::tools::input::least;
use crate::{families, leviathan};

/// What a host heard of a running tool.
#[derive(Default)]
struct Heard {
    words: RefCell<Vec<String>>,
    /// The step at which the work is to stop.
    stop: Option<u64>,
    stopped: Cell<bool>,
}

impl Host for Heard {
    fn progress(&self, done: u64, total: u64) {
        self.words.borrow_mut().push(format!("{done} of {total}"));
        self.stopped.set(self.stop == Some(done));
    }

    fn log(&self, line: &str) {
        self.words.borrow_mut().push(line.to_owned());
    }

    fn stream(&self, name: &str) {
        self.words.borrow_mut().push(format!("stream {name}"));
    }

    fn cancelled(&self) -> bool {
        self.stopped.get()
    }
}

/// Asserts that `unruly.everything` answers the same linked and loaded, and gives the answer.
fn everything_crosses(model: &dyn Model, what: &str) -> Answer {
    let plugin = opened("unruly-plugin");
    let entry = loaded("unruly-plugin", "unruly.everything");
    let parameters = json!({ "prompt": [[3, 4, 5, 6], [7, 8, 9, 10]] });
    let before = (Handles::here(), plugin.handles().unwrap());
    let (heard, heard_loaded) = (Heard::default(), Heard::default());
    let cx = Context::new(model).with_seed(11).with_memory_limit(1 << 30);
    let linked: Everything = serde_json::from_value(parameters.clone()).unwrap();
    let linked = linked.run(&cx.with_host(&heard)).unwrap();
    let loaded = entry.ask(parameters, &cx.with_host(&heard_loaded)).unwrap();
    assert_same(&linked, &loaded, what);
    let words = heard.words.take();
    assert!(words.iter().any(|word| word == "stream noise"), "{words:?}");
    assert_eq!(words, heard_loaded.words.take());
    assert_at_rest(before.0, before.1, plugin);
    loaded
}

#[test]
fn everything_that_a_tool_can_do_crosses() {
    for family in ["gpt2", "llama", "gemma"] {
        for kind in [Kind::Double, Kind::Float, Kind::BFloat16] {
            everything_crosses(&families::loaded(&root().join("tests/golden").join(family), kind), family);
        }
    }
}

#[test]
fn sites_with_axes_of_their_own_cross_under_their_names() {
    let mixture = FeedForward::Mixture { experts: 3, top_k: 2 };
    let configs = [
        (leviathan::config(leviathan::correlation(3, Lags::Diagonal)), "blocks.1.attn.hook_lag", "lag", 3),
        (leviathan::config(Mixer::Involution { kernel: 5 }), "blocks.0.attn.hook_kernel", "kernel", 5),
        (
            Config { feed_forward: mixture, ..leviathan::config(Mixer::Attention) },
            "blocks.1.mlp.hook_router",
            "expert",
            3,
        ),
    ];
    for (config, point, axis, len) in configs {
        let model = leviathan::model(&config, 3, Kind::Double);
        let answer = everything_crosses(&model, point);
        let Some(Part::Stack(own)) = answer.get(point) else { panic!("{answer:?}") };
        let last = own.axes.last().unwrap();
        assert_eq!((last.name.as_str(), last.len()), (axis, len), "{point}");
        let point = *model.points().iter().find(|known| known.to_string() == point).unwrap();
        let tokens = Tokens::from_rows(&[vec![3, 4, 5, 6], vec![7, 8, 9, 10]]).unwrap();
        let here = model.trace(&tokens).keep(point).run().unwrap();
        assert_eq!(here.cache[point], own.values, "{point}");
        let Some(Part::Text(words)) = answer.get("words") else { panic!("{answer:?}") };
        let axes = format!("{:?}", point.site.axes());
        assert!(words.contains(&format!("{point}{axes}")), "{words}");
        assert!(words.contains(&format!("others: {:?}", model.dims().others)), "{words}");
        assert_eq!(words.contains("lags [2, 2, 3, 3]"), axis == "lag", "{words}");
    }
}

#[test]
fn texts_cross() {
    let Some(shared) = shared() else {
        say("skipped: a model with a tokenizer is among the shared fixtures");
        return;
    };
    let model = families::loaded(&shared.join("models/stories260K"), Kind::Float);
    let entry = loaded("unruly-plugin", "unruly.everything");
    let parameters = json!({ "prompt": "Once upon a time, ünïcode", "text": "a little girl 🙂" });
    let linked: Everything = serde_json::from_value(parameters.clone()).unwrap();
    let cx = Context::new(&model);
    assert_same(&linked.run(&cx).unwrap(), &entry.ask(parameters, &cx).unwrap(), "texts");
}

#[test]
fn a_cancelled_tool_stops_and_says_so() {
    let model = families::loaded(&root().join("tests/golden/llama"), Kind::Double);
    let entry = loaded("unruly-plugin", "unruly.everything");
    for stop in [1, 2] {
        let host = Heard { stop: Some(stop), ..Heard::default() };
        let error = entry.ask(json!({ "prompt": [3, 4, 5] }), &Context::new(&model).with_host(&host)).unwrap_err();
        assert!(matches!(error, Error::Cancelled), "{error:?}");
    }
}

#[test]
fn a_host_that_panics_while_it_listens_is_an_error_with_its_words() {
    struct Deaf;
    impl Host for Deaf {
        fn log(&self, _: &str) {
            panic!("the host would not hear");
        }
    }
    let model = families::loaded(&root().join("tests/golden/llama"), Kind::Double);
    let entry = loaded("unruly-plugin", "unruly.everything");
    let error = entry.ask(json!({ "prompt": [3, 4, 5] }), &Context::new(&model).with_host(&Deaf)).unwrap_err();
    assert!(error.to_string().contains("the host would not hear"), "{error}");
}

#[test]
fn an_answer_may_be_large() {
    let model = families::loaded(&root().join("tests/golden/llama"), Kind::Double);
    let entry = loaded("unruly-plugin", "unruly.everything");
    let parameters = json!({ "prompt": [3, 4, 5], "numbers": 100_000 });
    let linked: Everything = serde_json::from_value(parameters.clone()).unwrap();
    let cx = Context::new(&model);
    assert_same(&linked.run(&cx).unwrap(), &entry.ask(parameters, &cx).unwrap(), "large");
}

#[test]
fn threads_ask_at_the_same_time() {
    let entry = loaded("unruly-plugin", "unruly.everything");
    let parameters = json!({ "prompt": [3, 4, 5] });
    let ask = || {
        let model = families::loaded(&root().join("tests/golden/llama"), Kind::Double);
        let before = (Handles::here(), opened("unruly-plugin").handles().unwrap());
        let answers: Vec<String> = (0..10)
            .map(|_| entry.ask(parameters.clone(), &Context::new(&model)).unwrap().split().unwrap().0.to_string())
            .collect();
        assert_at_rest(before.0, before.1, opened("unruly-plugin"));
        answers
    };
    let answers: Vec<Vec<String>> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..3).map(|_| scope.spawn(ask)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(answers.concat().iter().all(|answer| *answer == answers[0][0]));
}

#[test]
fn a_plan_crosses() {
    let model = families::loaded(&root().join("tests/golden/gpt2"), Kind::Double);
    let (linked, loaded) = (tool("patching.path").unwrap(), loaded("builtin-plugin", "patching.path"));
    let cx = Context::new(&model).with_dry_run();
    let plans = [linked, &loaded].map(|tool| match tool.ask(least("patching.path"), &cx) {
        Err(Error::Planned(plan)) => plan,
        other => panic!("{other:?}"),
    });
    assert_eq!(plans[0], plans[1]);
}

#[test]
fn every_built_in_tool_answers_the_same_as_a_plugin() {
    let model = families::loaded(&root().join("tests/golden/gpt2"), Kind::Double);
    let plugin = opened("builtin-plugin");
    let own = tools().into_iter().filter(|tool| tool.owner().starts_with("arrakis-tools ")).collect::<Vec<_>>();
    let names = |tools: &mut dyn Iterator<Item = &str>| tools.map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(names(&mut own.iter().map(|tool| tool.name())), names(&mut plugin.tools().iter().map(ToolEntry::name)),);
    let before = (Handles::here(), plugin.handles().unwrap());
    for linked in own {
        let name = linked.name();
        let loaded = loaded("builtin-plugin", name);
        assert_eq!(linked.schema(), loaded.schema(), "{name}");
        let (parameters, cx) = (least(name), Context::new(&model).with_seed(3));
        assert_eq!(
            linked.complete(parameters.clone()).unwrap(),
            loaded.complete(parameters.clone()).unwrap(),
            "{name}"
        );
        let answers = [linked.ask(parameters.clone(), &cx).unwrap(), loaded.ask(parameters, &cx).unwrap()];
        assert_same(&answers[0], &answers[1], name);
        // What a tool refuses it refuses in the same words.
        let wrong = json!({ "promt": "a" });
        let refusals = [linked, &loaded].map(|tool| tool.ask(wrong.clone(), &cx).unwrap_err().to_string());
        assert_eq!(refusals[0], refusals[1], "{name}");
    }
    assert_at_rest(before.0, before.1, plugin);
}

#[test]
fn a_plugin_in_plain_c_reads_edits_and_answers() {
    let Some(folder) = Compiled::new() else { return };
    let plugin = Plugin::open(folder.residual_norms()).unwrap();
    let entry = plugin.tools()[0];
    for kind in [Kind::Double, Kind::Float] {
        let model = families::loaded(&root().join("tests/golden/llama"), kind);
        let cx = Context::new(&model);
        let tokens = Tokens::from_ids(&[3, 4, 5, 6]).unwrap();
        let untouched = model.trace(&tokens).run().unwrap().logits.unwrap();
        let before = Handles::here();
        let parameters = entry.complete(json!({ "prompt": [3, 4, 5, 6], "layer": 0 })).unwrap();
        assert_eq!(parameters["factor"], 2.0);
        let answer = entry.ask(parameters, &cx).unwrap();
        let after = Handles::here();
        assert_eq!(after.given - before.given, after.taken - before.taken, "handles made and freed");
        let Some(Part::Series(norms)) = answer.get("norms") else { panic!("{answer:?}") };
        assert_eq!(model.trace(&tokens).run().unwrap().logits.unwrap(), untouched, "the edit ended with its run");
        for line in &norms.lines {
            let factor = if line.name == "scaled" { 2.0 } else { 1.0 };
            let trace = model.trace(&tokens).edit(Site::RESID_POST.at(0), edit::scale(factor)).keep(Site::RESID_POST);
            let run = trace.run().unwrap();
            for (layer, norm) in line.values.iter().enumerate() {
                let stream = &run.cache[Site::RESID_POST.at(layer)];
                let expected = stream.to_kind(Kind::Double).norm_scalaropt_dim(2.0, [-1_i64], false).mean(Kind::Double);
                let apart = (norm - expected.double_value(&[])).abs();
                assert!(apart < if kind == Kind::Double { 1e-12 } else { 1e-5 }, "{apart:e}");
            }
        }
        let why = |parameters| entry.ask(parameters, &cx).unwrap_err().to_string();
        assert!(why(json!({ "prompt": "text", "layer": 0 })).contains("a list of token ids"));
        assert!(why(json!({ "prompt": [3], "layer": 9, "factor": 1.0 })).contains("out of range"));
        assert!(why(json!({ "prompt": [3_000_000], "layer": 0, "factor": 1.0 })).contains("not in the vocabulary"));
        let half = families::loaded(&root().join("tests/golden/llama"), Kind::BFloat16);
        let parameters = json!({ "prompt": [3, 4], "layer": 0, "factor": 1.0 });
        let before = Handles::here();
        let error = entry.ask(parameters, &Context::new(&half)).unwrap_err();
        assert!(error.to_string().contains("float32 or float64"), "{error}");
        let after = Handles::here();
        assert_eq!(after.given - before.given, after.taken - before.taken, "handles made and freed");
    }
}

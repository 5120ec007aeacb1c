//! The `arrakis` command, run in this process: what it prints, what it writes, how it ends.

mod bad_input;
mod leviathan;
mod profile;
mod show;

use std::fs;
use std::path::{Path, PathBuf};

use arrakis_bench::{Log, Status, read_tensors};
use serde_json::{Value, json};
use tch::Kind;

use crate::fixtures::{root, shared};

/// What the command left: its exit status and what it wrote.
struct Ended {
    status: u8,
    out: String,
    err: String,
}

/// Runs the command with a log of its own.
fn arrakis(log: &Path, args: &[&str]) -> Ended {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let log = log.to_str().unwrap();
    let args = ["arrakis"].iter().chain(args).copied().chain(["--log", log]);
    let status = arrakis::command::run(args, &mut out, &mut err);
    Ended { status, out: String::from_utf8(out).unwrap(), err: String::from_utf8(err).unwrap() }
}

/// What the command prints where it succeeds.
fn printed(args: &[&str]) -> String {
    let log = tempfile::tempdir().unwrap();
    let ended = arrakis(log.path(), args);
    assert_eq!(ended.status, 0, "{}", ended.err);
    ended.out
}

fn json_printed(args: &[&str]) -> Value {
    serde_json::from_str(&printed(args)).unwrap()
}

fn golden(name: &str) -> String {
    root().join("tests/golden").join(name).to_str().unwrap().to_owned()
}

fn stories() -> Option<String> {
    Some(shared()?.join("models/stories260K").to_str().unwrap().to_owned())
}

fn files(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn help_is_a_result_and_nonsense_a_usage_error() {
    let nowhere = PathBuf::from("nowhere");
    let ended = arrakis(&nowhere, &["--help"]);
    assert_eq!((ended.status, ended.err.as_str()), (0, ""));
    for verb in [
        "model",
        "tools",
        "ask",
        "cache",
        "generate",
        "patch",
        "profile",
        "plugin",
        "parity",
        "run",
        "rerun",
        "sweep",
        "leviathan",
        "log",
        "plot",
        "report",
        "serve",
        "demo",
    ] {
        assert!(ended.out.contains(&format!("\n  {verb}  ")), "{verb}");
        assert_eq!(arrakis(&nowhere, &[verb, "--help"]).status, 0, "{verb}");
    }
    for args in [&["ask"] as &[&str], &["fly"], &["model", "m", "--dtype", "float8"], &["model", "m", "--threads", "0"]]
    {
        let ended = arrakis(&nowhere, args);
        assert_eq!((ended.status, ended.out.as_str()), (2, ""), "{args:?}");
        assert!(ended.err.starts_with("error: "), "{}", ended.err);
    }
    let ended = arrakis::command::run(["arrakis"], &mut Vec::new(), &mut Vec::new());
    assert_eq!(ended, 2);
}

#[test]
fn a_model_says_what_it_is() {
    let text = printed(&["model", &golden("llama")]);
    let (text, digest) = text.trim_end().rsplit_once("digest").unwrap();
    assert_eq!(digest.trim().len(), 64);
    insta::assert_snapshot!(text);
    let json = json_printed(&["model", &golden("gpt2"), "--json", "--points", "--dtype", "float64"]);
    assert_eq!(json["architecture"]["dims"]["family"], "gpt2");
    assert_eq!(
        (&json["dtype"], &json["device"], &json["tokenizer"]),
        (&json!("float64"), &json!("cpu"), &json!(false))
    );
    assert_eq!(json["bytes"].as_u64(), json["parameters"].as_u64().map(|count| 8 * count));
    assert_eq!(json["points"].as_array().unwrap().len() as u64, json["hook_points"].as_u64().unwrap());
    assert!(printed(&["model", &golden("gpt2"), "--points"]).contains("\nblocks.1.attn.hook_pattern\n"));
}

#[test]
fn a_model_says_what_a_run_would_cost() {
    let text = printed(&["model", &golden("llama"), "--keep", "blocks.*.hook_resid_post", "--tokens", "1,2,3;4,5,6"]);
    let (_, plan) = text.split_once("\n\n").unwrap();
    insta::assert_snapshot!(plan, @r"
    a run over 2 x 3 tokens would hold
                 576 bytes  blocks.0.hook_resid_post [2, 3, 24]
                 576 bytes  blocks.1.hook_resid_post [2, 3, 24]
               1,464 bytes  logits
               2,616 bytes  in all, beside the weights
    ");
    let asked = ["model", &golden("llama"), "--keep", "*", "--tokens", "1,2", "--json", "--dtype", "bfloat16"];
    let plan = &json_printed(&asked)["plan"];
    let kept: u64 = plan["kept"].as_array().unwrap().iter().map(|value| value["bytes"].as_u64().unwrap()).sum();
    assert_eq!(plan["bytes"].as_u64().unwrap(), kept + plan["logits_bytes"].as_u64().unwrap());
    assert!(json_printed(&["model", &golden("llama"), "--json"]).get("plan").is_none());
    let sizes = json_printed(&["model", &golden("gemma"), "--json", "--dtype", "bfloat16"]);
    let by_dtype = sizes["bytes_by_dtype"].as_object().unwrap();
    assert_eq!(sizes["bytes"].as_u64(), Some(by_dtype.values().map(|bytes| bytes.as_u64().unwrap()).sum()));
    assert!(by_dtype.contains_key("bfloat16") && by_dtype.contains_key("float32"), "{by_dtype:?}");
}

#[test]
fn a_run_that_would_hold_too_much_is_refused_with_the_number() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("acts.safetensors");
    let cache = |most: &str| {
        let (model, out) = (golden("llama"), out.to_str().unwrap());
        let args = ["--tokens", "1,2,3", "--keep", "*hook_resid_post", "--max-memory", most, "--out", out];
        arrakis(folder.path(), &[&["cache", "--model", &model], &args[..]].concat())
    };
    // Two blocks of 3 x 24 numbers and logits of 3 x 61, each of 4 bytes.
    let refused = cache("1307");
    assert_eq!((refused.status, refused.out.as_str()), (1, ""));
    assert!(refused.err.contains("1308 bytes") && refused.err.contains("1307"), "{}", refused.err);
    assert!(!out.exists(), "nothing is written");
    assert_eq!(cache("2K").status, 0);
    assert_eq!(cache("1308").status, 0);
    let nonsense = cache("much");
    assert_eq!(nonsense.status, 2);
    assert!(nonsense.err.contains("512M"), "{}", nonsense.err);
}

#[test]
fn the_catalogue_comes_from_the_doc_comments() {
    let text = printed(&["tools"]);
    for tool in arrakis_core::tools() {
        assert!(text.contains(tool.name()) && text.contains(tool.doc().lines().next().unwrap()), "{}", tool.name());
    }
    let text = printed(&["tools", "show", "logit_lens.lens"]);
    assert!(text.contains("\nprompt: text or [text] or [integer] or [[integer]]; must be given\n"), "{text}");
    assert!(text.contains("\ntop: integer; default 5\n"), "{text}");
    assert!(text.ends_with("arrakis ask logit_lens.lens --model MODEL --prompt TEXT\n"), "{text}");
    let text = printed(&["tools", "show", "patching.path"]);
    assert!(!text.contains("```") && text.contains("\nmetric: one of the following; must be given\n"), "{text}");
    assert!(text.contains("\n      \"loss\"\n          Mean cross entropy"), "{text}");
    let text = printed(&["tools", "show", "attention"]);
    assert!(
        text.lines().all(|line| line.starts_with("attention.")) && text.contains("\nattention.patterns "),
        "{text}"
    );
    let count = json_printed(&["tools", "show", "attention", "--json"])["tools"].as_array().unwrap().len();
    assert_eq!(count, text.lines().count());
    let json = json_printed(&["tools", "show", "patching.activation", "--json"]);
    assert_eq!(json["schema"]["required"], json!(["clean", "corrupted", "metric"]));
    assert_eq!(json_printed(&["tools", "--json"])["tools"].as_array().unwrap().len(), arrakis_core::tools().len());
}

#[test]
fn a_question_is_logged_drawn_and_answered() {
    let folder = tempfile::tempdir().unwrap();
    let (log, plot) = (folder.path().join("log"), folder.path().join("lens.png"));
    let ended = arrakis(
        &log,
        &[
            "ask",
            "logit_lens.lens",
            "--model",
            &golden("gpt2"),
            "--tokens",
            "1,2,3;4,5",
            "top=2",
            "--seed",
            "7",
            "--plot",
            plot.to_str().unwrap(),
            "--dtype",
            "float64",
        ],
    );
    assert_eq!(ended.status, 0, "{}", ended.err);
    assert!(ended.out.contains("logit lens"), "{}", ended.out);
    assert!(ended.err.contains(&format!("drew {}\n", plot.display())), "{}", ended.err);
    assert!(fs::read(&plot).unwrap().starts_with(b"\x89PNG"));
    let log = Log::open(&log);
    let [record] = &log.list().unwrap()[..] else { panic!("one run") };
    assert!(ended.err.contains(&format!("run {} took", record.id)), "{}", ended.err);
    assert_eq!((record.status, record.seed, record.name.as_str()), (Status::Completed, 7, "logit_lens.lens"));
    assert_eq!(record.parameters["prompt"], json!([[1, 2, 3], [4, 5]]));
    assert_eq!((record.environment.dtype.as_str(), record.environment.device.as_str()), ("float64", "cpu"));
    assert!(!record.pictures.is_empty());
    for picture in &record.pictures {
        assert!(fs::read_to_string(log.run_folder(&record.id).join(picture)).unwrap().contains("<svg"));
    }
    assert!(
        ended.out.contains(
            &log.answer(&record.id)
                .unwrap()
                .parts()
                .next()
                .map(|(name, part)| part.text(name, arrakis_core::print::Room::default()))
                .unwrap()
        )
    );
}

#[test]
fn parameters_come_from_a_file_and_fields_win() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("params.json");
    fs::write(&file, r#"{ "prompt": [1, 2, 3, 4], "answer": 5, "wrong": 6, "top": 3 }"#).unwrap();
    let (model, file) = (golden("llama"), file.to_str().unwrap());
    let args =
        ["ask", "logit_attribution.direct", "--model", &model, "--params", file, "wrong=7", "--json", "--no-log"];
    let json = json_printed(&args);
    assert_eq!((&json["parameters"]["answer"], &json["parameters"]["wrong"]), (&json!(5), &json!(7)));
    assert_eq!(json.get("run"), None);
    let shape = json["tensors"]["heads_by_row"]["shape"].as_array().unwrap();
    assert_eq!(shape, &[json!(2), json!(4), json!(1)]);

    let nested =
        ["ask", "patching.activation", "--model", &model, "clean=[1,2,3]", "corrupted=[1,4,3]", "kinds=[\"z\"]"];
    let metric = ["metric.logit_difference.answer=5", "metric.logit_difference.wrong=6", "--json"];
    let json = json_printed(&[&nested[..], &metric[..]].concat());
    assert_eq!(json["parameters"]["metric"], json!({ "logit_difference": { "answer": 5, "wrong": 6 } }));
    assert!(json["answer"]["z"]["grid"]["values"].as_array().unwrap().len() == 8);
    assert!(Path::new(json["folder"].as_str().unwrap()).is_absolute());
}

#[test]
fn a_dry_run_tells_the_plan_and_logs_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log");
    let model = golden("llama");
    let metric = ["metric.logit_difference.answer=5", "metric.logit_difference.wrong=6"];
    let patch = ["ask", "patching.activation", "--model", &model, "clean=[1,2,3]", "corrupted=[1,4,3]", "--dry-run"];
    let ended = arrakis(&log, &[&patch[..], &metric[..]].concat());
    assert_eq!((ended.status, ended.err.as_str()), (0, ""));
    assert!(ended.out.contains(" cases in 1 batch") && ended.out.ends_with('\n'), "{}", ended.out);
    let json = json_printed(&[&patch[..], &metric[..], &["--json"]].concat());
    assert!(json["plan"]["cases"].as_u64().unwrap() > 0, "{json}");
    let ended = arrakis(&log, &["ask", "logit_lens.lens", "--model", &model, "--tokens", "1,2", "--dry-run"]);
    assert_eq!((ended.status, ended.out.as_str()), (1, ""));
    assert!(ended.err.contains("`logit_lens.lens` makes no sweep"), "{}", ended.err);
    assert!(!log.exists(), "a dry run is no run");
}

#[test]
fn a_part_can_be_chosen() {
    let args = ["ask", "logit_lens.lens", "--model", &golden("gpt2"), "--tokens", "1,2", "--part"];
    let text = printed(&[&args[..], &["logit_gap"]].concat());
    assert!(text.starts_with("logit_gap: ") && text.lines().count() == 1, "{text}");
    let log = tempfile::tempdir().unwrap();
    let ended = arrakis(log.path(), &[&args[..], &["gap"]].concat());
    assert_eq!(ended.status, 1);
    assert!(ended.err.starts_with("error: the answer has no part `gap`; it has `"), "{}", ended.err);
}

#[test]
fn rows_that_are_left_out_can_be_asked_for() {
    let log = tempfile::tempdir().unwrap();
    let model = golden("gpt2");
    let lens = ["ask", "logit_lens.lens", "--model", &model, "--tokens", "1,2,3", "top=20", "--part", "top"];
    let rows = |more: &[&str]| {
        let ended = arrakis(log.path(), &[&lens[..], more].concat());
        assert_eq!(ended.status, 0, "{}", ended.err);
        (ended.out.lines().filter(|line| line.starts_with('…')).count(), ended.err)
    };
    let (_, words) = rows(&["--rows", "8"]);
    assert!(words.contains("rows are left out; `--rows "), "{words}");
    assert_eq!(rows(&["--rows", "8"]).0, 1);
    assert_eq!(rows(&["--rows", "1000"]).0, 0);
}

#[test]
fn a_mask_leaves_padding_out() {
    let lens = |tokens: &[&str]| {
        let model = golden("llama");
        let args = [&["ask", "logit_lens.lens", "--model", &model, "--json", "--no-log"], tokens].concat();
        json_printed(&args)["answer"].clone()
    };
    let padded = lens(&["--tokens", "0,1,2;3,4,5", "--mask", "0,1,1;1,1,1"]);
    assert_eq!(padded, lens(&["--tokens", "1,2;3,4,5"]));
}

#[test]
fn a_cache_is_a_file_of_what_was_kept() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("acts.safetensors");
    let text = printed(&[
        "cache",
        "--model",
        &golden("llama"),
        "--tokens",
        "0,1,2;3,4,5",
        "--mask",
        "0,1,1;1,1,1",
        "--keep",
        "blocks.*.hook_resid_post",
        "--keep",
        "blocks.0.attn.hook_pattern",
        "--keep-before",
        "hook_embed",
        "--dtype",
        "float64",
        "--out",
        out.to_str().unwrap(),
    ]);
    let tensors = read_tensors(&out).unwrap();
    let names: Vec<&str> = tensors.iter().map(|(name, _)| name.as_str()).collect();
    let wanted = [
        "before.hook_embed",
        "blocks.0.attn.hook_pattern",
        "blocks.0.hook_resid_post",
        "blocks.1.hook_resid_post",
        "logits",
    ];
    assert_eq!(names, wanted);
    for (name, value) in &tensors {
        assert_eq!(value.kind(), Kind::Double, "{name}");
        assert!(text.contains(&format!("{name} {:?}\n", value.size())), "{text}");
    }
    assert_eq!(files(folder.path()), ["acts.safetensors"]);
}

#[test]
fn a_corpus_is_a_folder_of_shards_and_generation_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let (corpus, out) = (folder.path().join("corpus.json"), folder.path().join("acts"));
    fs::write(&corpus, r#"["Once upon a time", "The dog ran"]"#).unwrap();
    if let Some(model) = stories() {
        let (corpus, out) = (corpus.to_str().unwrap(), out.to_str().unwrap());
        let args = ["cache", "--model", &model, "--corpus", corpus, "--keep", "blocks.0.hook_resid_post", "--out", out];
        let json = json_printed(&[&args[..], &["--json"]].concat());
        assert_eq!((&json["shards"], &json["written"]), (&json!(1), &json!(1)));
        let again = arrakis(folder.path(), &args);
        assert!(again.out.contains("blocks.0.hook_resid_post [64] for each token\n"), "{}", again.out);
        assert!(again.err.contains("0 of them written now"), "{}", again.err);
        let other = arrakis(folder.path(), &[&args[..], &["--window", "2"]].concat());
        assert_eq!(other.status, 1);
        assert!(other.err.contains("choose another folder"), "{}", other.err);
    }
    let file = folder.path().join("kept.safetensors");
    let (model, path) = (golden("llama"), file.to_str().unwrap());
    let keep = ["--max-tokens", "4", "--keep", "blocks.*.hook_resid_post", "--out", path];
    let args = [&["generate", "--model", &model, "--tokens", "1,2,3"], &keep[..]].concat();
    let ended = arrakis(folder.path(), &args);
    assert_eq!(ended.err, format!("wrote 3 tensors to {path}\n"));
    let kept = read_tensors(&file).unwrap();
    let names: Vec<&str> = kept.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["blocks.0.hook_resid_post", "blocks.1.hook_resid_post", "tokens"]);
    assert!(kept.iter().all(|(_, value)| value.size()[0] == 1 && value.size()[1] >= 6));
}

#[test]
fn parity_passes_and_fails() {
    let (model, reference) = (golden("gpt2"), golden("gpt2") + "/reference.safetensors");
    let text = printed(&["parity", &model, &reference, "--dtype", "float64"]);
    assert!(text.contains("plain.f64.logits (watched)") && text.contains("leftpad.f64.logits"), "{text}");
    let json = json_printed(&["parity", &model, &reference, "--json"]);
    assert_eq!((&json["agrees"], &json["bound"]), (&json!(true), &json!(2e-5)));
    let log = tempfile::tempdir().unwrap();
    let ended = arrakis(log.path(), &["parity", &model, &reference, "--bound", "1e-30"]);
    assert_eq!(ended.status, 1);
    assert!(ended.out.contains("  over the bound\n") && ended.err.contains("do not agree"), "{}", ended.err);
    let ended = arrakis(log.path(), &["parity", &model, &reference, "--dtype", "bfloat16"]);
    assert_eq!(ended.status, 2);
    assert_eq!(ended.err, "error: `bfloat16` has no bound that holds for every model; give `--bound`\n");
}

#[test]
fn a_text_goes_on() {
    let args = |more: &[&'static str]| {
        let model = golden("llama");
        json_printed(
            &[&["generate", "--model", &model, "--tokens", "1,2,3", "--max-tokens", "8", "--json"], more].concat(),
        )
    };
    let greedy = args(&[]);
    assert_eq!(greedy["rows"][0]["ids"].as_array().unwrap().len(), 8);
    assert_eq!(greedy, args(&["--top-k", "1", "--temperature", "0.7"]));
    let sampled = |seed: &'static str| args(&["--temperature", "5", "--top-p", "0.9", "--seed", seed]);
    assert_eq!(sampled("3"), sampled("3"));
    assert_ne!(sampled("3"), sampled("4"));
    let streamed = printed(&["generate", "--model", &golden("llama"), "--tokens", "1,2,3", "--max-tokens", "8"]);
    let ids: Vec<Value> = streamed.split_whitespace().map(|id| serde_json::from_str(id).unwrap()).collect();
    assert_eq!(Value::from(ids), greedy["rows"][0]["ids"]);
}

#[test]
fn texts_and_tokens_ask_the_same() {
    let Some(model) = stories() else { return };
    let lens = |prompt: &[&str]| {
        let args = [&["ask", "logit_lens.lens", "--model", &model, "--json", "--no-log"], prompt].concat();
        json_printed(&args)["answer"].clone()
    };
    assert_eq!(lens(&["--prompt", "Once upon a time"]), lens(&["prompt=Once upon a time"]));
    let text = printed(&["generate", "--model", &model, "--prompt", "Once upon a time", "--max-tokens", "12"]);
    assert!(text.starts_with(", there was a little girl"), "{text}");
    let two =
        ["generate", "--model", &model, "--prompt", "Once upon a time", "--prompt", "The dog", "--max-tokens", "9"];
    assert!(printed(&two).starts_with(", there was a little girl"));
    let patch = ["patch", "--model", &model, "--clean", "Once upon a time", "--corrupted", "Once upon a day"];
    let json =
        json_printed(&[&patch[..], &["--answer", " day", "--wrong", "3", "--kind", "resid_pre,z", "--json"]].concat());
    assert_eq!(json["tool"], "patching.activation");
    let metric = json!({ "logit_difference": { "answer": " day", "wrong": 3 } });
    assert_eq!((&json["parameters"]["metric"], &json["parameters"]["kinds"]), (&metric, &json!(["resid_pre", "z"])));
}

#[test]
fn a_demo_without_its_model_says_how_to_get_it() {
    if root().join("models/SmolLM2-135M-Instruct.gguf").exists() {
        return;
    }
    let log = tempfile::tempdir().unwrap();
    let ended = arrakis(log.path(), &["demo", "--out", log.path().join("out").to_str().unwrap()]);
    assert_eq!(ended.status, 1);
    assert!(ended.err.contains("`cargo xtask demo` fetches it"), "{}", ended.err);
    assert!(files(log.path()).is_empty());
}

/// A stream whose reader has gone.
struct Closed;

impl std::io::Write for Closed {
    fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
        Err(std::io::ErrorKind::BrokenPipe.into())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_broken_pipe_is_quiet() {
    let model = golden("llama");
    let verbs: [&[&str]; 2] = [&["tools"], &["generate", "--model", &model, "--tokens", "1"]];
    for args in verbs {
        let mut err = Vec::new();
        let args = ["arrakis"].iter().chain(args);
        assert_eq!(arrakis::command::run(args, &mut Closed, &mut err), 0);
        assert!(err.is_empty());
    }
}

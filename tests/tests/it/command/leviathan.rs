//! `arrakis leviathan`: trained, judged, sampled and compared; and the models that ship with the command.

use std::fs;
use std::path::{Path, PathBuf};

use super::{arrakis, files, json_printed, printed};

fn text(folder: &Path) -> PathBuf {
    let path = folder.join("text.txt");
    let lines: Vec<String> = (0..150).map(|line| format!("a line of {} and {}\n", line % 9, line % 4)).collect();
    fs::write(&path, lines.concat()).unwrap();
    path
}

/// Options that make the least of models and trainings.
fn tiny<'a>(text: &'a str, out: &'a str) -> Vec<&'a str> {
    vec![
        "--text",
        text,
        "--out",
        out,
        "--layers",
        "1",
        "--d-model",
        "8",
        "--parameters",
        "2000",
        "--context",
        "16",
        "--steps",
        "4",
        "--warm-up",
        "1",
        "--batch",
        "2",
        "--evaluate-every",
        "2",
        "--windows",
        "2",
    ]
}

#[test]
fn a_model_is_trained_judged_sampled_and_asked() {
    let scratch = tempfile::tempdir().unwrap();
    let (text, out) = (text(scratch.path()), scratch.path().join("out"));
    let (text, out) = (text.to_str().unwrap(), out.to_str().unwrap());
    let train = [&["leviathan", "train", "--mixer", "separable:3", "--json"], &tiny(text, out)[..]].concat();
    let trained = json_printed(&train);
    assert!(trained["trained"]["parameters"].as_u64().unwrap() <= 2000);
    assert_eq!(files(Path::new(out)), ["metrics.jsonl", "model", "state.safetensors", "training.json"]);
    assert_eq!(
        json_printed(&train)["trained"]["nats"],
        trained["trained"]["nats"],
        "a finished training is judged again"
    );

    let model = format!("{out}/model");
    let judged = json_printed(&["leviathan", "eval", "--model", &model, "--text", text, "--json"]);
    let apart = judged["loss"]["nats_per_token"].as_f64().unwrap() - trained["trained"]["nats"][0].as_f64().unwrap();
    assert!(apart.abs() < 1e-5, "{judged} {trained}");
    let bits = judged["loss"]["bits_per_character"].as_f64().unwrap();
    let nats = judged["loss"]["nats_per_token"].as_f64().unwrap();
    assert!((bits - nats / std::f64::consts::LN_2).abs() < 1e-12, "a character is a token here");

    let sample = |seed: &str| {
        let args = ["leviathan", "sample", "--model", &model, "--prompt", "a l", "--max-tokens", "9", "--seed", seed];
        printed(&args)
    };
    assert_eq!(sample("1"), sample("1"));
    assert_eq!(sample("1").chars().count(), 3 + 9 + 1);
    let said = printed(&["model", &model]);
    for part in ["family       leviathan", "mixer        separable:3", "feed-forward dense", "positions    rotary"] {
        assert!(said.contains(part), "{said}");
    }
    assert!(json_printed(&["model", &model, "--points", "--json"])["points"].to_string().contains("attn.hook_lag"));
    printed(&["ask", "logit_lens.lens", "--model", &model, "--prompt", "a line", "--json"]);

    let log = tempfile::tempdir().unwrap();
    let again = format!("{out}-again");
    let train = [&["leviathan", "train", "--mixer", "separable:3", "--json"], &tiny(text, &again)[..]].concat();
    assert_eq!(arrakis(log.path(), &train).status, 0);
    let listed = arrakis(log.path(), &["log", "list", "--json"]).out;
    let id = serde_json::from_str::<serde_json::Value>(&listed).unwrap()["runs"][0]["id"].as_str().unwrap().to_owned();
    let ended = arrakis(log.path(), &["rerun", &id, "--verify"]);
    assert!(ended.status == 0 && ended.err.contains("equal to the bit"), "{} {}", ended.out, ended.err);
    printed(&["ask", "attention.patterns", "--model", &format!("untrained:{out}"), "--tokens", "1,2,3", "--json"]);

    let log = tempfile::tempdir().unwrap();
    let other = [&["leviathan", "train", "--mixer", "attention"], &tiny(text, out)[..]].concat();
    let ended = arrakis(log.path(), &other);
    assert!(ended.status == 1 && ended.err.contains("trained with another `model."), "{}", ended.err);
}

#[test]
fn models_are_compared_seed_by_seed() {
    let scratch = tempfile::tempdir().unwrap();
    let (text, out) = (text(scratch.path()), scratch.path().join("out"));
    let (text, out) = (text.to_str().unwrap(), out.to_str().unwrap());
    let models = "attention,diagonal:2,involution:3+mixture:2:1,original";
    let args = ["leviathan", "compare", "--models", models, "--seeds", "2", "--equal-time"];
    let page = printed(&[&args[..], &tiny(text, out)].concat());
    for part in [
        "At equal size",
        "At equal time",
        "| 95 % interval |",
        "| p (sign flips) | Holm |",
        "`original` sees the tokens",
    ] {
        assert!(page.contains(part), "{part}: {page}");
    }
    assert_eq!(fs::read_to_string(format!("{out}/report.md")).unwrap(), page);
    assert!(fs::read_to_string(format!("{out}/curves.svg")).unwrap().starts_with("<svg"));
    let trained = files(&Path::new(out).join("equal-size"));
    assert_eq!(trained, ["attention", "diagonal-2", "involution-3-mixture-2-1", "original"]);
    let seeds = files(&Path::new(out).join("equal-size/attention"));
    assert!(seeds.contains(&"seed-0".to_owned()) && seeds.contains(&"seed-1".to_owned()), "{seeds:?}");
}

#[test]
fn models_that_end_at_other_steps_are_compared() {
    let scratch = tempfile::tempdir().unwrap();
    let (text, out) = (text(scratch.path()), scratch.path().join("out"));
    let (text, out) = (text.to_str().unwrap(), out.to_str().unwrap());
    let args =
        ["leviathan", "compare", "--models", "attention,involution:3", "--seeds", "2", "--patience", "1", "--json"];
    let long = ["--steps", "60", "--rate", "0.3"];
    let plain: Vec<&str> = tiny(text, out).chunks(2).filter(|pair| pair[0] != "--steps").flatten().copied().collect();
    let found = json_printed(&[&args[..], &plain, &long].concat());
    let steps = [0, 1].map(|place| found["equal_size"]["models"][place]["trained"]["steps"].as_u64().unwrap());
    assert!(steps[0] != steps[1], "{steps:?}");
    let tests = &found["equal_size"]["tests"][0];
    assert!(tests["model"] == "involution:3" && tests["p_flips"].as_f64().unwrap() >= 0.5, "{tests}");
    assert!(fs::read_to_string(format!("{out}/report.md")).unwrap().contains("## At equal size\n"));
}

#[test]
fn models_that_ship_are_judged_and_write() {
    let scratch = tempfile::tempdir().unwrap();
    let text = scratch.path().join("text.txt");
    fs::write(&text, "What light through yonder window breaks?\n".repeat(200)).unwrap();
    let args = ["leviathan", "eval", "--model", "builtin:leviathan", "--windows", "1", "--json", "--text"];
    let judged = json_printed(&[&args[..], &[text.to_str().unwrap()]].concat());
    assert!(judged["loss"]["nats_per_token"].as_f64().unwrap() < 3.0, "{judged}");
    printed(&["leviathan", "sample", "--model", "builtin:transformer", "--max-tokens", "5"]);
}

#[test]
fn what_cannot_be_trained_is_said_before_anything_is_written() {
    let scratch = tempfile::tempdir().unwrap();
    let (text, out) = (text(scratch.path()), scratch.path().join("out"));
    let (text, out) = (text.to_str().unwrap(), out.to_str().unwrap());
    let plain = tiny(text, out);
    let error = |status: u8, more: &[&str]| {
        let log = tempfile::tempdir().unwrap();
        let args = [&["leviathan", "train"], &plain[..], more].concat();
        let ended = arrakis(log.path(), &args);
        assert_eq!(ended.status, status, "{more:?}: {}", ended.err);
        assert!(!Path::new(out).exists(), "{more:?} left something behind");
        ended.err
    };
    assert!(error(2, &["--mixer", "fourier"]).contains("low_rank:W:R"));
    assert!(error(2, &["--cut", "bpe:12"]).contains("above 256"));
    assert!(error(1, &["--dtype", "float16"]).contains("train in float32"));
    assert!(error(1, &["--mixer", "separable:17"]).contains("context of 16"));
    assert!(error(1, &["--heads", "3"]).contains("3 heads do not divide"));
    let log = tempfile::tempdir().unwrap();
    let args = ["leviathan", "train", "--text", "no such text", "--out", out];
    let ended = arrakis(log.path(), &args);
    assert!(ended.status == 1 && ended.err.contains("no such text"), "{}", ended.err);
    let blocked = tiny(text, text);
    let ended = arrakis(log.path(), &[&["leviathan", "train"], &blocked[..]].concat());
    assert!(ended.status == 1 && ended.err.contains("cannot make"), "{}", ended.err);
}

#[test]
fn models_ship_with_the_command() {
    for name in arrakis::BUILTIN {
        let said = json_printed(&["model", name, "--json"]);
        assert!(said["parameters"].as_u64().unwrap() <= 50_000, "{said}");
        let prompt = if name == "builtin:induction" { "leviathanleviath" } else { "KING " };
        let text = printed(&["generate", "--model", name, "--prompt", prompt, "--max-tokens", "2"]);
        let foreseen = if name == "builtin:induction" { text.trim() == "an" } else { !text.trim().is_empty() };
        assert!(foreseen, "{name}: {text}");
    }
    let heads = json_printed(&["ask", "attention.heads", "--model", "builtin:induction", "length=16", "--json"]);
    let scores = &heads["answer"]["induction"]["grid"]["values"];
    assert!(scores.as_array().unwrap().iter().any(|score| score.as_f64().unwrap() > 0.8), "{scores}");
    let log = tempfile::tempdir().unwrap();
    let ended = arrakis(log.path(), &["generate", "--model", "builtin:induction", "--prompt", "the Nile"]);
    assert!(ended.status == 1 && ended.err.contains("no token for ' ' of the text"), "{}", ended.err);
    let ended = arrakis(log.path(), &["model", "builtin:whale"]);
    assert!(
        ended.status == 1 && ended.err.contains("`builtin:leviathan`, `builtin:transformer`, `builtin:induction`"),
        "{}",
        ended.err
    );
}

#[test]
fn the_copying_head_relates_a_query_to_the_token_before_its_key() {
    let relation = r#"relations=[{"name":"same","pairs":[["a","a"],["b","b"],["c","c"],["d","d"],["e","e"]]}]"#;
    let args = ["ask", "relations.typed", "--model", "builtin:induction", relation];
    let log = tempfile::tempdir().unwrap();
    let ended = arrakis(log.path(), &args);
    assert!(ended.status == 1 && ended.err.contains("L0H0 weighs [0, 1] most, by -1."), "{}", ended.err);
    let at = |lags: &str| {
        let found = json_printed(&[&args[..], &[lags, "--json"]].concat());
        found["answer"]["same.auc"]["grid"]["values"][0].as_f64().unwrap()
    };
    assert!(at("lags=[0,1]") > 0.95, "{}", at("lags=[0,1]"));
    // It looks away from where the token is three before the key.
    assert!(at("lags=[0,3]") < 0.05, "{}", at("lags=[0,3]"));
    // Fifty letters that are all different cannot be drawn of 26.
    let heads = json_printed(&["ask", "attention.heads", "--model", "builtin:induction", "--json"]);
    assert!(heads["parameters"]["length"].is_null(), "{heads}");
}

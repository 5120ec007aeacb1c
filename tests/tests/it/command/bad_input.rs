//! Bad input: each an error that names the thing, and nothing left half-written.

use std::fs;
use std::path::Path;

use arrakis_bench::{read_tensors, write_tensors};
use serde_json::Value;
use tch::Tensor;

use super::{arrakis, files, golden};

/// The error of a command that fails with `status`, without its beginning; the log must stay as it was.
fn error(status: u8, args: &[&str]) -> String {
    let log = tempfile::tempdir().unwrap();
    let ended = arrakis(log.path(), args);
    assert_eq!((ended.status, ended.out.as_str()), (status, ""), "{args:?}: {}", ended.err);
    let runs = log.path().join("runs");
    if runs.exists() {
        for run in files(&runs) {
            assert_eq!(files(&runs.join(run)), ["run.json"], "a failed run has its record and nothing else");
        }
    }
    ended.err.strip_prefix("error: ").unwrap().trim_end().to_owned()
}

/// A copy of a golden model, to be damaged.
fn copy(name: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for file in ["config.json", "model.safetensors"] {
        fs::copy(Path::new(&golden(name)).join(file), folder.path().join(file)).unwrap();
    }
    folder
}

fn edit_weights(folder: &Path, edit: impl FnOnce(&mut Vec<(String, Tensor)>)) {
    let path = folder.join("model.safetensors");
    let mut tensors = read_tensors(&path).unwrap();
    edit(&mut tensors);
    write_tensors(&path, tensors.iter().map(|(name, tensor)| (name.clone(), tensor))).unwrap();
}

fn load_error(folder: &Path) -> String {
    error(1, &["model", folder.to_str().unwrap()]).replace(folder.to_str().unwrap(), "MODEL")
}

#[test]
fn a_model_that_is_not_there() {
    let folder = tempfile::tempdir().unwrap();
    assert!(load_error(&folder.path().join("no")).contains("MODEL"));
    let found = error(1, &["model", "some-model"]);
    assert!(found.contains("give a folder, a `.gguf` file, or a hub id with its owner"), "{found}");
    insta::assert_snapshot!(load_error(folder.path()), @"`MODEL` has no `model.safetensors`, no `pytorch_model.bin`, the index of neither, and no `.gguf` file");
}

#[test]
fn missing_and_truncated_safetensors() {
    let folder = copy("gpt2");
    let path = folder.path().join("model.safetensors");
    let bytes = fs::read(&path).unwrap();
    fs::write(&path, &bytes[..bytes.len() - 9]).unwrap();
    let found = load_error(folder.path());
    assert!(found.contains("MODEL/model.safetensors") && found.contains("cut short"), "{found}");
    fs::remove_file(&path).unwrap();
    assert!(load_error(folder.path()).contains("has no `model.safetensors`"));
}

#[test]
fn missing_and_leftover_tensors_and_wrong_shapes() {
    let folder = copy("llama");
    let name = "model.layers.1.mlp.up_proj.weight";
    edit_weights(folder.path(), |tensors| tensors.retain(|(known, _)| known != name));
    let found = load_error(folder.path());
    assert!(found.contains(&format!("`{name}`")), "{found}");

    edit_weights(folder.path(), |tensors| {
        tensors.push((name.into(), Tensor::zeros([3, 4], (tch::Kind::Float, tch::Device::Cpu))));
    });
    let found = load_error(folder.path());
    assert!(found.contains(&format!("`{name}`")) && found.contains("[3, 4]") && found.contains("[28, 24]"), "{found}");

    let folder = copy("llama");
    let stray = "model.layers.2.mlp.up_proj.weight";
    edit_weights(folder.path(), |tensors| tensors.push((stray.into(), tensors[0].1.shallow_clone())));
    let found = load_error(folder.path());
    assert!(found.contains(stray), "{found}");
}

#[test]
fn an_unknown_config_field() {
    let folder = copy("llama");
    let path = folder.path().join("config.json");
    let mut config: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    config["attention_sink"] = 4.into();
    fs::write(&path, config.to_string()).unwrap();
    let found = load_error(folder.path());
    assert!(found.contains("`attention_sink`"), "{found}");
}

/// A question that would be answered if nothing were wrong with `more`.
fn lens_error(status: u8, more: &[&str]) -> String {
    error(status, &[&["ask", "logit_lens.lens", "--model", &golden("gpt2")], more].concat())
}

#[test]
fn prompts_that_no_model_can_read() {
    insta::assert_snapshot!(lens_error(1, &["--tokens", "1,61"]), @"token id 61 at row 0, position 1 is not in the vocabulary of 61");
    insta::assert_snapshot!(lens_error(1, &["--tokens", "1,-1"]), @"token id -1 at row 0, position 1 is not in the vocabulary of 61");
    let long = vec!["1"; 25].join(",");
    insta::assert_snapshot!(lens_error(1, &["--tokens", &long]), @"the prompt has 25 positions and this model's context holds 24; shorten the prompt");
    insta::assert_snapshot!(lens_error(1, &["--tokens", ""]), @"the prompt is empty; give at least one token in every row");
    insta::assert_snapshot!(lens_error(1, &["--tokens", "1,2;"]), @"the prompt is empty; give at least one token in every row");
    insta::assert_snapshot!(lens_error(1, &["--prompt", "some text"]), @"this model has no tokenizer; give token ids in place of text");
    let args = ["generate", "--model", &golden("gpt2"), "--tokens", "1,61"];
    insta::assert_snapshot!(error(1, &args), @"token id 61 at row 0, position 1 is not in the vocabulary of 61");
}

#[test]
fn tokens_and_masks_that_are_none() {
    insta::assert_snapshot!(lens_error(2, &["--tokens", "1,x"]), @"`--tokens`: `x` is no whole number; rows look like `1,2;3,4`");
    insta::assert_snapshot!(lens_error(2, &["--tokens", "1,2", "--mask", "1"]), @"`--mask` has rows of [1] and `--tokens` of [2]");
    insta::assert_snapshot!(lens_error(2, &["--tokens", "1,2;3", "--mask", "1,1;1"]), @"rows with a `--mask` are equally long; pad them, and give 0 where they are padded");
    insta::assert_snapshot!(lens_error(2, &["--tokens", "1,2", "--mask", "1,2"]), @"`--mask` is made of 0 and 1, and `2` is neither");
    insta::assert_snapshot!(lens_error(1, &["--tokens", "1,2", "--mask", "0,0"]), @"the prompt is empty; give at least one token in every row");
    let ended = arrakis(Path::new("nowhere"), &["generate", "--model", "m", "--tokens", "1", "--prompt", "text"]);
    assert_eq!(ended.status, 2);
    for mask in ["1,1,0", "nonsense"] {
        for reads in [["--prompt", "a b c"], ["--corpus", "corpus.txt"]] {
            let cache = ["cache", "--model", "m", "--mask", mask, "--keep", "*", "--out", "out", reads[0], reads[1]];
            let found = error(2, &cache);
            assert!(found.contains("'--mask <MASK>' cannot be used with"), "{found}");
        }
    }
    let found = error(2, &["ask", "logit_lens.lens", "--model", "m", "prompt=text", "--mask", "1"]);
    assert!(found.contains("--tokens <IDS>"), "{found}");
    insta::assert_snapshot!(error(2, &["generate", "--model", &golden("gpt2")]), @"nothing to read; give `--prompt TEXT` or `--tokens IDS`");
}

#[test]
fn unknown_tools_and_fields() {
    insta::assert_snapshot!(error(2, &["ask", "logit_lens.lense", "--model", "m"]), @"there is no tool `logit_lens.lense`; the nearest is `logit_lens.lens`; `arrakis tools` lists them");
    insta::assert_snapshot!(error(2, &["tools", "show", "lens"]), @"there is no tool `lens`; the nearest is `logit_lens.lens`; `arrakis tools` lists them");
    // Names that are like none are told what they are about, if anything.
    let unknown = |name: &str| error(2, &["tools", "show", name]);
    // The tools of other crates are here too.
    assert!(unknown("steering").contains("; the nearest is `contrib.steering_sweep`"));
    insta::assert_snapshot!(unknown("probe"), @"there is no tool `probe`; the nearest is `knowledge.probe`; `arrakis tools` lists them");
    insta::assert_snapshot!(unknown("ablate"), @"there is no tool `ablate`; the nearest is `attention.ablate`; `arrakis tools` lists them");
    insta::assert_snapshot!(unknown("induction"), @"there is no tool `induction`, but `attention.heads`; `arrakis tools` lists them");
    for nonsense in ["dla", "sae", "qwertz", ""] {
        assert_eq!(unknown(nonsense), format!("there is no tool `{nonsense}`; `arrakis tools` lists them"));
    }
    let found = error(2, &["ask", "attention", "--model", "m"]);
    assert!(found.starts_with("there is no tool `attention`, but `attention.ablate`, "), "{found}");
    let found = lens_error(2, &["--tokens", "1", "tpo=3"]);
    assert!(found.contains("there is no field `tpo`; the nearest is `top`"), "{found}");
    insta::assert_snapshot!(lens_error(2, &["--tokens", "1", "positon=0"]), @"`logit_lens.lens`: there is no field `positon`; the nearest is `position`; `arrakis tools show logit_lens.lens` lists its fields");
    insta::assert_snapshot!(lens_error(2, &[]), @"`logit_lens.lens`: `prompt` must be given; `arrakis tools show logit_lens.lens` lists its fields");
    insta::assert_snapshot!(lens_error(2, &["--tokens", "1", "prompt=[2]"]), @"the field `prompt` is given, and `--prompt` or `--tokens` too; give one of them");
    insta::assert_snapshot!(lens_error(2, &["--tokens", "1", "top=2", "top=3"]), @"`top` is given twice");
    insta::assert_snapshot!(lens_error(2, &["--tokens", "1", "top"]), @"`top` is no `field=value`; options of arrakis begin with `--`");
    insta::assert_snapshot!(lens_error(2, &["--tokens", "1", ".top=1"]), @"`.top` names no field");
    let found = lens_error(2, &["--tokens", "1", "top=many"]);
    assert!(found.starts_with("`logit_lens.lens`: `top` is `\"many\"` where integer is wanted; "), "{found}");
    let patterns = |field: &str| error(2, &["ask", "attention.patterns", "--model", "m", "--tokens", "1", field]);
    insta::assert_snapshot!(patterns("layers=3"), @"`attention.patterns`: `layers` is `3` where [integer] is wanted; give `[3]`; `arrakis tools show attention.patterns` lists its fields");
    insta::assert_snapshot!(patterns("heads=[-1]"), @"`attention.patterns`: `heads.0` is `-1` where at least 0 is wanted; `arrakis tools show attention.patterns` lists its fields");
    let patch =
        |field: &str| error(2, &["ask", "patching.activation", "--model", "m", "clean=a", "corrupted=b", field]);
    insta::assert_snapshot!(patch("metric={\"logit\":\" time}"), @"`patching.activation`: `metric` begins like JSON and is none: EOF while parsing a string at line 1 column 16; `arrakis tools show patching.activation` lists its fields");
    insta::assert_snapshot!(patch("metric={\"logitt\":\" time\"}"), @r#"`patching.activation`: `metric` is `{"logitt":" time"}` where {"logit_difference": …} or {"logit": …} or {"probability": …} or {"log_probability": …} or {"rank": …} or "loss" is wanted; `arrakis tools show patching.activation` lists its fields"#);
    insta::assert_snapshot!(patch("metric={\"logit_difference\":{\"answer\":5}}"), @"`patching.activation`: `metric.logit_difference` lacks `wrong`; `arrakis tools show patching.activation` lists its fields");
    let missing = error(2, &["ask", "patching.activation", "--model", "m", "clean=a"]);
    assert!(missing.contains("`corrupted` and `metric` must be given"), "{missing}");
}

#[test]
fn options_that_would_do_nothing() {
    let generate = ["generate", "--model", "m", "--tokens", "1"];
    for option in [["--top-p", "0.5"], ["--top-k", "5"]] {
        let found = error(2, &[&generate[..], &option].concat());
        assert!(found.contains("give `--temperature 1`"), "{found}");
    }
    let patch = ["patch", "--model", "m", "--clean", "a", "--corrupted", "b", "--answer", " the", "--wrong", " the"];
    insta::assert_snapshot!(error(2, &patch), @"`--answer` and `--wrong` are the same token, which differs from itself by nothing; give two tokens");
}

#[test]
fn an_index_out_of_range() {
    let found = lens_error(1, &["--tokens", "1,2", "position=2"]);
    assert!(found.contains("position 2 is out of range: there are 2"), "{found}");
    let args = ["ask", "attention.patterns", "--model", &golden("gpt2"), "--tokens", "1,2", "heads=[9]"];
    let found = error(1, &args);
    assert!(found.contains("head 9 is out of range: there are 4"), "{found}");
}

#[test]
fn a_misspelt_hook() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("acts.safetensors");
    let cache = |keep: &str| {
        let model = golden("gpt2");
        error(1, &["cache", "--model", &model, "--tokens", "1", "--keep", keep, "--out", out.to_str().unwrap()])
    };
    insta::assert_snapshot!(cache("blocks.0.hook_resid_pots"), @"`blocks.0.hook_resid_pots` matches no hook point of this model; the nearest is `blocks.0.hook_resid_post`");
    insta::assert_snapshot!(cache("hook_resid_post"), @"`hook_resid_post` matches no hook point of this model; the nearest is `blocks.0.hook_resid_post`");
    let nothing = ["cache", "--model", "m", "--tokens", "1", "--out", out.to_str().unwrap()];
    insta::assert_snapshot!(error(2, &nothing), @"nothing to keep; give `--keep POINTS`, `--keep '*'` for all of them");
    assert!(files(folder.path()).is_empty());
}

#[test]
fn paths_that_cannot_be_read_or_written() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let here = |text: String| text.replace(folder.path().to_str().unwrap(), "HERE");
    insta::assert_snapshot!(here(lens_error(1, &["--params", &at("no.json")])), @"cannot read `HERE/no.json`: No such file or directory (os error 2)");
    fs::write(at("broken.json"), "{").unwrap();
    let found = here(lens_error(2, &["--params", &at("broken.json")]));
    assert!(found.starts_with("`HERE/broken.json` is no JSON: "), "{found}");
    fs::write(at("list.json"), "[]").unwrap();
    insta::assert_snapshot!(here(lens_error(2, &["--params", &at("list.json")])), @"`HERE/list.json` is no JSON object of parameters");
    insta::assert_snapshot!(here(lens_error(1, &["--tokens", "1", "--plot", &at("no/lens.svg")])), @"cannot write `HERE/no/lens.svg`: there is no folder `HERE/no`");
    insta::assert_snapshot!(here(lens_error(2, &["--tokens", "1", "--plot", &at("lens.jpg")])), @"`--plot HERE/lens.jpg`: a picture ends in `.svg`, `.png` or `.html`");
    let cache =
        ["cache", "--model", &golden("gpt2"), "--tokens", "1", "--keep", "*", "--out", &at("no/acts.safetensors")];
    insta::assert_snapshot!(here(error(1, &cache)), @"cannot write `HERE/no/acts.safetensors`: there is no folder `HERE/no`");
    let found = here(error(1, &["parity", &golden("gpt2"), &at("no.safetensors")]));
    assert!(found.contains("HERE/no.safetensors"), "{found}");
    assert_eq!(files(folder.path()), ["broken.json", "list.json"]);

    let ended = arrakis(
        &folder.path().join("list.json"),
        &["ask", "logit_lens.lens", "--model", &golden("gpt2"), "--tokens", "1"],
    );
    assert_eq!(ended.status, 1);
    assert!(here(ended.err).starts_with("error: cannot make `HERE/list.json/runs`: "));
}

#[test]
fn a_device_that_is_not_there() {
    let found = error(1, &["model", &golden("gpt2"), "--device", "tpu"]);
    insta::assert_snapshot!(found, @"device `tpu` is not available: it is none of `cpu`, `cuda`, `cuda:N`, `auto`");
}

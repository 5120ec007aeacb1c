//! Files outside the log: what a run read is in its key, and what it wrote is what it gave.

use std::cell::RefCell;
use std::fs;
use std::path::{Path, PathBuf};

use arrakis_bench::{Bench, Error, Log, Status, Study, Subject, experiment};
use arrakis_core::{Answer, Context, Corpus, FileUse, Host, ParameterFile, Tool, register_tools, tool, tools};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tch::Kind;

use crate::families::loaded;
use crate::fixtures::root;
use crate::named::Named;

/// Counts the bytes of a file, and copies it; what it finds empty, others write meanwhile.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Copies {
    /// What is read.
    #[schemars(extend("x-file" = "read"))]
    from: PathBuf,
    /// What is written.
    #[serde(default)]
    #[schemars(extend("x-file" = "written"))]
    to: Option<PathBuf>,
}

impl Tool for Copies {
    const NAME: &'static str = "test.copies";
    type Output = Answer;

    fn run(&self, _: &Context<'_>) -> arrakis_core::Result<Answer> {
        let text = fs::read_to_string(&self.from).unwrap();
        if text.is_empty() {
            fs::write(&self.from, "written meanwhile").unwrap();
        }
        if let Some(to) = &self.to {
            fs::write(to, &text).unwrap();
        }
        Ok(Answer::new().with("bytes", text.len() as f64))
    }
}

register_tools!(Copies);

/// Copies a file by the tool, and reads the copy.
#[experiment]
fn copies_twice(bench: &Bench, corpus: &Corpus, to: &str) -> Result<f64, Error> {
    let Corpus::File(from) = corpus else { return Ok(0.0) };
    let first = bench.run(&Copies { from: from.clone(), to: Some(to.into()) })?;
    bench.ask("test.copies", json!({ "from": to }))?;
    assert!(first.record.read.len() == 1 && first.record.wrote.len() == 1);
    Ok(2.0)
}

/// Reads and writes by itself.
#[experiment]
fn reads_alone(bench: &Bench, from: &str, to: &str) -> Result<String, Error> {
    bench.reads(from)?;
    let text = fs::read_to_string(from).unwrap();
    fs::write(to, &text).unwrap();
    bench.wrote(to)?;
    Ok(text)
}

/// Says of its parameters what a tool says of its fields.
#[experiment]
fn reads_said(
    _bench: &Bench,
    /// What is read.
    #[schemars(extend("x-file" = "read"))]
    from: &Path,
    #[schemars(extend("x-file" = "written"))] to: &Path,
) -> Result<f64, Error> {
    fs::copy(from, to).unwrap();
    Ok(1.0)
}

#[derive(Default)]
struct Listener(RefCell<Vec<String>>);

impl Host for Listener {
    fn log(&self, line: &str) {
        self.0.borrow_mut().push(line.to_owned());
    }
}

impl Listener {
    fn heard(&self) -> String {
        self.0.take().join("\n")
    }
}

fn digest(bytes: &str) -> String {
    blake3::hash(bytes.as_bytes()).to_hex().to_string()
}

fn text_of(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}

#[test]
fn a_run_on_another_content_is_another_run() {
    let folder = tempfile::tempdir().unwrap();
    let (from, model) = (folder.path().join("from.txt"), Named::new());
    let bench = Bench::new(&model).log_to(folder.path().join("log")).reuse(true);
    let ask = || bench.ask("test.copies", json!({ "from": from })).unwrap();
    fs::write(&from, "one").unwrap();
    let first = ask();
    assert!(ask().reused);
    assert_eq!(first.record.read[&text_of(&from)].digest, digest("one"));
    assert_eq!((first.record.read.len(), first.record.wrote.len()), (1, 0));
    fs::write(&from, "four").unwrap();
    let other = ask();
    assert!(!other.reused && other.record.key != first.record.key);
    assert_eq!(other.answer.split().unwrap().0["bytes"]["number"], 4.0);
    fs::write(&from, "one").unwrap();
    let again = ask();
    assert_eq!((again.reused, &again.record.id), (true, &first.record.id));

    let typed = bench.run(&Copies { from: from.clone(), to: None }).unwrap();
    assert_eq!(typed.record.key, first.record.key, "typed or by name");
    let diff = bench.log().unwrap().diff(&first.record.id, &other.record.id, 0.0).unwrap();
    let changed: Vec<&str> = diff.asked.iter().map(|change| change.field.as_str()).collect();
    assert!(changed[0].starts_with("read.") && changed[0].ends_with(".digest"), "{changed:?}");
}

#[test]
fn what_a_reused_run_wrote_is_still_there() {
    let folder = tempfile::tempdir().unwrap();
    let (from, to) = (folder.path().join("from.txt"), folder.path().join("to.txt"));
    let (model, listener) = (Named::new(), Listener::default());
    let bench = Bench::new(&model).log_to(folder.path().join("log")).reuse(true).host(&listener);
    let ask = || bench.ask("test.copies", json!({ "from": from, "to": to })).unwrap();
    fs::write(&from, "one").unwrap();
    let first = ask();
    assert_eq!(first.record.wrote[&text_of(&to)].digest, digest("one"));
    assert!(ask().reused);
    fs::remove_file(&to).unwrap();
    assert!(!ask().reused);
    let heard = listener.heard();
    assert!(
        heard.contains("not reused: run") && heard.contains("to.txt") && heard.contains("cannot be read"),
        "{heard}"
    );
    assert_eq!(fs::read_to_string(&to).unwrap(), "one");
    fs::write(&to, "two").unwrap();
    assert!(!ask().reused);
    assert!(listener.heard().contains(&digest("two")[..12]));
}

#[test]
fn a_rerun_names_the_file_that_is_another() {
    let folder = tempfile::tempdir().unwrap();
    let (from, to) = (folder.path().join("from.txt"), folder.path().join("to.txt"));
    let model = Named::new();
    let bench = Bench::new(&model).log_to(folder.path().join("log"));
    fs::write(&from, "one").unwrap();
    let runs = [
        bench.ask("test.copies", json!({ "from": from, "to": to })).unwrap().record,
        bench.perform("copies_twice", json!({ "corpus": from, "to": to })).unwrap().record,
        bench.perform("reads_alone", json!({ "from": from, "to": to })).unwrap().record,
        bench.perform("reads_said", json!({ "from": from, "to": to })).unwrap().record,
        Study::of("test.copies")
            .fixed("from", text_of(&from))
            .vary("to", [text_of(&to)])
            .run(&bench)
            .unwrap()
            .asked
            .record,
    ];
    let (read, wrote) = (text_of(&from), text_of(&to));
    for before in &runs {
        // What a run wrote before it read it is its own.
        assert_eq!(before.read.keys().collect::<Vec<_>>(), [&read], "{}", before.name);
        assert_eq!(before.wrote.keys().collect::<Vec<_>>(), [&wrote], "{}", before.name);
        fs::remove_file(&to).unwrap();
        let again = bench.rerun(before).unwrap();
        let verdict = bench.log().unwrap().verify(&before.id, &again.record.id, 0.0).unwrap();
        assert!(verdict.agrees(), "{}: {verdict}", before.name);

        fs::write(&to, "mine").unwrap();
        let error = bench.rerun(before).unwrap_err().to_string();
        assert!(error.contains(&format!("wrote `{wrote}`")) && error.contains("move it away first"), "{error}");
        assert_eq!(fs::read_to_string(&to).unwrap(), "mine");
        fs::write(&to, "one").unwrap();

        fs::write(&from, "two").unwrap();
        let error = bench.rerun(before).unwrap_err();
        assert!(matches!(&error, Error::OtherFile { path, .. } if *path == read), "{}: {error}", before.name);
        assert!(
            error.to_string().contains(&digest("one")[..12]) && error.to_string().contains(&digest("two")[..12]),
            "{error}"
        );
        fs::remove_file(&from).unwrap();
        assert!(bench.rerun(before).unwrap_err().to_string().contains("cannot be read"));
        fs::write(&from, "one").unwrap();
    }
}

#[test]
fn an_experiment_is_not_reused_after_a_file_changed_that_only_its_calls_read() {
    let folder = tempfile::tempdir().unwrap();
    let (from, to) = (folder.path().join("from.txt"), folder.path().join("to.txt"));
    let model = Named::new();
    let bench = Bench::new(&model).log_to(folder.path().join("log")).reuse(true);
    fs::write(&from, "one").unwrap();
    let perform = || bench.perform("reads_alone", json!({ "from": from, "to": to })).unwrap();
    let first = perform();
    assert!(perform().reused);
    fs::write(&from, "two").unwrap();
    let second = perform();
    assert!(!second.reused && second.record.key == first.record.key, "what it reads is not known before");
}

#[test]
fn files_that_are_not_there_are_an_error_before_anything_runs() {
    let folder = tempfile::tempdir().unwrap();
    let model = Named::new();
    let log = folder.path().join("log");
    let bench = Bench::new(&model).log_to(&log);
    let gone = folder.path().join("gone.txt");
    let here = folder.path().join("here.txt");
    fs::write(&here, "here").unwrap();
    let wrong = |name: &str, parameters: Value| {
        let error = bench.perform(name, parameters.clone()).unwrap_err().to_string();
        assert_eq!(Bench::check(name, parameters).unwrap_err().to_string(), error);
        error.replace(&text_of(folder.path()), "F")
    };
    let os = "No such file or directory (os error 2)";
    let read = |parameter: &str| format!("parameter `{parameter}` names `F/gone.txt`, which cannot be read: {os}");
    assert_eq!(wrong("test.copies", json!({ "from": gone })), read("from"));
    assert_eq!(wrong("copies_twice", json!({ "corpus": gone, "to": "to" })), read("corpus"));
    assert_eq!(wrong("reads_said", json!({ "from": gone, "to": "to" })), read("from"));
    let error = wrong("test.copies", json!({ "from": folder.path() }));
    assert!(error.ends_with("which cannot be read: it is no file"), "{error}");
    let error = wrong("test.copies", json!({ "from": here, "to": gone.join("to") }));
    assert!(error.contains("its folder does not exist; make it first"), "{error}");
    let error = wrong("test.copies", json!({ "from": here, "to": folder.path() }));
    assert!(error.contains("names `F`, which is a folder"), "{error}");
    assert!(bench.run(&Copies { from: gone.clone(), to: None }).is_err());
    assert!(!log.exists());
    let subject = Subject::experiment("outer", json!({}));
    let call = |bench: &Bench<'_>| bench.ask("test.copies", json!({ "from": gone })).map(drop);
    assert!(bench.conduct(&subject, call).unwrap_err().to_string().contains("which cannot be read"));
    let error = bench.reads(&here).unwrap_err().to_string();
    assert!(error.starts_with("a file that is read belongs to a run"), "{error}");
    // The command finds it before it loads the model.
    let args = ["arrakis", "ask", "test.copies", "--model", "nowhere", "--no-log"];
    let from = format!("from={}", gone.display());
    let mut err = Vec::new();
    assert_eq!(arrakis::command::run(args.iter().copied().chain([&from[..]]), &mut Vec::new(), &mut err), 1);
    assert!(String::from_utf8(err).unwrap().contains("parameter `from` names"));
}

#[test]
fn a_file_that_changes_while_it_is_read_fails_the_run() {
    let folder = tempfile::tempdir().unwrap();
    let (from, model) = (folder.path().join("from.txt"), Named::new());
    let bench = Bench::new(&model).log_to(folder.path().join("log"));
    let within = |bench: &Bench<'_>| bench.ask("test.copies", json!({ "from": from })).map(drop);
    let outer = Subject::experiment("outer", json!({}));
    let asks: [&dyn Fn() -> Result<(), Error>; 2] =
        [&|| within(&bench), &|| bench.conduct(&outer, within).map(|asked| asked.answer)];
    for ask in asks {
        fs::write(&from, "").unwrap();
        let error = ask().unwrap_err().to_string();
        assert!(error.contains("from.txt`, which changed while it was read"), "{error}");
    }
    let runs = bench.log().unwrap().list().unwrap();
    assert!(runs.iter().all(|run| run.status == Status::Failed) && runs.len() == 2);
}

#[test]
fn schemas_say_which_parameters_are_files() {
    let named = |name: &str, parameters: Value| {
        let files = tool(name).unwrap().files(&parameters).unwrap();
        files.into_iter().map(|file| (file.parameter, text_of(&file.path), file.usage)).collect::<Vec<_>>()
    };
    let one = |parameter: &str, path: &str, usage| (parameter.to_owned(), path.to_owned(), usage);
    assert_eq!(named("logit_lens.tuned", json!({ "prompt": "a", "file": "f" })), [one("file", "f", FileUse::Read)]);
    assert_eq!(
        named("logit_lens.tuned_train", json!({ "corpus": "c", "file": "f" })),
        [one("corpus", "c", FileUse::Read), one("file", "f", FileUse::Written)]
    );
    assert_eq!(named("superposition.reconstruct", json!({ "corpus": ["a text"], "test": "t" })).len(), 1);
    assert_eq!(named("logit_lens.lens", json!({ "prompt": "a text" })), []);
    let said = &arrakis_bench::experiment("reads_said").unwrap().fields()[0];
    assert_eq!((said.doc.as_str(), &said.schema["x-file"]), ("What is read.", &json!("read")));

    // Within lists, maps and choices, through references that go round, and not where they lead nowhere.
    let schema = json!({
        "properties": {
            "list": { "type": "array", "items": { "$ref": "#/$defs/file" } },
            "map": { "additionalProperties": { "anyOf": [{ "type": "null" }, { "$ref": "#/$defs/file" }] } },
            "pair": { "prefixItems": [{ "type": "string" }, { "$ref": "#/$defs/file" }] },
            "round": { "$ref": "#/$defs/round" },
            "nowhere": { "$ref": "#/$defs/nowhere" },
        },
        "$defs": { "file": { "type": "string", "x-file": "read" }, "round": { "$ref": "#/$defs/round" } },
    });
    let parameters = json!({
        "list": ["a", 3, "b"], "map": { "x": "c", "y": null }, "pair": ["no", "d"], "round": "no", "nowhere": "no",
    });
    let files = ParameterFile::of(&schema, &parameters).unwrap();
    let found: Vec<(&str, String)> = files.iter().map(|file| (file.parameter.as_str(), text_of(&file.path))).collect();
    let wanted = [("list.0", "a"), ("list.2", "b"), ("map.x", "c"), ("pair.1", "d")];
    assert_eq!(found, wanted.map(|(parameter, path)| (parameter, path.to_owned())));
    // A tree, whose type is made of itself.
    let tree = json!({ "anyOf": [
        { "type": "string", "x-file": "written" }, { "$ref": "#" }, { "type": "array", "items": { "$ref": "#" } },
    ] });
    let files = ParameterFile::of(&tree, &json!(["a", ["b", ["c"]]])).unwrap();
    assert_eq!(files.iter().map(|file| file.parameter.as_str()).collect::<Vec<_>>(), ["0", "1.0", "1.1.0"]);
    let wrong = json!({ "properties": { "a": { "x-file": "raed" } } });
    let error = ParameterFile::of(&wrong, &json!({ "a": "b" })).unwrap_err().to_string();
    assert_eq!(error, r#"schema of parameter `a`: `x-file` is `"read"` or `"written"`, and this is `"raed"`"#);
}

/// A field that speaks of a file and does not say what is done with it would be a silent wrong answer.
#[test]
fn every_parameter_that_speaks_of_a_file_says_what_is_done_with_it() {
    for tool in tools() {
        for field in tool.fields() {
            let words = format!("{} {}", field.name, field.doc).to_lowercase();
            let speaks =
                words.split(|letter: char| !letter.is_alphabetic()).any(|word| ["file", "path"].contains(&word));
            let named = ParameterFile::of(&tool.schema(), &json!({ field.name.clone(): "name" })).unwrap();
            let takes_text = field.schema.to_string().contains("\"string\"");
            assert!(!speaks || !takes_text || !named.is_empty(), "`{}`: `{}`", tool.name(), field.name);
        }
    }
}

#[test]
fn a_lens_that_was_trained_anew_is_read_anew() {
    let folder = tempfile::tempdir().unwrap();
    let (model, file) =
        (loaded(&root().join("tests/golden/gpt2"), Kind::Double), folder.path().join("lens.safetensors"));
    let corpus = folder.path().join("corpus.json");
    let bench = Bench::new(&model).log_to(folder.path().join("log")).reuse(true);
    let train = |seed: u64| {
        let parameters = json!({ "corpus": [[9, 3, 17, 40], [5, 8, 2], [7, 1]], "file": file, "steps": 2 });
        bench.clone().seed(seed).ask("logit_lens.tuned_train", parameters).unwrap()
    };
    let read = || bench.ask("logit_lens.tuned", json!({ "prompt": [9, 3, 17], "file": file })).unwrap();
    let trained = train(0);
    let first = read();
    assert!(read().reused && train(0).reused);
    assert_eq!(trained.record.wrote[&text_of(&file)], first.record.read[&text_of(&file)]);
    assert!(!train(1).reused);
    let second = read();
    assert!(!second.reused);
    assert_ne!(first.answer.split().unwrap().0, second.answer.split().unwrap().0);
    let error = bench.rerun(&first.record).unwrap_err().to_string();
    assert!(error.contains("lens.safetensors") && error.contains("put the one back that it read"), "{error}");

    fs::write(&corpus, "[\"a text\"]").unwrap();
    let error = bench.ask("sparsity.activations", json!({ "corpus": corpus })).unwrap_err().to_string();
    assert!(error.contains("no tokenizer"), "{error}");
    let failed = Log::open(folder.path().join("log")).list().unwrap().pop().unwrap();
    assert_eq!(failed.read[&text_of(&corpus)].digest, digest("[\"a text\"]"));
}

#[test]
fn two_cells_of_a_study_do_not_write_one_file() {
    let folder = tempfile::tempdir().unwrap();
    let (from, to) = (folder.path().join("from.txt"), folder.path().join("to.txt"));
    fs::write(&from, "one").unwrap();
    let model = Named::new();
    let bench = Bench::new(&model).log_to(folder.path().join("log"));
    let study = Study::of("test.copies").fixed("from", text_of(&from)).fixed("to", text_of(&to)).seeds([1, 2]);
    let error = study.run(&bench).unwrap_err().to_string().replace(&text_of(folder.path()), "F");
    let why = "the cells `seed 1` and `seed 2` would both write `F/to.txt`; vary `to` too";
    assert_eq!(error, format!("study of `test.copies`: {why}"));
    assert!(!to.exists() && !folder.path().join("log").exists());
    Study::of("test.copies").fixed("from", text_of(&from)).seeds([1, 2]).run(&bench).unwrap();
}

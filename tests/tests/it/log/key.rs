//! The key: the same for what would give the same, another for whatever could change a result.

use std::cell::RefCell;
use std::env;
use std::fs::File;
use std::process::Command;

use arrakis_bench::{Bench, Log, Profile, Subject};
use arrakis_core::{Host, Model};
use serde_json::json;
use tch::Kind;

use super::durability::{FOLDER, process};
use crate::named::Named;

fn subject() -> Subject {
    Subject::experiment("key", json!({ "a": 1, "b": { "c": 2, "d": 3 } })).owner("crate 1").version("0f", "code")
}

fn key(bench: &Bench<'_>, subject: &Subject) -> String {
    bench.conduct(subject, |_| Ok(())).unwrap().record.key
}

#[test]
fn whatever_could_change_a_result_changes_the_key_and_nothing_else_does() {
    let folder = tempfile::tempdir().unwrap();
    let model = Named::new();
    let bench = Bench::new(&model).log_to(folder.path());
    let first = key(&bench, &subject());
    assert_eq!(first, key(&bench, &subject()), "time is not in it");
    assert_eq!(first, key(&bench.clone().unlogged(), &subject()));
    assert_eq!(first, key(&bench.clone().named("another name").part_of("a run"), &subject()));
    let turned = Subject::experiment("key", json!({ "b": { "d": 3, "c": 2 }, "a": 1 })).owner("crate 1");
    assert_eq!(first, key(&bench, &turned.clone().version("0f", "code")), "the order of parameters is not in it");
    assert_eq!(first, key(&bench, &subject().version("0f", "the same code, with a comment")));

    let mut keys = vec![first];
    let mut other = |key: String| {
        assert!(!keys.contains(&key), "{} keys", keys.len());
        keys.push(key);
    };
    other(key(&bench, &turned));
    other(key(&bench, &subject().version("10", "other code")));
    other(key(&bench, &subject().owner("crate 2")));
    other(key(&bench, &Subject::tool("key", json!({ "a": 1 }))));
    other(key(&bench, &Subject::experiment("key", json!({ "a": 1 }))));
    other(key(&bench, &Subject::experiment("key", json!({ "a": 2 }))));
    other(key(&bench, &Subject::experiment("another", json!({ "a": 2 }))));
    other(key(&bench.clone().seed(1), &subject()));
    other(key(&bench.clone().memory_limit(1 << 20), &subject()));
    let models = [
        Named { digest: "1".repeat(64), ..Named::new() },
        Named { tokenizer: Some("2".repeat(64)), ..Named::new() },
        Named { layout: Some("packed"), ..Named::new() },
        Named { kind: Kind::Double, ..Named::new() },
    ];
    for model in &models {
        other(key(&Bench::new(model).log_to(folder.path()), &subject()));
    }
}

#[test]
fn a_completed_run_with_the_same_key_is_given_in_place_of_another() {
    let folder = tempfile::tempdir().unwrap();
    let model = Named::new();
    let log = Log::open(folder.path());
    let bench = Bench::new(&model).logged(log.clone()).reuse(true);
    let ask = |bench: &Bench<'_>, count: u64| bench.ask("test.numbers", json!({ "count": count })).unwrap();
    let first = ask(&bench, 2);
    let again = ask(&bench, 2);
    assert_eq!((first.reused, again.reused), (false, true));
    assert_eq!((&again.record, again.folder.as_ref()), (&first.record, first.folder.as_ref()));
    assert_eq!(again.answer.split().unwrap().0, first.answer.split().unwrap().0);
    assert!(
        !ask(&bench, 3).reused && !ask(&bench.clone().seed(1), 2).reused && !ask(&bench.clone().reuse(false), 2).reused
    );
    assert_eq!(log.list().unwrap().len(), 4);

    // A run that failed stands for none, and one whose result is damaged is computed again.
    let failing = json!({ "count": 9, "trouble": "error" });
    assert!(bench.ask("test.numbers", failing.clone()).is_err());
    assert!(bench.ask("test.numbers", failing).is_err());
    assert_eq!(log.completed("no key").unwrap(), None);
    for record in log.list().unwrap() {
        let result = log.run_folder(&record.id).join("result.json");
        if result.exists() {
            std::fs::write(result, "{}").unwrap();
        }
    }
    assert!(!ask(&bench, 2).reused);
}

#[test]
fn a_profiled_model_is_the_model_to_the_key() {
    let folder = tempfile::tempdir().unwrap();
    let model = Named { tokenizer: Some("2".repeat(64)), layout: Some("packed"), ..Named::new() };
    let plain = key(&Bench::new(&model).log_to(folder.path()), &subject());
    let mut profile = Profile::new();
    let of = |model: &dyn Model| -> arrakis_core::Result<String> {
        Ok(key(&Bench::new(model).log_to(folder.path()), &subject()))
    };
    let profiled = profile.run(&model, of).unwrap();
    assert_eq!(plain, profiled);
}

#[derive(Default)]
struct Listener(RefCell<Vec<String>>);

impl Host for Listener {
    fn log(&self, line: &str) {
        self.0.borrow_mut().push(line.to_owned());
    }
}

/// Asks while no file can be opened, which is when the program is digested, and then again.
#[test]
fn undigested() {
    let Some(folder) = env::var_os(FOLDER) else { return };
    let (model, listener) = (Named::new(), Listener::default());
    let bench = Bench::new(&model).log_to(folder).reuse(true).host(&listener);
    let ask = || bench.ask("test.numbers", json!({ "count": 2 })).unwrap();
    let mut open = Vec::new();
    while let Ok(file) = File::open("/dev/null") {
        open.push(file);
    }
    assert!(bench.reusable(&subject()).unwrap().is_none());
    drop(open);
    let first = ask();
    assert_eq!(first.record.environment.executable, None);
    assert!(!ask().reused && !ask().reused);
    println!("told {}", listener.0.borrow().join("; "));
}

#[test]
fn nothing_is_reused_by_a_program_without_a_digest() {
    let folder = tempfile::tempdir().unwrap();
    let limited = r#"ulimit -n 64; exec "$0" --exact log::key::undigested --nocapture"#;
    let mut command = Command::new("sh");
    let output = command.arg("-c").arg(limited).arg(env::current_exe().unwrap()).env(FOLDER, folder.path()).output();
    let output = output.unwrap();
    let (said, words) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{said}{words}");
    let told = said.lines().find_map(|line| line.strip_prefix("told ")).unwrap();
    assert_eq!(told, "no run is reused: the file of this program cannot be read, so that its code is unknown");
    assert_eq!(Log::open(folder.path()).list().unwrap().len(), 3);
}

/// Tells the key of a run, and what it says of its environment.
#[test]
fn told() {
    let Some(folder) = env::var_os(FOLDER) else { return };
    let model = Named::new();
    let asked = Bench::new(&model).log_to(folder).conduct(&subject(), |_| Ok(())).unwrap();
    println!("told {} {:?}", asked.record.key, asked.record.environment.variables);
}

#[test]
fn variables_that_choose_kernels_are_in_the_key() {
    let folder = tempfile::tempdir().unwrap();
    let told = |variables: &[(&str, &str)]| {
        let mut command = process("log::key::told", folder.path());
        command.env_remove("ATEN_CPU_CAPABILITY").envs(variables.iter().copied());
        let said = String::from_utf8(command.output().unwrap().stdout).unwrap();
        said.lines().find_map(|line| line.strip_prefix("told ").map(str::to_owned)).unwrap()
    };
    let plain = told(&[]);
    assert_eq!(plain, told(&[("ARRAKIS_OF_NO_MATTER", "1")]));
    let other = told(&[("ATEN_CPU_CAPABILITY", "default")]);
    assert!(other.contains(r#""ATEN_CPU_CAPABILITY": "default""#) && plain[..64] != other[..64], "{plain} {other}");
}

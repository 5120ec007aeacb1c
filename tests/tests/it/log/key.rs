//! The key: the same for what would give the same, another for whatever could change a result.

use arrakis_bench::{Bench, Log, Profile, Subject};
use arrakis_core::Model;
use serde_json::json;
use tch::Kind;

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

//! What a killed process had written down of its run: read back, told, and kept when the run is changed later.

use std::env;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::Path;

use arrakis_bench::{Bench, DamageKind, Log, Record, Status, Subject};
use serde_json::json;
use tch::Tensor;

use super::durability::{FOLDER, process};
use crate::named::Named;

/// A run that says when it has recorded one of everything, and then waits to be killed.
#[test]
fn waits() {
    let Some(folder) = env::var_os(FOLDER) else { return };
    let model = Named::new();
    let bench = Bench::new(&model).log_to(folder);
    let subject = Subject::experiment("waits", json!({})).version("0f1e", super::SOURCE);
    let ended = bench.conduct(&subject, |bench| {
        record(bench)?;
        println!("recorded");
        std::io::stdin().read_line(&mut String::new()).unwrap();
        Ok(())
    });
    ended.unwrap();
}

/// Records one of everything, some of it twice.
fn record(bench: &Bench<'_>) -> arrakis_bench::Result<()> {
    bench.stream("draws").uniform();
    bench.ask("test.numbers", json!({ "count": 2 }))?;
    bench.ask("test.numbers", json!({ "count": 2 }))?;
    assert!(bench.ask("test.numbers", json!({ "count": 2, "trouble": "error" })).is_err());
    for step in 0..3 {
        bench.metric("loss", step, super::half(4, step))?;
    }
    bench.metric("nan", 0, f64::NAN)?;
    bench.tensor("weights", &Tensor::from(1.0))?;
    bench.tensor("weights", &Tensor::from(2.0))?;
    bench.picture("heads.svg", b"<svg/>")?;
    bench.note("so far so good")?;
    bench.tag("odd")?;
    bench.tag("odd")?;
    bench.result(&7)
}

/// The log of such a run whose process was killed, and the id of the run.
fn killed(folder: &Path) -> (Log, String) {
    let mut child = process("log::killed::waits", folder).stdin(std::process::Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.map_while(Result::ok).any(|line| line.ends_with("recorded")));
    let log = Log::open(folder);
    let [running] = &log.list().unwrap()[..] else { panic!("one run") };
    assert_eq!((running.status, &running.tags[..]), (Status::Running, &["odd".to_owned()][..]), "seen while it runs");
    child.kill().unwrap();
    child.wait().unwrap();
    (log, running.id.clone())
}

fn check(record: &Record) {
    assert_eq!((record.status, &record.tags[..]), (Status::Interrupted, &["odd".to_owned()][..]));
    assert_eq!(record.streams, ["draws", "numbers"]);
    let notes: Vec<&str> = record.notes.iter().map(|note| note.text.as_str()).collect();
    assert_eq!(notes, ["so far so good"]);
    let calls: Vec<(&str, bool)> =
        record.calls.iter().map(|call| (call.tool.as_str(), call.digest.is_some() && call.error.is_none())).collect();
    assert_eq!(calls, [("test.numbers", true), ("test.numbers", true), ("test.numbers", false)]);
    let metrics: Vec<(&str, u64)> = record.metrics.iter().map(|metric| (metric.name.as_str(), metric.step)).collect();
    assert_eq!((metrics, record.metrics[0].value), (vec![("loss", 2), ("nan", 0)], super::half(4, 2)));
    let two = blake3::hash(&2.0_f64.to_le_bytes()).to_hex();
    assert_eq!((record.tensors["weights"].digest.as_str(), &record.pictures[0][..]), (two.as_str(), "heads.svg"));
    for name in ["source.rs", "weights.safetensors", "heads.svg", "result.json"] {
        assert!(record.files.contains_key(name), "{name} of {:?}", record.files.keys());
    }
    assert_eq!(record.warnings, [""; 0]);
}

#[test]
fn what_a_killed_run_recorded_is_not_lost() {
    let folder = tempfile::tempdir().unwrap();
    let (log, id) = killed(folder.path());
    check(&log.get(&id).unwrap());
    check(&Log::open(folder.path()).list().unwrap()[0]);
    assert_eq!(log.fsck().unwrap().damage, []);
    assert_eq!(log.source(&id).unwrap(), super::SOURCE);
    let args = ["arrakis", "log", "show", &id, "--log", folder.path().to_str().unwrap()];
    let mut out = Vec::new();
    assert_eq!(arrakis::command::run(args, &mut out, &mut Vec::new()), 0);
    let shown = String::from_utf8(out).unwrap();
    for part in
        ["interrupted", "tags            odd", "loss = 1 at step 2", "so far so good", "asked           test.numbers"]
    {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    let page = folder.path().join("page.html");
    let args = ["arrakis", "report", &id, "--out", page.to_str().unwrap(), "--log", folder.path().to_str().unwrap()];
    let mut err = Vec::new();
    assert_eq!(arrakis::command::run(args, &mut Vec::new(), &mut err), 0, "{}", String::from_utf8_lossy(&err));
    let page = fs::read_to_string(page).unwrap();
    for part in ["interrupted", "so far so good", "test.numbers", "loss"] {
        assert!(page.contains(part), "{part}");
    }
    let found = log.query(&arrakis_bench::Query::parse(["tag=odd", "call=test.numbers", "metrics.loss=1"]).unwrap());
    assert_eq!(found.unwrap().records.len(), 1);

    let copy = folder.path().join("copy");
    log.export(&id, &copy).unwrap();
    let other = Log::open(folder.path().join("other"));
    check(&other.import(&copy).unwrap());

    // Whoever writes about the run keeps what it said itself.
    let record = log.note(&id, "killed").unwrap();
    assert_eq!(record.notes.len(), 2);
    let record = log.untag(&id, "odd").unwrap();
    assert_eq!((record.status, record.tags.len(), record.calls.len()), (Status::Interrupted, 0, 3));
    let record = log.get(&id).unwrap();
    assert_eq!((record.status, record.tags.len(), record.metrics.len()), (Status::Interrupted, 0, 2));
    assert_eq!(log.metrics(&id).unwrap().len(), 4);
    assert_eq!(log.fsck().unwrap().damage, []);
    assert!(!log.run_folder(&id).join(".journal").exists());
    log.remove(&id).unwrap();
}

#[test]
fn a_damaged_journal_is_named_and_hides_nothing_before_the_damage() {
    let folder = tempfile::tempdir().unwrap();
    let (log, id) = killed(folder.path());
    let path = log.run_folder(&id).join(".journal");
    let bytes = fs::read(&path).unwrap();
    let text = String::from_utf8(bytes.clone()).unwrap();
    let place = text.find("so far so good").unwrap();
    for flipped in [place, text[..place].rfind('\n').unwrap() + 3] {
        let mut bytes = bytes.clone();
        bytes[flipped] ^= 1;
        fs::write(&path, bytes).unwrap();
        let found = log.fsck().unwrap().damage;
        assert_eq!((found.len(), &found[0].path, found[0].kind), (1, &path, DamageKind::Changed));
        let record = Log::open(folder.path()).get(&id).unwrap();
        assert_eq!((record.calls.len(), record.tags.len(), record.notes.len()), (3, 0, 0));
        assert!(record.warnings[0].contains("its digest is another"), "{:?}", record.warnings);
    }
    // A journal comes from outside: what it names lies in the folder of its run.
    let line = r#"{"file":["../../index",{"digest":"DIGEST","bytes":1}]}"#.replace("DIGEST", &"0".repeat(64));
    let hostile = format!("{} {line}\n", &blake3::hash(line.as_bytes()).to_hex()[..16]);
    fs::write(&path, [&bytes[..], hostile.as_bytes()].concat()).unwrap();
    let record = log.get(&id).unwrap();
    assert!(record.warnings[0].contains("`../../index` is no name"), "{:?}", record.warnings);
    assert!(record.files.keys().all(|name| !name.contains('/')) && log.fsck().unwrap().damage.len() == 1);
    // A line that was cut short is none.
    fs::write(&path, &bytes[..bytes.len() - 5]).unwrap();
    assert_eq!(log.fsck().unwrap().damage, []);
    assert_eq!(log.get(&id).unwrap().warnings, [""; 0]);
    fs::write(&path, &bytes).unwrap();
    let picture = log.run_folder(&id).join("heads.svg");
    fs::write(&picture, "<svg>").unwrap();
    let found = log.fsck().unwrap().damage;
    assert!(found.iter().any(|damage| damage.path == picture), "{found:?}");
}

#[test]
fn a_completed_run_keeps_no_journal() {
    let folder = tempfile::tempdir().unwrap();
    let model = Named::new();
    let bench = Bench::new(&model).log_to(folder.path());
    let asked = bench.conduct(&Subject::experiment("records", json!({})), record).unwrap();
    let log = Log::open(folder.path());
    let back = log.get(&asked.record.id).unwrap();
    assert_eq!((back.calls.len(), back.tags.len(), back.status), (3, 1, Status::Completed));
    let journal = log.run_folder(&back.id).join(".journal");
    assert!(!journal.exists());
    // A process that is killed in its last moment may leave one.
    fs::write(&journal, "").unwrap();
    assert_eq!((log.fsck().unwrap().damage, journal.exists()), (vec![], false));
}

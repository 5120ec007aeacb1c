//! What survives: processes killed at any moment, a full disk, several writers at once.

use std::collections::BTreeMap;
use std::env;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use arrakis_bench::{Bench, Log, Status, Subject};
use arrakis_core::Stream;
use serde_json::{Value, json};
use tch::Tensor;

use super::{expected, half};
use crate::named::Named;

/// Names the folder to a test that is run as a process of its own.
pub(super) const FOLDER: &str = "ARRAKIS_TEST_LOG";
/// The first number of its runs.
const FROM: &str = "ARRAKIS_TEST_FROM";
/// Runs that all processes together begin; a few of them are killed before they are in the log.
const RUNS: u64 = 1_010;

/// A test of this binary as a process of its own, if it is asked to be one.
pub(super) fn process(test: &str, folder: &Path) -> Command {
    let mut command = Command::new(env::current_exe().unwrap());
    command.args(["--exact", test, "--nocapture"]).env(FOLDER, folder).stdout(Stdio::piped()).stderr(Stdio::null());
    command
}

/// One run after another until it is killed; a line before and within each, and one with its id after it.
#[test]
fn writer() {
    let (Some(folder), Ok(from)) = (env::var_os(FOLDER), env::var(FROM)) else { return };
    let mut out = std::io::stdout();
    let mut say = |line: &str| writeln!(out, "{line}").unwrap();
    for layer in from.parse::<u64>().unwrap().. {
        say("begins");
        let asked = one(Path::new(&folder), layer, &mut || say("goes on"));
        say(&format!("completed {} {layer}", asked.unwrap()));
    }
}

fn one(folder: &Path, layer: u64, step: &mut dyn FnMut()) -> arrakis_bench::Result<String> {
    let model = Named::new();
    let bench = Bench::new(&model).log_to(folder);
    let subject = Subject::experiment("killed", json!({ "layer": layer })).version("0f1e", super::SOURCE);
    let asked = bench.conduct(&subject, |bench| {
        step();
        bench.metric("loss", 0, half(layer, 0))?;
        bench.metric("loss", 1, half(layer, 1))?;
        step();
        bench.tag("tagged")?;
        // Every tenth content is the same, so that runs share it; every third is stored in the place of another.
        if layer.is_multiple_of(3) {
            bench.tensor("weights", &Tensor::from(layer as i64))?;
        }
        bench.tensor("weights", &Tensor::from((layer % 10) as i64))?;
        bench.picture("picture.svg", b"<svg/>")?;
        step();
        bench.result(&expected(layer))
    })?;
    Ok(asked.record.id)
}

/// Kills and starts a writer again, each time after a random number of its lines, until all have made enough runs.
fn kept_being_killed(
    folder: &Path,
    writer: u64,
    begun: &AtomicU64,
    acknowledged: &Mutex<BTreeMap<String, u64>>,
) -> u64 {
    let mut stream = Stream::new(11, &format!("kills of writer {writer}"));
    let mut kills = 0;
    while begun.load(Ordering::Relaxed) < RUNS {
        let from = (writer * 1_000 + kills) * 1_000;
        let mut child: Child = process("log::durability::writer", folder).env(FROM, from.to_string()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let heard = |line: &str| {
            begun.fetch_add(u64::from(line == "begins"), Ordering::Relaxed);
            if let Some((id, layer)) = line.strip_prefix("completed ").and_then(|rest| rest.split_once(' ')) {
                acknowledged.lock().unwrap().insert(id.to_owned(), layer.parse().unwrap());
            }
        };
        for _ in 0..80 + stream.below(320) {
            if begun.load(Ordering::Relaxed) >= RUNS {
                break;
            }
            heard(&lines.next().expect("it writes until it is killed").unwrap());
        }
        child.kill().unwrap();
        child.wait().unwrap();
        lines.map_while(Result::ok).for_each(|line| heard(&line));
        kills += 1;
    }
    kills
}

#[test]
fn killed_processes_leave_interrupted_runs_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let (begun, acknowledged) = (AtomicU64::new(0), Mutex::default());
    let kills: u64 = thread::scope(|scope| {
        let (folder, begun, acknowledged) = (folder.path(), &begun, &acknowledged);
        let writers: Vec<_> =
            (0..4).map(|writer| scope.spawn(move || kept_being_killed(folder, writer, begun, acknowledged))).collect();
        writers.into_iter().map(|writer| writer.join().unwrap()).sum()
    });
    let acknowledged = acknowledged.into_inner().unwrap();
    let log = Log::open(folder.path());
    let records = log.list().unwrap();
    let completed = records.iter().filter(|record| record.status == Status::Completed).count();
    for record in &records {
        let layer = record.parameters["layer"].as_u64().unwrap();
        if record.status == Status::Completed {
            assert_eq!(log.result::<Value>(&record.id).unwrap(), expected(layer));
            assert_eq!(log.metrics(&record.id).unwrap().len(), 2);
            assert_eq!((record.files.len(), record.tags.len()), (5, 1));
        } else {
            assert_eq!((record.status, record.warnings.len()), (Status::Interrupted, 0), "{record:?}");
            // What was recorded before something else is there if that is.
            assert!(log.metrics(&record.id).unwrap().len() == 2 || record.tags.is_empty());
            assert!(!record.tags.is_empty() || record.tensors.is_empty());
        }
    }
    for (id, layer) in &acknowledged {
        let record = records.iter().find(|record| record.id == *id).expect("no completed run is lost");
        assert_eq!((record.status, &record.parameters["layer"]), (Status::Completed, &json!(layer)));
    }
    let found = log.fsck().unwrap();
    assert_eq!(found.damage, []);
    assert!(records.len() >= 1_000 && completed >= acknowledged.len());
    let words = "runs of 4 processes that were killed";
    crate::fixtures::say(&format!(
        "{} {words} {kills} times: {completed} completed, {} interrupted",
        records.len(),
        records.len() - completed
    ));

    // What is removed takes only its own along.
    for record in records.iter().step_by(2) {
        log.remove(&record.id).unwrap();
    }
    let found = log.fsck().unwrap();
    assert_eq!((found.damage, found.runs), (vec![], records.len() / 2));
    for record in records.iter().skip(1).step_by(2).filter(|record| record.status == Status::Completed) {
        assert_eq!(log.result::<Value>(&record.id).unwrap()["layer"], record.parameters["layer"]);
    }
    for record in records.iter().skip(1).step_by(2) {
        log.remove(&record.id).unwrap();
    }
    assert_eq!(log.list().unwrap(), []);
    let left: usize = walk(&folder.path().join("objects"));
    assert_eq!(left, 0, "a log without runs has no contents");
}

/// How many files lie below a folder.
fn walk(folder: &Path) -> usize {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.map(|path| if path.is_dir() { walk(&path) } else { 1 }).sum()
}

/// Runs under a bound on the size of a file, as on a disk that is full.
#[test]
fn cramped() {
    let Some(folder) = env::var_os(FOLDER).filter(|_| env::var_os(FROM).is_none()) else { return };
    let folder = Path::new(&folder);
    let model = Named::new();
    let bench = Bench::new(&model).log_to(folder);
    let run = |name: &str, work: &dyn Fn(&Bench<'_>) -> arrakis_bench::Result<()>| {
        bench.conduct(&Subject::experiment(name, json!({})), |bench| work(bench)).map(|_| ())
    };
    run("small", &|bench| bench.result(&1)).unwrap();
    let big = Tensor::zeros([100_000], (tch::Kind::Double, tch::Device::Cpu));
    let errors = [
        run("tensor", &|bench| bench.tensor("big", &big)),
        run("file", &|bench| bench.file("big", &vec![0; 800_000])),
        run("result", &|bench| bench.result(&"x".repeat(800_000))),
        run("metrics", &|bench| (0..100_000).try_for_each(|step| bench.metric("loss", step, 0.0))),
        run("note", &|bench| bench.note("x".repeat(800_000))),
        // Each of them is small enough, and all together are not.
        bench
            .conduct(&Subject::experiment("record", json!("x".repeat(90_000))), |bench| {
                bench.note("x".repeat(90_000))?;
                bench.metric("x".repeat(90_000), 0, 0.0)
            })
            .map(|_| ()),
        bench.conduct(&Subject::experiment("parameters", json!("x".repeat(800_000))), |_| Ok(())).map(|_| ()),
    ];
    for error in errors {
        println!("error {}", error.unwrap_err());
    }
    run("small again", &|bench| bench.result(&2)).unwrap();
    println!("done");
}

#[test]
fn a_full_disk_fails_the_run_and_harms_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let exe = env::current_exe().unwrap();
    // In blocks of 512 or 1,024 bytes; the signal would end the process where a full disk gives an error.
    let limited = r#"trap '' XFSZ; ulimit -f 200; exec "$0" --exact log::durability::cramped --nocapture"#;
    let output = Command::new("sh").arg("-c").arg(limited).arg(exe).env(FOLDER, folder.path()).output().unwrap();
    let (said, words) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(said.contains("done"), "{said}{words}");
    let errors: Vec<&str> = said.lines().filter(|line| line.starts_with("error ")).collect();
    assert_eq!(errors.len(), 7);
    assert!(errors.iter().all(|error| error.contains("cannot write `")), "{errors:?}");

    let log = Log::open(folder.path());
    let status: BTreeMap<String, Status> =
        log.list().unwrap().into_iter().map(|record| (record.name, record.status)).collect();
    let of = |names: &[&str]| names.iter().map(|name| status[*name]).collect::<Vec<Status>>();
    assert_eq!(of(&["small", "small again"]), [Status::Completed; 2]);
    assert_eq!(of(&["tensor", "file", "result", "metrics", "note"]), [Status::Failed; 5]);
    assert_eq!(of(&["record"]), [Status::Interrupted], "its last word could not be written");
    assert_eq!(status.len(), 8, "a run that cannot be begun leaves nothing");
    assert_eq!(log.fsck().unwrap().damage, []);
}

#[test]
fn several_threads_and_readers_at_once_see_whole_runs() {
    let folder = tempfile::tempdir().unwrap();
    let log = Log::open(folder.path());
    thread::scope(|scope| {
        let writers: Vec<_> = (0..3)
            .map(|writer| {
                let folder = folder.path();
                scope.spawn(move || {
                    for layer in 0..20 {
                        let id = one(folder, writer * 100 + layer, &mut || ()).unwrap();
                        let log = Log::open(folder);
                        log.note(&id, "seen").unwrap();
                        if layer % 4 == 0 {
                            log.remove(&id).unwrap();
                        }
                    }
                })
            })
            .collect();
        while !writers.iter().all(thread::ScopedJoinHandle::is_finished) {
            assert_eq!(log.fsck().unwrap().damage, []);
            let listing = log.listing().unwrap();
            assert!(listing.damaged.is_empty(), "{:?}", listing.damaged);
        }
    });
    let records = log.list().unwrap();
    assert_eq!(records.len(), 45);
    assert!(records.iter().all(|record| record.status == Status::Completed && record.notes.len() == 1));
}

//! The walkthrough of the README runs as it stands.

#[path = "../../../../arrakis/examples/walkthrough.rs"]
mod example;

use arrakis_bench::{Bench, Log, Status};

use super::golden;

#[test]
fn the_walkthrough_runs_on_a_model_without_a_tokenizer() {
    let folder = tempfile::tempdir().unwrap();
    example::walk(&golden(), folder.path()).unwrap();
    assert!(folder.path().join("heads.png").is_file());
    let log = Log::open(folder.path());
    let runs = log.list().unwrap();
    let names: Vec<&str> = runs.iter().map(|run| run.name.as_str()).collect();
    assert_eq!(names, ["read_write_analysis", "cost", "head_matters"]);
    assert!(runs.iter().all(|run| run.status == Status::Completed && !run.pictures.is_empty()));
    let calls: Vec<&str> = runs[0].calls.iter().map(|call| call.tool.as_str()).collect();
    assert_eq!(calls, ["write_read.writers", "write_read.readers"]);
    assert_eq!(runs[2].streams.len(), 12);

    // Time is never the same; the others are, to the bit.
    let model = arrakis::load::checkpoint(&runs[0].wanted().unwrap()).unwrap();
    let bench = Bench::new(&*model).named(golden()).log_to(folder.path()).draw(&arrakis::Pictures::DEFAULT);
    for before in [&runs[0], &runs[2]] {
        let again = bench.rerun(before).unwrap().record;
        let verdict = log.verify(&before.id, &again.id, 0.0).unwrap();
        assert!(verdict.agrees(), "{verdict}");
    }
}

//! Export and import, and runs that an earlier version wrote.

use std::fs;
use std::path::Path;

use arrakis_bench::{Log, Status};
use serde_json::json;

use super::{expected, halves};
use crate::bench::files;

#[test]
fn an_exported_run_is_imported_as_it_was() {
    let (folder, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (log, there) = (Log::open(folder.path()), Log::open(other.path().join("log")));
    let id = halves(folder.path(), 6).record.id;
    log.tag(&id, "kept").unwrap();
    let record = log.get(&id).unwrap();
    let out = other.path().join("out");
    log.export(&id, &out).unwrap();
    let mut names: Vec<&str> = record.files.keys().map(String::as_str).collect();
    names.extend(["README.md", "run.json"]);
    names.sort_unstable();
    assert_eq!(files(&out), names);
    let page = fs::read_to_string(out.join("README.md")).unwrap();
    for part in
        ["# experiment halves", "![halves.svg](<halves.svg>)", "| loss | 2 | 1.5 |", "half and half", "// Halves."]
    {
        assert!(page.contains(part), "{part}: {page}");
    }
    let imported = there.import(&out).unwrap();
    assert_eq!((&imported, &there.get(&id).unwrap()), (&record, &record));
    assert_eq!(there.result::<serde_json::Value>(&id).unwrap(), expected(6));
    assert_eq!(there.source(&id).unwrap(), super::SOURCE);
    assert_eq!(there.fsck().unwrap().damage, []);
    assert_eq!(there.import(&out).unwrap(), record, "the same run again is the same run");

    // What is there stays, and nothing is left of what fails.
    let nowhere = log.export(&id, &other.path().join("no/such/out")).unwrap_err().to_string();
    assert!(nowhere.contains("there is no folder") && !other.path().join("no").exists(), "{nowhere}");
    assert!(log.export(&id, &out).unwrap_err().to_string().contains("is there already"));
    log.note(&id, "changed").unwrap();
    fs::remove_dir_all(&out).unwrap();
    log.export(&id, &out).unwrap();
    assert!(there.import(&out).unwrap_err().to_string().contains("is there already"));
    fs::write(out.join("table.csv"), "other").unwrap();
    let elsewhere = Log::open(other.path().join("elsewhere"));
    assert!(elsewhere.import(&out).unwrap_err().to_string().contains("table.csv` is damaged: its digest is"));
    fs::remove_file(out.join("table.csv")).unwrap();
    assert!(elsewhere.import(&out).unwrap_err().to_string().contains("cannot read"));
    assert!(elsewhere.list().unwrap().is_empty());
}

#[test]
fn a_record_that_names_files_elsewhere_is_not_imported() {
    let (folder, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let log = Log::open(folder.path());
    let mut record = halves(folder.path(), 6).record;
    let out = other.path().join("out");
    log.export(&record.id, &out).unwrap();
    let file = record.files["table.csv"].clone();
    record.files.insert("../../secret".into(), file.clone());
    crate::bench::write_record(&out.join("run.json"), &record);
    let error = Log::open(other.path().join("log")).import(&out).unwrap_err().to_string();
    assert!(error.contains("`../../secret` is no name and digest of a file of a run"), "{error}");
    record.files.remove("../../secret");
    record.files.insert("run.json".into(), file);
    crate::bench::write_record(&out.join("run.json"), &record);
    let error = Log::open(other.path().join("log")).import(&out).unwrap_err().to_string();
    assert!(error.contains("`run.json` is no name and digest of a file of a run"), "{error}");
    record.files.remove("run.json");
    record.id = "../up".into();
    crate::bench::write_record(&out.join("run.json"), &record);
    assert!(Log::open(other.path().join("log")).import(&out).is_err());
}

/// A run as the first version of the log wrote it.
fn first_format(log: &Path) -> &'static str {
    let id = "0123456789abcdef";
    let folder = log.join("runs").join(id);
    fs::create_dir_all(&folder).unwrap();
    let record = json!({
        "format": 1, "id": id, "key": "ab".repeat(32), "tool": "test.numbers", "owner": "arrakis-tests 0.1.0",
        "parameters": { "count": 1, "trouble": "none" }, "seed": 3, "status": "completed",
        "started": "2026-01-02T03:04:05.678Z", "ended": "2026-01-02T03:04:06Z", "seconds": 0.25,
        "model": { "name": "a model", "family": "named", "digest": "0".repeat(64) },
        "environment": {
            "device": "cpu", "dtype": "float32", "threads": 1, "arrakis": "0.1.0", "libtorch": "2.11.0",
            "system": "linux x86_64", "pid": 7, "git": { "commit": "c0ffee", "branch": "main" }
        }
    });
    fs::write(folder.join("run.json"), serde_json::to_string_pretty(&record).unwrap()).unwrap();
    let result = json!({ "count": { "number": 1.0 }, "odd": { "number": "NaN" } });
    fs::write(folder.join("result.json"), result.to_string()).unwrap();
    id
}

#[test]
fn a_run_of_the_first_format_is_read_found_and_brought_up_to_date() {
    let folder = tempfile::tempdir().unwrap();
    let id = first_format(folder.path());
    let log = Log::open(folder.path());
    let record = log.get("0123").unwrap();
    assert_eq!((record.format, record.name.as_str(), record.status), (1, "test.numbers", Status::Completed));
    assert_eq!(log.answer(id).unwrap().parts().count(), 2);
    assert_eq!(log.list().unwrap(), [record]);
    assert_eq!(log.fsck().unwrap().damage, []);
    let tagged = log.tag(id, "old").unwrap();
    assert_eq!((tagged.format, tagged.files.len()), (2, 1));
    assert_eq!(log.get(id).unwrap(), tagged);
    assert_eq!(log.answer(id).unwrap().parts().count(), 2);
    assert_eq!(log.fsck().unwrap().damage, []);
    fs::write(log.run_folder(id).join("result.json"), "{").unwrap();
    assert_eq!(log.fsck().unwrap().damage.len(), 1);

    let (other, out) = (tempfile::tempdir().unwrap(), folder.path().join("out"));
    fs::remove_dir_all(log.run_folder(id)).unwrap();
    first_format(folder.path());
    log.export(id, &out).unwrap();
    assert_eq!(Log::open(other.path()).import(&out).unwrap().format, 2);
}

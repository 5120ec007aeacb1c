//! Damage: every kind of it is found and named, and what is not damaged is read.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use arrakis_bench::{DamageKind, Log};

use super::halves;
use crate::bench::write_record;

/// Every file below a folder.
fn walk(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(walk(&path)) } else { found.push(path) }
    }
    found.sort();
    found
}

fn damaged(log: &Log) -> Vec<(PathBuf, DamageKind)> {
    log.fsck().unwrap().damage.into_iter().map(|damage| (damage.path, damage.kind)).collect()
}

#[test]
fn a_flipped_byte_in_any_file_is_found_and_named() {
    let folder = tempfile::tempdir().unwrap();
    let log = Log::open(folder.path());
    for layer in 0..70 {
        halves(folder.path(), layer);
    }
    log.list().unwrap();
    assert!(folder.path().join("index").exists(), "so many runs have an index");
    assert_eq!(damaged(&log), []);
    let one = &log.list().unwrap()[0].id;
    let mut files = walk(&log.run_folder(one));
    files.push(folder.path().join("index"));
    for path in files {
        let sound = fs::read(&path).unwrap();
        for place in [0, sound.len() / 2, sound.len() - 1] {
            let mut flipped = sound.clone();
            flipped[place] ^= 1;
            fs::write(&path, &flipped).unwrap();
            let found = damaged(&log);
            assert!(found.contains(&(path.clone(), DamageKind::Changed)), "{} {place}: {found:?}", path.display());
        }
        fs::write(&path, &sound).unwrap();
    }
    assert_eq!(damaged(&log), []);
}

#[test]
fn no_flipped_byte_of_a_record_is_read_as_a_record() {
    let folder = tempfile::tempdir().unwrap();
    let id = halves(folder.path(), 3).record.id;
    let log = Log::open(folder.path());
    let path = log.run_folder(&id).join("run.json");
    let sound = fs::read(&path).unwrap();
    for place in 0..sound.len() {
        let mut flipped = sound.clone();
        flipped[place] ^= 1 << (place % 8);
        fs::write(&path, &flipped).unwrap();
        let error = log.get(&id).map(|_| ()).expect_err(&format!("byte {place}")).to_string();
        assert!(error.contains("run.json"), "{error}");
    }
    // What is not damaged is still listed.
    halves(folder.path(), 4);
    let listing = log.listing().unwrap();
    assert_eq!((listing.records.len(), listing.damaged.len()), (1, 1));
    assert!(log.list().is_err());
    log.remove(&id).unwrap();
    assert_eq!((log.list().unwrap().len(), damaged(&log)), (1, vec![]));
}

#[test]
fn damaged_results_are_not_read() {
    let folder = tempfile::tempdir().unwrap();
    let id = halves(folder.path(), 3).record.id;
    let log = Log::open(folder.path());
    let flip = |name: &str| {
        let path = log.run_folder(&id).join(name);
        let mut bytes = fs::read(&path).unwrap();
        let digit = bytes.iter().position(u8::is_ascii_digit).unwrap();
        bytes[digit] ^= 1;
        fs::write(&path, bytes).unwrap();
    };
    flip("result.json");
    flip("metrics.jsonl");
    flip("source.rs");
    let said = |error: arrakis_bench::Error| error.to_string();
    assert!(said(log.result::<serde_json::Value>(&id).unwrap_err()).contains("result.json` is damaged: its digest is"));
    assert!(said(log.metrics(&id).unwrap_err()).contains("metrics.jsonl` is damaged"));
    assert!(said(log.source(&id).unwrap_err()).contains("source.rs` is damaged"));
    assert!(said(log.export(&id, &folder.path().join("out")).unwrap_err()).contains("is damaged"));
    assert!(!folder.path().join("out").exists());
}

#[test]
fn a_damaged_content_is_no_part_of_another_run() {
    let folder = tempfile::tempdir().unwrap();
    let first = halves(folder.path(), 1);
    let path = first.folder.unwrap().join("source.rs");
    fs::write(&path, "something else").unwrap();
    let second = halves(folder.path(), 1);
    let log = Log::open(folder.path());
    assert_eq!(log.source(&second.record.id).unwrap(), super::SOURCE);
    assert!(log.source(&first.record.id).is_err());
    let object = log.folder().join("objects").join(&first.record.files["source.rs"].digest[..2]);
    let object = object.join(&first.record.files["source.rs"].digest);
    let mut found = damaged(&log);
    found.sort_by(|a, b| a.0.cmp(&b.0));
    assert_eq!(found, [(object, DamageKind::Changed), (path, DamageKind::Changed)]);
}

#[test]
fn what_is_missing_or_left_behind_is_named_and_mended_where_it_can_be() {
    let folder = tempfile::tempdir().unwrap();
    let log = Log::open(folder.path());
    let (first, second) = (halves(folder.path(), 1).record, halves(folder.path(), 2).record);
    let (one, two) = (log.run_folder(&first.id), log.run_folder(&second.id));
    let digest = blake3::hash(b"nobody's").to_hex().to_string();
    let unneeded = folder.path().join("objects").join(&digest[..2]).join(&digest);
    fs::create_dir_all(unneeded.parent().unwrap()).unwrap();
    fs::write(&unneeded, "nobody's").unwrap();
    fs::remove_file(one.join("table.csv")).unwrap();
    fs::remove_file(two.join("run.json")).unwrap();
    let strays = [one.join(".12-result.json"), one.join("more.txt"), folder.path().join("objects/zz")];
    for stray in &strays {
        fs::write(stray, "").unwrap();
    }
    let mut found = damaged(&log);
    found.sort_by(|a, b| a.0.cmp(&b.0));
    let stray = |path: &PathBuf| (path.clone(), DamageKind::Stray);
    let mut wanted = vec![
        (one.join("table.csv"), DamageKind::Missing),
        (two.join("run.json"), DamageKind::Missing),
        (unneeded.clone(), DamageKind::Unneeded),
    ];
    wanted.extend(strays.iter().map(stray));
    // What only the run without a record had is needed by nobody that can say so, but still has its name there.
    wanted.sort_by(|a, b| a.0.cmp(&b.0));
    assert_eq!(found, wanted);
    let left = log.mend().unwrap();
    assert!(!unneeded.exists() && !strays[0].exists() && strays[1].exists() && left.damage.len() == 4, "{left:?}");
}

#[test]
fn what_is_the_users_own_is_no_damage_and_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let log = Log::open(folder.path());
    let id = halves(folder.path(), 1).record.id;
    let own = [
        folder.path().join(".gitignore"),
        folder.path().join(".env"),
        folder.path().join("runs/.hidden"),
        log.run_folder(&id).join(".DS_Store"),
        log.run_folder(&id).join(".12-"),
    ];
    for path in &own {
        fs::write(path, "mine").unwrap();
    }
    let left = log.run_folder(&id).join(".12-");
    assert_eq!(damaged(&log), [(left.clone(), DamageKind::Stray)]);
    assert_eq!(log.mend().unwrap().damage, []);
    assert!(own.iter().all(|path| path.exists() != (*path == left)));
}

#[test]
fn a_folder_that_is_no_log_is_refused_and_stays_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let log = Log::open(folder.path());
    fs::create_dir(folder.path().join(".git")).unwrap();
    fs::write(folder.path().join(".git/config"), "mine").unwrap();
    fs::write(folder.path().join(".index"), "mine").unwrap();
    let before = walk(folder.path());
    let said = |error: arrakis_bench::Error| error.to_string();
    let wanted = format!("`{}` is no log: it has no folder `runs` with runs in it", folder.path().display());
    for _ in 0..2 {
        assert!(said(log.fsck().unwrap_err()).starts_with(&wanted));
        assert!(said(log.mend().unwrap_err()).starts_with(&wanted));
        assert_eq!(walk(folder.path()), before);
        // The runs of another program are none either, and not to be removed.
        fs::create_dir_all(folder.path().join("runs/first")).unwrap();
    }
    assert!(said(log.remove("first").unwrap_err()).starts_with(&wanted));
    assert!(folder.path().join("runs/first").exists());
}

#[test]
fn looking_at_a_log_writes_nothing() {
    let (folder, copy) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let id = halves(folder.path(), 1).record.id;
    let run = Log::open(folder.path()).run_folder(&id);
    let own = copy.path().join("runs").join(&id);
    fs::create_dir_all(&own).unwrap();
    for path in walk(&run) {
        fs::copy(&path, own.join(path.file_name().unwrap())).unwrap();
    }
    let before = walk(copy.path());
    assert_eq!(damaged(&Log::open(copy.path())), []);
    assert_eq!(walk(copy.path()), before);
}

#[test]
fn what_a_killed_process_was_making_or_removing_is_swept() {
    let folder = tempfile::tempdir().unwrap();
    let log = Log::open(folder.path());
    let (one, two) = (halves(folder.path(), 1).record, halves(folder.path(), 2).record);
    fs::create_dir(log.run_folder(".making-0123")).unwrap();
    fs::write(log.run_folder(".making-0123").join("run.json"), "{").unwrap();
    let digest = blake3::hash(b"imported").to_hex().to_string();
    let object = folder.path().join("objects").join(&digest[..2]).join(&digest);
    fs::create_dir_all(object.parent().unwrap()).unwrap();
    fs::write(&object, "imported").unwrap();
    fs::hard_link(&object, log.run_folder(".making-0123").join("table.csv")).unwrap();
    fs::rename(log.run_folder(&one.id), log.run_folder(&format!(".removing-{}", one.id))).unwrap();
    fs::write(folder.path().join(".index"), "half").unwrap();
    assert_eq!(log.list().unwrap(), std::slice::from_ref(&two));
    let found = log.fsck().unwrap();
    assert_eq!((found.runs, found.damage), (1, vec![]));
    let objects = walk(&folder.path().join("objects"));
    assert_eq!(objects.len(), two.files.len(), "what only the two runs had that are gone is gone");
    // A process that is at work is left alone.
    fs::create_dir(log.run_folder(".making-4567")).unwrap();
    let lock = fs::File::open(log.run_folder(".making-4567")).unwrap();
    lock.lock().unwrap();
    log.fsck().unwrap();
    assert!(log.run_folder(".making-4567").exists());
}

#[test]
fn what_is_stored_again_leaves_nothing_of_what_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let model = crate::named::Named::new();
    let bench = arrakis_bench::Bench::new(&model).log_to(folder.path());
    let subject = arrakis_bench::Subject::experiment("again", serde_json::json!({}));
    let asked = bench
        .conduct(&subject, |bench| {
            for weight in [1_i64, 2, 2] {
                bench.tensor("weights", &tch::Tensor::from(weight))?;
                bench.picture("heads.svg", format!("<svg>{weight}</svg>").as_bytes())?;
                bench.file("last.csv", weight.to_string().as_bytes())?;
            }
            // What another file of the run still has stays.
            bench.file("first.csv", b"shared")?;
            bench.file("second.csv", b"shared")?;
            bench.file("second.csv", b"its own")
        })
        .unwrap();
    let log = Log::open(folder.path());
    assert_eq!(damaged(&log), []);
    let objects = walk(&folder.path().join("objects"));
    let mut kept: Vec<&str> = asked.record.files.values().map(|file| file.digest.as_str()).collect();
    kept.sort_unstable();
    assert_eq!(objects.iter().map(|path| path.file_name().unwrap().to_str().unwrap()).collect::<Vec<_>>(), kept);
    assert_eq!(fs::read_to_string(log.run_folder(&asked.record.id).join("first.csv")).unwrap(), "shared");
}

#[test]
fn equal_files_share_their_bytes_and_a_copied_log_is_sound() {
    let folder = tempfile::tempdir().unwrap();
    let (one, two) = (halves(folder.path(), 1), halves(folder.path(), 2));
    let inode = |run: &arrakis_bench::Asked<()>, name: &str| {
        fs::metadata(run.folder.as_ref().unwrap().join(name)).unwrap().ino()
    };
    assert_eq!(inode(&one, "source.rs"), inode(&two, "source.rs"));
    assert_ne!(inode(&one, "result.json"), inode(&two, "result.json"));

    let copy = tempfile::tempdir().unwrap();
    for path in walk(folder.path()) {
        let to = copy.path().join(path.strip_prefix(folder.path()).unwrap());
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::copy(&path, &to).unwrap();
    }
    let log = Log::open(copy.path());
    assert_eq!(damaged(&log), []);
    log.remove(&one.record.id).unwrap();
    assert_eq!(damaged(&log), []);
    log.remove(&two.record.id).unwrap();
    assert_eq!(walk(&copy.path().join("objects")), Vec::<PathBuf>::new());
}

#[test]
fn an_index_is_never_a_wrong_answer() {
    let folder = tempfile::tempdir().unwrap();
    for layer in 0..70 {
        halves(folder.path(), layer);
    }
    let listed = Log::open(folder.path()).list().unwrap();
    let index = folder.path().join("index");
    let sound = fs::read_to_string(&index).unwrap();
    assert_eq!(Log::open(folder.path()).list().unwrap(), listed);
    // Of the same runs, with other contents and no right digest; of nothing; of nonsense.
    for wrong in [sound.replace("\"layer\":1", "\"layer\":7"), String::new(), "arrakis index 1 nonsense\nrest".into()] {
        fs::write(&index, wrong).unwrap();
        assert_eq!(Log::open(folder.path()).list().unwrap(), listed);
    }
    // Of runs that changed, went and came.
    fs::write(&index, &sound).unwrap();
    let log = Log::open(folder.path());
    log.list().unwrap();
    log.tag(&listed[0].id, "late").unwrap();
    log.remove(&listed[1].id).unwrap();
    let new = halves(folder.path(), 100).record.id;
    for log in [log, Log::open(folder.path())] {
        let records = log.list().unwrap();
        assert_eq!(records.len(), 70);
        assert_eq!((records[0].tags.last().unwrap().as_str(), &records[1].id), ("late", &listed[2].id));
        assert_eq!(records.last().unwrap().id, new);
    }
}

#[test]
fn a_run_at_work_cannot_be_removed_and_keeps_what_others_wrote_about_it() {
    let folder = tempfile::tempdir().unwrap();
    let model = crate::named::Named::new();
    let log = Log::open(folder.path());
    let bench = arrakis_bench::Bench::new(&model).logged(log.clone());
    let subject = arrakis_bench::Subject::experiment("long", serde_json::json!({}));
    let asked = bench
        .conduct(&subject, |bench| {
            let id = bench.run_id().unwrap();
            assert!(log.remove(&id).unwrap_err().to_string().contains("is at work"));
            assert!(log.export(&id, &folder.path().join("out")).is_err());
            log.tag(&id, "meanwhile")?;
            log.note(&id, "by hand")?;
            bench.note("by itself")?;
            assert_eq!(log.get(&id)?.status, arrakis_bench::Status::Running);
            assert_eq!(damaged(&log), []);
            Ok(())
        })
        .unwrap();
    let record = log.get(&asked.record.id).unwrap();
    let notes: Vec<&str> = record.notes.iter().map(|note| note.text.as_str()).collect();
    assert_eq!((record.tags, notes), (vec!["meanwhile".to_owned()], vec!["by hand", "by itself"]));
}

#[test]
fn a_record_that_is_written_by_hand_needs_its_digest() {
    let folder = tempfile::tempdir().unwrap();
    let record = halves(folder.path(), 1).record;
    let log = Log::open(folder.path());
    let path = log.run_folder(&record.id).join("run.json");
    write_record(&path, &record);
    assert_eq!(log.get(&record.id).unwrap(), record);
    fs::write(&path, serde_json::to_string(&record).unwrap()).unwrap();
    assert!(log.get(&record.id).unwrap_err().to_string().ends_with("is damaged: it does not end with its digest"));
}

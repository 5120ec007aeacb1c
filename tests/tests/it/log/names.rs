//! Names within a run: what is stored again replaces what it was, and nothing takes the place of another.

use std::fs;
use std::path::{Path, PathBuf};

use arrakis_bench::{Bench, Log, Subject};
use arrakis_core::{Answer, Axis, Draw, HookPoint, Kept, PlotSpec, Series};
use serde_json::json;
use tch::{Device, Kind, Tensor};

use crate::named::Named;

#[test]
fn nothing_takes_the_name_of_another() {
    let folder = tempfile::tempdir().unwrap();
    let model = Named::new();
    // The same holds where nothing is logged, so that an experiment does not fail only when it is.
    for bench in [Bench::new(&model).log_to(folder.path()), Bench::new(&model).unlogged()] {
        let asked = bench
            .conduct(&Subject::experiment("names", json!({})), |bench| {
                bench.tensor("w", &Tensor::from(1.0))?;
                bench.file("table.csv", b"1")?;
                bench.picture("heads.svg", b"<svg/>")?;
                let refused = [
                    bench.file("w.safetensors", b"").unwrap_err(),
                    bench.picture("w.safetensors", b"").unwrap_err(),
                    bench.picture("table.csv", b"").unwrap_err(),
                    bench.file("heads.svg", b"").unwrap_err(),
                ];
                insta::allow_duplicates! { insta::assert_snapshot!(refused.map(|error| error.to_string()).join("\n"), @r"
                a file of the experiment's own, `w.safetensors`: the run has stored the tensor `w` under that name; choose another
                a picture of the experiment's own, `w.safetensors`: the run has stored the tensor `w` under that name; choose another
                a picture of the experiment's own, `table.csv`: the run has stored a file of the experiment's own under that name; choose another
                a file of the experiment's own, `heads.svg`: the run has stored a picture of the experiment's own under that name; choose another
                "); }
                // A name is taken by what was stored, and not by what could not be.
                assert!(bench.tensor("v", &Tensor::zeros([1], (Kind::ComplexFloat, Device::Cpu))).is_err());
                bench.file("v.safetensors", b"own")?;
                let error = bench.tensor("v", &Tensor::from(2.0)).unwrap_err().to_string();
                assert!(error.starts_with("the tensor `v`, `v.safetensors`: the run has stored a file"), "{error}");
                Ok(())
            })
            .unwrap();
        assert_eq!((asked.record.tensors.len(), asked.record.pictures.len()), (1, 1));
    }
    let log = Log::open(folder.path());
    let run = log.run_folder(&log.list().unwrap()[0].id);
    assert_eq!(fs::read(run.join("v.safetensors")).unwrap(), b"own");
    assert_eq!(log.fsck().unwrap().damage, []);
}

#[test]
fn what_is_stored_again_replaces_what_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let model = Named::new();
    let bench = Bench::new(&model).log_to(folder.path());
    let asked = bench
        .conduct(&Subject::experiment("again", json!({})), |bench| {
            for step in 0..3 {
                bench.tensor("w", &Tensor::from(f64::from(step)))?;
                bench.file("table.csv", format!("{step}").as_bytes())?;
                bench.picture("heads.svg", format!("<svg>{step}</svg>").as_bytes())?;
            }
            Ok(())
        })
        .unwrap();
    let folder = asked.folder.unwrap();
    assert_eq!(fs::read_to_string(folder.join("table.csv")).unwrap(), "2");
    assert_eq!(fs::read_to_string(folder.join("heads.svg")).unwrap(), "<svg>2</svg>");
    assert_eq!(arrakis_bench::read_tensors(&folder.join("w.safetensors")).unwrap()[0].1, Tensor::from(2.0));
    assert_eq!((asked.record.pictures.len(), asked.record.files.len()), (1, 3));
    assert_eq!(asked.record.tensors["w"].digest, blake3::hash(&2.0_f64.to_le_bytes()).to_hex().as_str());
}

/// Draws two parts.
struct Pen;

impl Draw for Pen {
    fn draw(&self, _: &Answer, folder: &Path) -> arrakis_core::Result<Vec<PathBuf>> {
        let files = ["a.svg", "b.svg"].map(|name| folder.join(name));
        for file in &files {
            fs::write(file, "drawn").unwrap();
        }
        Ok(files.to_vec())
    }

    fn reads(&self, _: &PlotSpec, _: &[HookPoint]) -> arrakis_core::Result<Vec<HookPoint>> {
        Ok(Vec::new())
    }

    fn plot(&self, _: &PlotSpec, _: Kept<'_>, _: &Path) -> arrakis_core::Result<()> {
        Ok(())
    }
}

fn answer() -> Answer {
    Answer::new().with("a", Series::new("A", "number", Axis::indices("x", 1), [("a", vec![1.0])]).unwrap())
}

#[test]
fn a_picture_of_an_answer_takes_no_name_of_the_experiments() {
    let folder = tempfile::tempdir().unwrap();
    let model = Named::new();
    let bench = Bench::new(&model).log_to(folder.path()).draw(&Pen);
    let asked = bench
        .conduct(&Subject::experiment("drawn", json!({})), |bench| {
            bench.picture("a.svg", b"own")?;
            bench.answer(&answer())?;
            assert!(bench.picture("b.svg", b"own").is_err());
            Ok(())
        })
        .unwrap();
    let run = asked.folder.unwrap();
    assert_eq!(fs::read(run.join("a.svg")).unwrap(), b"own");
    assert_eq!(fs::read(run.join("b.svg")).unwrap(), b"drawn");
    assert_eq!(asked.record.pictures, ["a.svg", "b.svg"]);
    let [warning] = &asked.record.warnings[..] else { panic!("{:?}", asked.record.warnings) };
    assert_eq!(
        warning,
        "no picture: a picture of the answer, `a.svg`: the run has stored a picture of the experiment's own under that \
         name; choose another"
    );
    assert_eq!(Log::open(folder.path()).fsck().unwrap().damage, []);
}

#[test]
fn two_parts_of_one_name_are_refused() {
    let error = answer().with("a", 1.0).split().unwrap_err().to_string();
    assert_eq!(error, "part `a`: the answer has two of that name; name them apart");
}

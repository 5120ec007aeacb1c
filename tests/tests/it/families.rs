//! Every folder of reference models agrees with transformers, in every case and at every tensor.

use std::path::Path;

use arrakis_core::Model as _;
use arrakis_models::{Decoder, LoadOptions, families, load, parity};
use tch::{Device, Kind};

use crate::fixtures::{self, greatest};
use crate::transformer_lens::{answer, answers};

pub(crate) fn loaded(folder: &Path, kind: Kind) -> Decoder {
    let options = LoadOptions { kind, device: Device::Cpu };
    load(&folder.to_string_lossy(), &options).unwrap_or_else(|error| panic!("`{}`: {error}", folder.display()))
}

#[test]
fn every_folder_agrees_with_transformers() {
    let folders = fixtures::model_folders();
    let mut failures = Vec::new();
    let mut compared = 0;
    for folder in &folders {
        for kind in [Kind::Double, Kind::Float] {
            let model = loaded(folder, kind);
            let bound = parity::bound(kind).expect("both kinds have a bound");
            let comparisons = parity::parity(&model, &folder.join("reference.safetensors"))
                .unwrap_or_else(|error| panic!("`{}`: {error}", folder.display()));
            assert!(!comparisons.is_empty(), "`{}` compared nothing", folder.display());
            compared += comparisons.len();
            for comparison in comparisons.into_iter().filter(|comparison| comparison.greatest > bound) {
                failures.push(format!("{} {kind:?}: {comparison:?}", fixtures::name(folder)));
            }
        }
    }
    let shared = folders.iter().filter(|folder| !folder.starts_with(fixtures::root().join("tests"))).count();
    fixtures::say(&format!(
        "parity: {compared} tensors in {} golden and {shared} shared folders",
        folders.len() - shared
    ));
    assert!(failures.is_empty(), "{} tensors are too far:\n{}", failures.len(), failures.join("\n"));
}

/// Half precision has no bound of its own, since a model may amplify any rounding; but how far transformers in the same
/// kind is from the double precision answer of the same weights says how much this model does. Two runs that round at
/// different places may each be that far off, on either side.
#[test]
fn half_precision_is_as_near_to_the_truth_as_that_of_transformers() {
    let kinds = [("-bf16", Kind::BFloat16), ("-f16", Kind::Half)];
    let mut compared = 0;
    for folder in fixtures::model_folders() {
        let Some((_, kind)) = kinds.iter().find(|(ending, _)| fixtures::name(&folder).ends_with(ending)) else {
            continue;
        };
        let answers = answers(&folder, "reference.safetensors");
        let Some((_, native)) = answers.iter().find(|(name, _)| name == "plain.native.logits") else { continue };
        let yardstick = greatest(native, &answer(&answers, "plain.f64.logits"));
        let model = loaded(&folder, *kind);
        let comparisons = parity::parity(&model, &folder.join("reference.safetensors")).expect("it has native logits");
        for comparison in comparisons {
            assert!(comparison.greatest <= 2.0 * yardstick, "{yardstick:e} and {comparison:?} of {}", folder.display());
            compared += 1;
        }
    }
    assert!(compared > 0 || fixtures::shared().is_none(), "there is no folder in half precision");
}

#[test]
fn every_family_has_a_golden_folder() {
    let folders = fixtures::model_folders();
    let golden = folders.iter().filter(|folder| folder.starts_with(fixtures::root().join("tests")));
    let golden: Vec<String> = golden.map(|folder| fixtures::family(folder)).collect();
    for family in families() {
        assert!(golden.iter().any(|known| known == family), "no folder proves `{family}`");
    }
}

#[test]
fn both_spellings_of_a_config_are_the_same_model() {
    for folder in fixtures::model_folders() {
        let copy = tempfile::tempdir().expect("a temporary folder");
        for entry in std::fs::read_dir(&folder).expect("the folder can be read") {
            let path = entry.expect("and its entries").path();
            std::fs::copy(&path, copy.path().join(path.file_name().unwrap_or_default())).expect("they can be copied");
        }
        std::fs::copy(folder.join("config.v5.json"), copy.path().join("config.json")).expect("there are two spellings");
        let (old, new) = (loaded(&folder, Kind::Float), loaded(copy.path(), Kind::Float));
        // One fixture states another context in its second spelling, which changes no value here.
        let mut dims = new.dims().clone();
        if fixtures::name(&folder) == "llama-mha-minimal-config" {
            dims.context = old.dims().context;
            assert_eq!(*old.dims(), dims);
        } else {
            assert_eq!(old.digest().expect("a digest"), new.digest().expect("a digest"), "`{}`", folder.display());
        }
    }
}

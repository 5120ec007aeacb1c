//! The tools: reference values of TransformerLens and transformers, the identities they report, and bad input.

mod attention;
mod attention_changes;
mod attribution;
mod causal_tracing;
mod factored_matrix;
mod feature_viz;
mod head_composition;
mod induction;
pub(crate) mod input;
mod knowledge;
mod lens;
mod lens_layers;
mod neurons;
mod patching;
mod relations;
mod residual;
mod residual_decomposition;
mod smollm2;
mod sparsity;
mod superposition;
mod surgery;
mod tuned;
mod write_read;

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use arrakis_core::{Context, Error, Prompt, Tool};
use arrakis_models::{Decoder, LoadOptions, families, load};
use tch::{Device, Kind, Tensor};

use crate::{fixtures, transformer_lens};

type Tensors = HashMap<String, Tensor>;

fn loaded(folder: &Path, kind: Kind) -> Decoder {
    let options = LoadOptions { kind, device: Device::Cpu };
    load(&folder.to_string_lossy(), &options).unwrap_or_else(|error| panic!("`{}`: {error}", folder.display()))
}

fn tensors(file: &Path) -> Tensors {
    let read = Tensor::read_safetensors(file).unwrap_or_else(|error| panic!("`{}`: {error}", file.display()));
    read.into_iter().collect()
}

/// A small model of the golden set.
fn golden(name: &str) -> Decoder {
    loaded(&fixtures::root().join("tests/golden").join(name), Kind::Double)
}

/// Every folder that loads, with two rows of its token ids; `what` says in the output what was tried on them.
fn each_folder(what: &str, check: impl Fn(&Decoder, &[Vec<i64>], &str)) {
    let known = |folder: &PathBuf| families().any(|family| family == fixtures::family(folder));
    let folders = fixtures::model_folders().into_iter().filter(known);
    let mut count = 0;
    for folder in folders {
        let model = loaded(&folder, Kind::Double);
        let ids = &tensors(&folder.join("reference.safetensors"))["plain.input_ids"];
        let rows: Vec<Vec<i64>> = (0..2).map(|row| Vec::try_from(ids.get(row)).unwrap()).collect();
        check(&model, &rows, &fixtures::name(&folder));
        count += 1;
    }
    fixtures::say(&format!("{what}: {count} folders"));
    assert!(count > 0);
}

/// The GPT-2 that TransformerLens answered for, with its inputs; none where the shared fixtures are absent.
struct TransformerLens {
    folder: PathBuf,
    model: Decoder,
    inputs: Tensors,
}

impl TransformerLens {
    fn open() -> Option<Self> {
        let Some(folder) = transformer_lens::folder() else {
            fixtures::say("skipped: 0 of 1 folders of TransformerLens' answers are here");
            return None;
        };
        let model = transformer_lens::model(&folder);
        let inputs = tensors(&folder.join("inputs.safetensors"));
        Some(Self { folder, model, inputs })
    }

    fn file(&self, name: &str) -> Tensors {
        tensors(&self.folder.join(format!("{name}.safetensors")))
    }

    fn prompt(&self, name: &str) -> Prompt {
        Prompt::Rows(rows(&self.inputs[name]))
    }

    fn tokens(&self, name: &str) -> arrakis_core::RowTokens {
        let ids: Vec<i64> = Vec::try_from(&self.inputs[name]).unwrap();
        arrakis_core::RowTokens::Each(ids.into_iter().map(Into::into).collect())
    }
}

fn rows(ids: &Tensor) -> Vec<Vec<i64>> {
    (0..ids.size()[0]).map(|row| Vec::try_from(ids.get(row)).unwrap()).collect()
}

/// Asserts that numbers agree with a reference tensor of as many, in its order.
fn assert_close(found: &[f64], expected: &Tensor, bound: f64, what: &str) {
    let expected = arrakis_core::answer::numbers(expected).unwrap();
    assert_eq!(found.len(), expected.len(), "{what}");
    for (place, (found, expected)) in found.iter().zip(&expected).enumerate() {
        let distance = (found - expected).abs();
        assert!(distance <= bound, "{what}, entry {place}: {found} where {expected} is right ({distance:e})");
    }
}

fn assert_small(residual: f64, bound: f64, what: &str) {
    assert!(residual <= bound, "{what}: {residual:e}");
}

/// The message of the error that a tool must give.
fn refused<T: Tool>(tool: &T, model: &Decoder) -> String {
    message(tool.run(&Context::new(model)))
}

fn message<T>(result: Result<T, Error>) -> String {
    match result {
        Ok(_) => panic!("this should have been refused"),
        Err(error) => error.to_string(),
    }
}

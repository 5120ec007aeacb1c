//! Activations by TransformerLens' names and in its shapes, against TransformerLens itself.

use std::path::PathBuf;

use arrakis_core::{Model, ModelExt, Site, Tokens, Weight};
use arrakis_models::{Decoder, LoadOptions, load};
use safetensors::SafeTensors;
use tch::{Device, Kind, Tensor};

use crate::fixtures::{self, greatest};

/// The folder of the tiny GPT-2 of TransformerLens' answers, where the shared fixtures are.
pub(crate) fn folder() -> Option<PathBuf> {
    Some(fixtures::shared()?.join("fixtures/transformer_lens/gpt2"))
}

/// That model, in double.
pub(crate) fn model(folder: &std::path::Path) -> Decoder {
    load(&folder.to_string_lossy(), &LoadOptions { kind: Kind::Double, device: Device::Cpu }).unwrap()
}

/// The tensors of a file of answers.
pub(crate) fn answers(folder: &std::path::Path, file: &str) -> Vec<(String, Tensor)> {
    let bytes = std::fs::read(folder.join(file)).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let read = |name: &str| {
        let view = tensors.tensor(name).unwrap();
        let shape: Vec<i64> = view.shape().iter().map(|len| *len as i64).collect();
        let kind = match view.dtype() {
            safetensors::Dtype::F64 => Kind::Double,
            safetensors::Dtype::F32 => Kind::Float,
            safetensors::Dtype::BF16 => Kind::BFloat16,
            safetensors::Dtype::F16 => Kind::Half,
            safetensors::Dtype::I64 => Kind::Int64,
            other => panic!("`{name}` is {other:?}"),
        };
        Tensor::from_data_size(view.data(), &shape, kind)
    };
    tensors.names().iter().map(|name| ((*name).to_owned(), read(name))).collect()
}

/// One tensor of a file of answers.
pub(crate) fn answer(answers: &[(String, Tensor)], name: &str) -> Tensor {
    let found = answers.iter().find(|(known, _)| known == name);
    found.unwrap_or_else(|| panic!("there is no answer `{name}`")).1.shallow_clone()
}

#[test]
fn every_activation_agrees_by_name() {
    let Some(folder) = folder() else { return };
    let model = model(&folder);
    let inputs = answers(&folder, "inputs.safetensors");
    let tokens = Tokens::from_tensor(&answer(&inputs, "clean_tokens")).unwrap();
    let run = model.trace(&tokens).keep("*").run().unwrap();
    let (weight, bias) = (Weight::LN_FINAL_W.global(), Weight::LN_FINAL_B.global());
    let (weight, bias) = (model.weight(weight).unwrap(), model.weight(bias).unwrap());
    let unembed_in = &run.cache[Site::LN_FINAL_NORMALIZED] * weight + bias;
    let mut compared = 0;
    for (name, wanted) in answers(&folder, "activations.raw.safetensors") {
        let found = match name.as_str() {
            "logits" | "unembed.hook_out" => run.logits().unwrap(),
            "unembed.hook_in" => &unembed_in,
            "logits_corrupted" | "loss_per_token" => continue,
            name => run.cache.named(name).unwrap(),
        };
        let apart = greatest(found, &wanted);
        assert!(apart <= 1e-10, "{name}: {apart:e}");
        compared += 1;
    }
    assert!(compared > 60, "only {compared} activations were compared");
    fixtures::say(&format!("TransformerLens: {compared} activations"));
}

#[test]
fn gradients_agree_by_name() {
    let Some(folder) = folder() else { return };
    let model = model(&folder);
    let inputs = answers(&folder, "inputs.safetensors");
    let patching = answers(&folder, "patching.safetensors");
    let tokens = Tokens::from_tensor(&answer(&inputs, "corrupted_tokens")).unwrap();
    let (right, wrong) = (answer(&inputs, "answer_tokens"), answer(&inputs, "wrong_tokens"));
    let (clean, corrupted) = (answer(&patching, "clean_logit_diff"), answer(&patching, "corrupted_logit_diff"));
    let metric = |logits: &Tensor| {
        let last = logits.select(1, -1);
        let pick = |tokens: &Tensor| last.gather(1, &tokens.unsqueeze(1), false).squeeze();
        let difference = (pick(&right) - pick(&wrong)).mean(Kind::Double);
        Ok((difference - &corrupted) / (&clean - &corrupted))
    };
    let run = model.trace(&tokens).keep("*").gradients(metric).run().unwrap();
    let mut compared = 0;
    for (name, wanted) in patching.iter().filter_map(|(name, value)| Some((name.strip_prefix("grad.")?, value))) {
        let apart = greatest(run.gradients.named(name).unwrap(), wanted);
        assert!(apart <= 1e-10, "{name}: {apart:e}");
        compared += 1;
    }
    assert!(compared > 0, "no gradient was compared");
}

#[test]
fn weights_have_the_names_and_orientation_of_transformer_lens() {
    let Some(folder) = folder() else { return };
    let model = model(&folder);
    let (q, k) = (model.weight(Weight::Q.at(1)).unwrap(), model.weight(Weight::K.at(1)).unwrap());
    assert_eq!(q.size(), [4, 32, 8]);
    let factored = answers(&folder, "factored.safetensors");
    let wanted = factored.iter().find(|(name, _)| name == "raw.QK.AB").map(|(_, value)| value.get(1));
    if let Some(wanted) = wanted {
        assert!(greatest(&q.matmul(&k.transpose(1, 2)), &wanted) <= 1e-10);
    }
}

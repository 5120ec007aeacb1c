//! `logit_lens.tuned_train`, `logit_lens.tuned`

use std::path::PathBuf;
use std::sync::OnceLock;

use arrakis_core::{Context, Corpus, Model, ModelExt as _, Prompt, Site, Stream, Tokens, Tool as _, Weight};
use arrakis_tools::{LogitLens, TunedLens, TunedLensTraining};
use tch::{Kind, Tensor};

use super::{assert_close, assert_small, each_folder, golden, loaded, message, refused};
use crate::fixtures;

/// A file that tests may write, one for each name.
pub(super) fn scratch(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("tuned-{name}.safetensors"))
}

/// An untrained tuned lens of the golden GPT-2.
pub(super) fn untrained() -> PathBuf {
    static FILE: OnceLock<PathBuf> = OnceLock::new();
    let make = || {
        let file = scratch("untrained");
        TunedLensTraining { steps: 0, ..TunedLensTraining::new(corpus(61, 4), &file) }
            .run(&Context::new(&golden("gpt2")))
            .unwrap();
        file
    };
    FILE.get_or_init(make).clone()
}

/// Documents of random tokens, of several lengths.
fn corpus(vocab: u64, documents: usize) -> Corpus {
    let mut stream = Stream::new(3, "documents");
    let document =
        |place: usize, stream: &mut Stream| (0..12 + place % 3).map(|_| stream.below(vocab) as i64).collect();
    Corpus::Rows((0..documents).map(|place| document(place, &mut stream)).collect())
}

#[test]
fn untrained_it_is_the_logit_lens() {
    let model = golden("gpt2");
    let cx = Context::new(&model);
    let prompt = Prompt::Rows(vec![vec![9, 3, 17, 40], vec![5, 8]]);
    let mut plain = LogitLens::new(prompt.clone());
    (plain.position, plain.targets) = (Some(1), vec![5.into()]);
    let mut tuned = TunedLens::new(prompt, untrained());
    (tuned.position, tuned.targets) = (Some(1), vec![5.into()]);
    let (plain, tuned) = (plain.run(&cx).unwrap(), tuned.run(&cx).unwrap());
    for (plain, tuned) in plain.rows.iter().zip(&tuned.rows) {
        // Bit for bit: zeros are added to the stream, which is read by the same lens.
        assert_eq!(plain.grid.values, tuned.lens.grid.values);
        assert_eq!(plain.grid.cells, tuned.lens.grid.cells);
        assert_eq!(
            plain.target_probability.as_ref().unwrap().lines,
            tuned.lens.target_probability.as_ref().unwrap().lines
        );
        assert_eq!(tuned.divergence.lines[0].values, tuned.divergence.lines[1].values);
        assert_small(tuned.lens.logit_gap, 1e-10, "the end is the model");
    }
}

#[test]
fn training_lessens_the_divergence_on_every_layer() {
    let model = golden("gpt2");
    let cx = Context::new(&model);
    let file = scratch("trained");
    let mut asked = TunedLensTraining::new(corpus(61, 40), &file);
    (asked.steps, asked.learning_rate, asked.batch) = (150, 0.01, 4);
    let found = asked.run(&cx).unwrap();
    assert_eq!(found.identity_gap, 0.0);
    assert!(found.after < 0.8 * found.before, "{} nats before, {} after", found.before, found.after);
    let [before, after] = [0, 1].map(|line| &found.divergence.lines[line].values);
    assert!(before.iter().zip(after).all(|(before, after)| after < before), "{before:?} {after:?}");
    assert_eq!((found.windows, found.held_out), (36, 4));
    fixtures::say(&format!("tuned lens: {:.4} nats before training, {:.4} after", found.before, found.after));

    // What is written is what was measured, and the same seed gives the same file.
    let bytes = std::fs::read(&file).unwrap();
    asked.run(&Context::new(&model).with_memory_limit(u64::MAX)).unwrap();
    assert_eq!(std::fs::read(&file).unwrap(), bytes);
    asked.run(&cx.with_seed(1)).unwrap();
    assert_ne!(std::fs::read(&file).unwrap(), bytes);
    let found = TunedLens::new(Prompt::Ids(vec![9, 3, 17, 40, 5]), &file).run(&cx).unwrap().rows.remove(0);
    let [tuned, plain] = [0, 1].map(|line| &found.divergence.lines[line].values);
    assert!(tuned.iter().sum::<f64>() < plain.iter().sum(), "{tuned:?} {plain:?}");
    assert_small(found.lens.logit_gap, 1e-10, "the end is the model");
}

#[test]
fn a_step_follows_the_gradient_of_finite_differences() {
    // One step of Adam from zero moves each number by the rate against the sign of its gradient.
    let model = golden("llama");
    let file = scratch("one-step");
    let rows = vec![vec![9, 3, 17, 40]; 2];
    let rate = 1e-3;
    let asked = TunedLensTraining {
        steps: 1,
        batch: 1,
        learning_rate: rate,
        ..TunedLensTraining::new(Corpus::Rows(rows), &file)
    };
    asked.run(&Context::new(&model)).unwrap();
    let tensors = super::tensors(&file);
    let tokens = Tokens::from_ids(&[9, 3, 17, 40]).unwrap();
    let run = model.trace(&tokens).keep(Site::RESID_PRE).run().unwrap();
    let target = run.logits().unwrap().log_softmax(-1, Kind::Double);
    let divergence = |stream: &Tensor| {
        let found = model.unembed(stream).unwrap().log_softmax(-1, Kind::Double);
        (target.exp() * (&target - found)).sum(Kind::Double).double_value(&[])
    };
    for (layer, place) in [(0, 3), (1, 0), (1, 7)] {
        let stream = &run.cache[Site::RESID_PRE.at(layer)];
        let nudge = Tensor::zeros([model.dims().d_model as i64], (Kind::Double, tch::Device::Cpu));
        let _ = nudge.get(place).fill_(1e-5);
        let slope = divergence(&(stream + &nudge)) - divergence(&(stream - &nudge));
        let bias = tensors["translators.bias"].double_value(&[layer as i64, place]);
        assert!((bias + rate * slope.signum()).abs() < 1e-6, "layer {layer}, entry {place}: {bias}, slope {slope}");
    }
}

#[test]
fn pieces_and_padding_change_nothing() {
    let model = golden("llama");
    let file = scratch("pieces");
    let mut asked = TunedLensTraining::new(corpus(61, 12), &file);
    (asked.steps, asked.batch) = (3, 4);
    let whole = asked.run(&Context::new(&model)).unwrap();
    let pieces = asked.run(&Context::new(&model).with_memory_limit(1)).unwrap();
    let (whole, pieces) = (&whole.divergence.lines[1].values, &pieces.divergence.lines[1].values);
    assert_close(whole, &Tensor::from_slice(pieces), 1e-12, "in pieces of one token");
}

#[test]
fn every_family_is_read_through_its_own_translators() {
    let file = scratch("families");
    each_folder("tuned lens", |model, rows, name| {
        let corpus = Corpus::Rows(vec![rows[0].clone(), rows[1].clone(), rows[0][..3].to_vec()]);
        let cx = Context::new(model);
        let found = TunedLensTraining { steps: 1, ..TunedLensTraining::new(corpus, &file) }.run(&cx).unwrap();
        assert_small(found.identity_gap, 1e-9, name);
        let prompt = Prompt::Rows(vec![rows[0].clone(), rows[1][..7].to_vec()]);
        for row in TunedLens::new(prompt, &file).run(&cx).unwrap().rows {
            assert_small(row.lens.logit_gap, 1e-9, name);
        }
    });
}

#[test]
fn half_precision_is_trained_in_single() {
    let folder = fixtures::root().join("tests/golden/llama");
    let model = loaded(&folder, Kind::BFloat16);
    let cx = Context::new(&model);
    let file = scratch("half");
    let asked = TunedLensTraining { steps: 3, ..TunedLensTraining::new(corpus(61, 4), &file) };
    assert!(asked.run(&cx).unwrap().after.is_finite());
    assert_eq!(super::tensors(&file)["translators.weight"].kind(), Kind::Float);
    assert!(TunedLens::new(Prompt::Ids(vec![9, 3]), &file).run(&cx).is_ok());
}

#[test]
fn bad_input_is_named() {
    let model = golden("gpt2");
    let prompt = Prompt::Ids(vec![9, 3, 17, 40]);
    let asked = TunedLensTraining::new(corpus(61, 4), scratch("bad"));
    let ask = |change: &dyn Fn(&mut TunedLensTraining)| {
        let mut asked = asked.clone();
        change(&mut asked);
        refused(&asked, &model)
    };
    assert!(ask(&|asked| asked.window = 0).contains("window 0"));
    assert!(ask(&|asked| asked.batch = 0).contains("batch 0"));
    assert!(ask(&|asked| asked.held_out = 1.0).contains("held_out 1"));
    assert!(ask(&|asked| asked.learning_rate = f64::NAN).contains("learning_rate NaN"));
    assert!(ask(&|asked| asked.corpus = Corpus::Rows(vec![])).contains("it holds no document"));
    assert!(ask(&|asked| asked.corpus = Corpus::Rows(vec![vec![1, 2]])).contains("give more text"));
    assert!(ask(&|asked| asked.file = "no/such/folder/a.safetensors".into()).contains("its folder does not exist"));

    let tuned = TunedLens::new(prompt, untrained());
    let other = message(tuned.run(&Context::new(&golden("llama"))));
    assert!(other.contains("it was trained for another model"), "{other}");
    let edited = model.weight(Weight::OUT.at(0)).unwrap();
    let edited = model.with_weights(vec![(Weight::OUT.at(0), edited * 2.0)]).unwrap();
    assert!(message(tuned.run(&Context::new(edited.as_ref()))).contains("another model"));
    let absent = TunedLens { file: "absent.safetensors".into(), ..tuned.clone() };
    assert!(refused(&absent, &model).contains("there is no such file; train it"));
    let empty = scratch("empty");
    std::fs::write(&empty, b"not a file of tensors").unwrap();
    assert!(refused(&TunedLens { file: empty.clone(), ..tuned.clone() }, &model).contains("tuned-empty.safetensors"));
    let digest = Tensor::from_slice(model.digest().unwrap().as_bytes());
    let write = |weight: &Tensor| {
        let bias = Tensor::zeros([2, model.dims().d_model as i64], (Kind::Double, tch::Device::Cpu));
        let tensors = [("translators.weight", weight), ("translators.bias", &bias), ("model_digest", &digest)];
        Tensor::write_safetensors(&tensors, &empty).unwrap();
        refused(&TunedLens { file: empty.clone(), ..tuned.clone() }, &model)
    };
    assert!(write(&Tensor::zeros([2, 3, 3], (Kind::Double, tch::Device::Cpu))).contains("shape [2, 3, 3]"));
    let d_model = model.dims().d_model as i64;
    let nan = Tensor::full([2, d_model, d_model], f64::NAN, (Kind::Double, tch::Device::Cpu));
    assert!(write(&nan).contains("not finite"));
    assert!(refused(&TunedLens { position: Some(4), ..tuned.clone() }, &model).contains("position 4"));
    assert!(refused(&TunedLens { top: 62, ..tuned }, &model).contains("top 62"));
}

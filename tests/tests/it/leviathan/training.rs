//! Training: schedule, optimiser, resuming, experts, and what cannot be trained on.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use arrakis_bench::{Bench, Log, Status, Subject};
use arrakis_core::{Host, Model, ModelExt, Silent, Tokens};
use arrakis_leviathan::compare::{Contestant, Outcome, compare, curves};
use arrakis_leviathan::sites::{ROUTER, ROUTER_SCORES};
use arrakis_leviathan::{
    Config, Cut, Error, FeedForward, Folder, Lags, Leviathan, Mixer, Precision, Text, Trainer, Training,
    leviathan_train, metrics,
};
use arrakis_models::LoadOptions;

use tch::Kind;

use super::{config, correlation};

const PATH: &str = "a text";

static TEXT: LazyLock<Vec<String>> =
    LazyLock::new(|| (0..120).map(|line| format!("the {} and the {} again\n", line % 7, line % 3)).collect());

fn text() -> Text {
    Text::of(Path::new(PATH), &TEXT.concat(), Cut::Characters).unwrap()
}

fn small(mixer: Mixer, text: &Text) -> Config {
    Config { vocab: text.vocabulary.len(), context: 16, ..config(mixer) }
}

fn training(seeds: &[u64], steps: u64) -> Training {
    Training {
        seeds: seeds.to_vec(),
        steps,
        batch: 4,
        warm_up: 2,
        evaluate_every: 3,
        windows: 4,
        ..Training::default()
    }
}

/// Stops after some steps, as a hand on the keyboard does.
struct Stopping(Cell<u64>);

impl Host for Stopping {
    fn cancelled(&self) -> bool {
        let left = self.0.get();
        self.0.set(left.saturating_sub(1));
        left == 0
    }
}

fn weights(folder: &Path) -> String {
    Leviathan::load(&folder.to_string_lossy(), &LoadOptions::default()).unwrap().digest().unwrap()
}

#[test]
fn a_stopped_training_goes_on_to_the_same_weights_bit_for_bit() {
    let text = text();
    let config = small(correlation(3, Lags::Separable), &text);
    let options = Training { dropout: 0.2, ..training(&[1, 2], 8) };
    let scratch = tempfile::tempdir().unwrap();
    let whole = Folder::open(scratch.path().join("whole")).unwrap();
    let new = || Trainer::new(&config, &options, &text, Path::new(PATH)).unwrap();
    let trained = new().run(&whole, &Silent).unwrap();
    let parts = Folder::open(scratch.path().join("parts")).unwrap();
    for stop in [1, 4] {
        let stopped = new().run(&parts, &Stopping(Cell::new(stop))).unwrap_err();
        assert_eq!(stopped.to_string(), "cancelled");
    }
    let resumed = new().run(&parts, &Silent).unwrap();
    assert_eq!(trained.nats, resumed.nats);
    for seed in [1, 2] {
        let of = |folder: &Folder| weights(&folder.model(&options, seed));
        assert_eq!(of(&whole), of(&parts), "seed {seed}");
    }
    let lines = |folder: &Folder| metrics::read(folder.path()).unwrap();
    let numbers =
        |folder: &Folder| lines(folder).into_iter().map(|line| (line.step, line.validation_nats)).collect::<Vec<_>>();
    assert_eq!(numbers(&whole), numbers(&parts));
    assert_eq!(lines(&whole).iter().map(|line| line.step).collect::<Vec<u64>>(), [3, 6, 8]);

    let other = Training { rate: 1e-4, ..options.clone() };
    let error = Trainer::new(&config, &other, &text, Path::new(PATH)).unwrap().run(&whole, &Silent).unwrap_err();
    assert!(error.to_string().contains("training.rate"), "{error}");
    let other = Config { d_mlp: 30, ..config.clone() };
    let error = Trainer::new(&other, &options, &text, Path::new(PATH)).unwrap().run(&whole, &Silent).unwrap_err();
    assert!(error.to_string().contains("model.d_mlp"), "{error}");
    let (state, claim) = (whole.path().join("state.safetensors"), whole.path().join("training.json"));
    let claimed = std::fs::read(&claim).unwrap();
    std::fs::remove_file(&claim).unwrap();
    assert!(new().run(&whole, &Silent).unwrap_err().to_string().contains("is not there"));
    std::fs::write(&claim, claimed).unwrap();
    std::fs::write(&state, &std::fs::read(&state).unwrap()[..100]).unwrap();
    assert!(matches!(new().run(&whole, &Silent), Err(Error::Bench(_))));
}

/// The text of [`text`] in a file.
fn written(folder: &Path) -> PathBuf {
    let path = folder.join("text.txt");
    std::fs::write(&path, TEXT.concat()).unwrap();
    path
}

#[test]
fn a_training_is_a_run_with_its_losses_as_metrics() {
    let text = text();
    let config = small(correlation(3, Lags::Separable), &text);
    let options = training(&[1, 2], 8);
    let scratch = tempfile::tempdir().unwrap();
    let (log, path) = (Log::open(scratch.path().join("log")), written(scratch.path()));
    let folder = scratch.path().join("run");
    let untrained = Leviathan::new(&config, 1).unwrap();
    let stopping = Stopping(Cell::new(4));
    let bench = Bench::new(&untrained).named("untrained").logged(log.clone());
    let (cut, precision) = (Cut::Characters, Precision::Float32);
    let conduct =
        |bench: &Bench<'_>| leviathan_train(bench, &path, cut, &config, &options, precision, Some(folder.clone()));
    let stopped = conduct(&bench.clone().host(&stopping)).unwrap_err();
    assert!(matches!(stopped, Error::Core(arrakis_core::Error::Cancelled)), "{stopped}");
    let trained = conduct(&bench).unwrap();
    let contestant = |name: &str, mixer| Contestant {
        name: name.into(),
        config: small(mixer, &text),
        training: training(&[1, 2], 3),
    };
    let contestants = [contestant("attention", Mixer::Attention), contestant("lags", correlation(2, Lags::Diagonal))];
    let subject = Subject::experiment("both", serde_json::json!({}));
    let both =
        |bench: &Bench<'_>| Ok(compare(&contestants, (&path, cut), precision, &scratch.path().join("both"), bench)?);
    let compared = bench.conduct(&subject, both).unwrap();
    // What the last of them is refused for is said before the first is trained.
    let last = [contestants[0].clone(), contestant("published", Mixer::Original)];
    let refused = scratch.path().join("refused");
    let error = compare(&last, (&path, cut), Precision::Bfloat16, &refused, &bench).unwrap_err().to_string();
    assert!(error.contains("Fourier") && !refused.exists(), "{error}");
    assert_eq!(compared.answer.len(), 2);

    let records = log.list().unwrap();
    let named = |name: &str| records.iter().filter(|record| record.name == name).collect::<Vec<_>>();
    let runs = named("leviathan_train");
    assert_eq!(runs.len(), 4);
    let last_of = |status| *runs.iter().find(|run| run.parent.is_none() && run.status == status).unwrap();
    let (stopped, whole) = (last_of(Status::Interrupted), last_of(Status::Completed));
    assert_eq!(stopped.key, whole.key, "the same training");
    let recorded = log.metrics(&whole.id).unwrap();
    let last = recorded.iter().rfind(|metric| metric.name == "validation nats, seed 2").unwrap();
    let (step, lines) = (last.step, metrics::read(&folder).unwrap());
    assert_eq!((step, last.value), (8, lines.last().unwrap().validation_nats[1]));
    let logged = log.result::<serde_json::Value>(&whole.id).unwrap();
    assert_eq!(logged["nats"][0], trained.nats[0]);
    assert_eq!(logged["models"], serde_json::json!([weights(&folder.join("seed-1")), weights(&folder.join("seed-2"))]));
    assert_eq!(log.children(&compared.record.id).unwrap().len(), 2);
    let begun = Folder::untrained(&folder, &LoadOptions::default()).unwrap();
    assert_eq!(begun.digest().unwrap(), untrained.digest().unwrap());

    // The run went on from one that was stopped; done again it begins anew, and leaves the folder alone.
    std::fs::remove_dir_all(&folder).unwrap();
    let again = bench.rerun(whole).unwrap();
    assert!(!folder.exists());
    let verdict = log.verify(&whole.id, &again.record.id, 0.0).unwrap();
    assert!(verdict.agrees(), "{verdict}");
}

#[test]
fn every_model_ends_by_its_own_evaluations() {
    let text = text();
    let config = small(Mixer::Attention, &text);
    let options = |seeds: &[u64]| Training { rate: 0.1, patience: Some(1), ..training(seeds, 40) };
    let run = |seeds: &[u64]| {
        let folder = tempfile::tempdir().unwrap();
        let mut trainer = Trainer::new(&config, &options(seeds), &text, Path::new(PATH)).unwrap();
        trainer.run(&Folder::open(folder.path()).unwrap(), &Silent).unwrap()
    };
    let alone = [1, 2, 3].map(|seed| run(&[seed]));
    let steps = alone.each_ref().map(|trained| trained.steps);
    assert!(steps.iter().any(|step| *step < 40) && steps.iter().any(|step| *step != steps[0]), "{steps:?}");
    let together = run(&[1, 2, 3]);
    assert_eq!(together.models, alone.each_ref().map(|trained| trained.models[0].clone()));
    assert_eq!(together.steps, *steps.iter().max().unwrap());

    let line = |step| metrics::Line {
        step,
        seconds: 1.0,
        rate: 0.1,
        training_nats: vec![1.0],
        validation_nats: vec![step as f64],
        validation_bits_per_character: vec![1.0],
    };
    let outcome = |name: &str, steps: &[u64]| Outcome {
        name: name.into(),
        trained: alone[0].clone(),
        lines: steps.iter().map(|step| line(*step)).collect(),
    };
    let curves = curves(&[outcome("long", &[3, 6, 9]), outcome("short", &[3, 8])]).unwrap();
    assert_eq!(curves.axis.labels, ["3", "6", "8", "9"]);
    assert_eq!(curves.lines[0].values[..2], [3.0, 6.0]);
    assert!(curves.lines[0].values[2].is_nan() && curves.lines[1].values[1].is_nan());
    assert_eq!(curves.lines[1].values[2].to_bits(), 8.0_f64.to_bits());
}

#[test]
fn one_expert_of_several_learns_whom_to_take_from_the_text() {
    let text = text();
    let mixture = FeedForward::Mixture { experts: 3, top_k: 1 };
    let config = Config { feed_forward: mixture, ..small(Mixer::Attention, &text) };
    let model = super::model(&config, 3, Kind::Double);
    let tokens = Tokens::from_ids(&[1, 4, 2, 7, 5, 3]).unwrap();
    let run = model
        .trace(&tokens)
        .keep(ROUTER_SCORES)
        .keep(ROUTER)
        .gradients(|logits| Ok(logits.f_square()?.f_sum(None::<Kind>)?))
        .run()
        .unwrap();
    let router = &run.cache[ROUTER.at(0)];
    let used = router.ne(0.0).sum_dim_intlist(-1, false, Kind::Int64);
    assert!(used.eq(1).all().int64_value(&[]) == 1, "one expert of a position");
    assert!(router.max().double_value(&[]) < 1.0, "it counts by its part of the softmax over all");
    let gradient = &run.gradients[ROUTER_SCORES.at(0)];
    assert!(gradient.abs().max().double_value(&[]) > 1e-6, "{gradient:?}");
}

#[test]
fn bfloat16_learns_as_single_precision_does() {
    let text = text();
    let config = small(correlation(3, Lags::Separable), &text);
    let options = Training { rate: 1e-2, ..training(&[1], 30) };
    let losses = |kind| {
        let load = LoadOptions { kind, ..LoadOptions::default() };
        let mut trainer = Trainer::on(&config, &options, (&text, Path::new(PATH)), &load).unwrap();
        (0..30).map(|_| trainer.step().unwrap()[0]).collect::<Vec<f64>>()
    };
    let (double, single, half) = (losses(Kind::Double), losses(Kind::Float), losses(Kind::BFloat16));
    assert!(half[29] < half[0] - 0.8, "{half:?}");
    for step in 0..5 {
        assert!((single[step] - double[step]).abs() < 1e-5, "step {step}: {} and {}", single[step], double[step]);
        assert!((half[step] - single[step]).abs() < 0.02, "step {step}: {} and {}", half[step], single[step]);
    }
    let load = LoadOptions { kind: Kind::Half, ..LoadOptions::default() };
    let refused = Trainer::on(&config, &options, (&text, Path::new(PATH)), &load).unwrap_err();
    assert!(refused.to_string().contains("small gradients"), "{refused}");
    let load = LoadOptions { kind: Kind::BFloat16, ..load };
    let published = Config { mixer: Mixer::Original, ..config };
    let refused = Trainer::on(&published, &options, (&text, Path::new(PATH)), &load).unwrap_err();
    assert!(refused.to_string().contains("Fourier"), "{refused}");
}

#[test]
fn a_model_does_not_depend_on_those_trained_beside_it() {
    let text = text();
    let mixture = FeedForward::Mixture { experts: 3, top_k: 1 };
    let configs = [
        small(Mixer::Attention, &text),
        small(correlation(3, Lags::Diagonal), &text),
        Config { feed_forward: mixture, ..small(Mixer::Involution { kernel: 3 }, &text) },
    ];
    for config in configs {
        let run = |seeds: &[u64]| {
            let options = Training { dropout: 0.1, ..training(seeds, 4) };
            let mut trainer = Trainer::new(&config, &options, &text, Path::new(PATH)).unwrap();
            (0..4).map(|_| trainer.step().unwrap()).collect::<Vec<Vec<f64>>>()
        };
        let (both, first, second) = (run(&[4, 9]), run(&[4]), run(&[9]));
        for (step, losses) in both.iter().enumerate() {
            assert_eq!(losses[..], [first[step][0], second[step][0]], "{:?}, step {step}", config.mixer);
        }
        assert!((both[0][0] - (config.vocab as f64).ln()).abs() < 0.1, "an untrained model knows nothing");
    }
}

#[test]
fn every_mixer_and_feed_forward_learns() {
    let text = text();
    for mixer in super::causal_mixers() {
        for feed_forward in [FeedForward::Dense, FeedForward::Mixture { experts: 2, top_k: 1 }] {
            let config = Config { feed_forward, n_layers: 1, ..small(mixer, &text) };
            let options = Training { rate: 1e-2, ..training(&[1], 40) };
            let mut trainer = Trainer::new(&config, &options, &text, Path::new(PATH)).unwrap();
            let first = trainer.step().unwrap()[0];
            let last = (1..40).map(|_| trainer.step().unwrap()[0]).last().unwrap();
            assert!(last < first - 0.8, "{mixer} {feed_forward}: {first} to {last}");
        }
    }
}

#[test]
fn a_number_that_goes_wrong_stops_the_training_and_is_named() {
    let text = text();
    let options = Training { rate: 1e30, warm_up: 0, clip: 1e30, ..training(&[3, 5], 20) };
    let config = small(correlation(3, Lags::Diagonal), &text);
    let mut trainer = Trainer::new(&config, &options, &text, Path::new(PATH)).unwrap();
    let error = (0..20).find_map(|_| trainer.step().err()).expect("it cannot go well");
    let Error::NotFinite { step, seed, ref place } = error else { panic!("{error}") };
    assert!(step > 0 && [3, 5].contains(&seed) && place.contains("blocks."), "{error}");
}

#[test]
fn a_training_without_progress_ends_early() {
    let text = text();
    let options = Training { rate: 1e-12, patience: Some(2), ..training(&[1], 1000) };
    let config = Config { n_layers: 1, ..small(Mixer::Attention, &text) };
    let scratch = tempfile::tempdir().unwrap();
    let folder = Folder::open(scratch.path()).unwrap();
    let trained = Trainer::new(&config, &options, &text, Path::new(PATH)).unwrap().run(&folder, &Silent).unwrap();
    assert!(trained.steps < 100, "{}", trained.steps);
}

#[test]
fn the_rate_rises_and_falls() {
    let options = Training { steps: 100, warm_up: 10, rate: 1.0, least_rate: 0.1, ..Training::default() };
    let rates: Vec<f64> = (0..100).map(|step| options.rate_at(step)).collect();
    assert!((rates[0] - 0.1).abs() < 1e-12 && (rates[9] - 1.0).abs() < 1e-12 && (rates[10] - 1.0).abs() < 1e-12);
    assert!((rates[55] - 0.55).abs() < 1e-12, "{}", rates[55]);
    assert!(rates[99] > 0.1 && rates[99] < 0.101);
}

#[test]
fn texts_and_trainings_that_make_no_sense_are_refused_by_name() {
    let read = |bytes: &[u8], cut: Cut| {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), bytes).unwrap();
        Text::read(file.path(), cut).unwrap_err().to_string()
    };
    assert!(read(b"", Cut::Characters).contains("0 characters are too few"));
    assert!(read(b"aaaaaaaaaaaaaaaaaaaa", Cut::Characters).contains("fewer than two tokens"));
    assert!(read(b"abc\xff\xfe", Cut::Characters).contains("byte 3 is not UTF-8"));
    assert!(Text::read(Path::new("no such text"), Cut::Characters).unwrap_err().to_string().contains("no such text"));
    let tiny = Text::of(Path::new(PATH), "abcabcabcabc", Cut::Characters).unwrap();
    let refused = |config: &Config, training: &Training, text: &Text| {
        Trainer::new(config, training, text, Path::new(PATH)).unwrap_err().to_string()
    };
    let plain = training(&[1], 5);
    assert!(refused(&small(Mixer::Attention, &tiny), &plain, &tiny).contains("a window of 16 needs one more"));
    let text = text();
    let config = small(Mixer::Attention, &text);
    assert!(refused(&Config { vocab: 5, ..config.clone() }, &plain, &text).contains("vocab"));
    for (wrong, name) in [
        (Training { seeds: vec![], ..plain.clone() }, "seeds"),
        (Training { seeds: vec![1, 1], ..plain.clone() }, "seeds"),
        (Training { rate: f64::NAN, ..plain.clone() }, "rate"),
        (Training { dropout: 1.0, ..plain.clone() }, "dropout"),
        (Training { warm_up: 6, ..plain.clone() }, "warm_up"),
        (Training { batch: 0, ..plain.clone() }, "batch"),
    ] {
        assert!(refused(&config, &wrong, &text).contains(name), "{name}");
    }
    let blocked = tempfile::NamedTempFile::new().unwrap();
    assert!(Folder::open(blocked.path().join("below")).unwrap_err().to_string().contains("cannot make"));
}

#[test]
fn characters_and_pairs_read_back_what_they_cut() {
    let words = "the cat sat on the mat, the cat said; \u{e9}t\u{e9} and snow \u{2603}.\n\n".repeat(30);
    let mut digests = BTreeSet::new();
    for cut in [Cut::Characters, Cut::Bpe(300)] {
        let text = Text::of(Path::new(PATH), &words, cut).unwrap();
        let vocabulary = &text.vocabulary;
        let ids = vocabulary.encode(&words).unwrap();
        let config = Config { vocab: vocabulary.len(), ..config(Mixer::Attention) };
        let scratch = tempfile::tempdir().unwrap();
        let folder = Folder::open(scratch.path()).unwrap();
        let options = training(&[1], 2);
        Trainer::new(&config, &options, &text, Path::new(PATH)).unwrap().run(&folder, &Silent).unwrap();
        let model = Leviathan::load(&folder.model(&options, 1).to_string_lossy(), &LoadOptions::default()).unwrap();
        assert_eq!(model.decode(&ids).unwrap(), words, "{cut}");
        assert_eq!(model.encode(&words).unwrap(), ids, "{cut}");
        digests.insert(model.tokenizer_digest().unwrap().expect("it reads texts"));
        assert_eq!(cut.to_string().parse::<Cut>().unwrap(), cut);
        match cut {
            Cut::Characters => {
                assert!((text.characters_per_token - 1.0).abs() < 1e-12);
                assert!(model.encode("never seen: z").is_err());
            }
            Cut::Bpe(_) => assert!(text.characters_per_token > 2.0),
        }
    }
    assert_eq!(digests.len(), 2, "runs tell tokenizers apart");
}

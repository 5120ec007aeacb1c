//! What lags are for: how early heads of both kinds of model learn to look back and to copy, with one block and with two.
//!
//! `cargo run --release -p arrakis --example mechanism -- [FOLDER]` trains small models on strings of random letters that
//! are each written twice, where only copying helps, asks Arrakis' own tools every few steps, and writes what it found to
//! the folder (`mechanism` if there is none) as a run and as pictures. It takes a few minutes; [`docs/leviathan.md`] tells
//! what came of it.

use std::fs;
use std::path::{Path, PathBuf};

use arrakis::core::{PlotSpec, Stream, loss_by_row};
use arrakis::graph::{Style, draw, draw_picture, plot_parts};
use arrakis::leviathan::{Config, Cut, FeedForward, Leviathan, Mixer, Positions, Text, Trainer, Training, sites::LAG};
use arrakis::prelude::*;

/// What the text is called in errors.
const TEXT: &str = "letters.txt";
const STEPS: u64 = 2_000;
const EVERY: u64 = 100;
const SEEDS: [u64; 3] = [0, 1, 2];
const CONTEXT: usize = 64;
/// Letters of a string before it is written again: so many when models are asked, half more or fewer when they learn.
const LENGTH: usize = 16;

fn main() -> anyhow::Result<()> {
    let folder = std::env::args().nth(1).map_or_else(|| PathBuf::from("mechanism"), PathBuf::from);
    fs::create_dir_all(&folder)?;
    let written = letters(200_000);
    fs::write(folder.join("letters.txt"), &written)?;
    let text = Text::of(Path::new(TEXT), &written, Cut::Characters)?;
    let untrained = Leviathan::new(&config(Mixer::Attention, 1, &text), 0)?;
    let bench = Bench::new(&untrained).named("untrained").log_to(folder.join("log")).draw(&Pictures::DEFAULT);
    let found = mechanism(&bench, &written, STEPS)?;
    println!("{found}");
    for name in ["induction", "previous_token"] {
        let part = found.get(name).expect("it was just made");
        let picture = plot_parts(&PlotSpec::new("training_curves"), &[(name, part)])?;
        draw_picture(picture.as_ref(), &folder.join(format!("{name}.svg")), &Style::DEFAULT)?;
    }
    for name in ["lags", "losses"] {
        draw(found.get(name).expect("it was just made"), &folder.join(format!("{name}.svg")), &Style::DEFAULT)?;
    }
    Ok(())
}

/// Strings of random letters, each written twice, one after the other. No two need have one length, so that what comes next
/// is found by looking for what is there now, and not by counting back.
fn letters(count: usize) -> String {
    let mut stream = Stream::new(0, "letters");
    let mut text = String::new();
    while text.len() < count {
        let length = LENGTH / 2 + stream.below(LENGTH as u64 + 1) as usize;
        let string: String = (0..length).map(|_| char::from(b'a' + stream.below(26) as u8)).collect();
        text.push_str(&string);
        text.push_str(&string);
    }
    text
}

fn config(mixer: Mixer, blocks: usize, text: &Text) -> Config {
    Config {
        n_layers: blocks,
        n_heads: 2,
        d_model: 32,
        d_mlp: 64,
        vocab: text.vocabulary.len(),
        context: CONTEXT,
        positions: Positions::Rotary,
        mixer,
        feed_forward: FeedForward::Dense,
    }
}

/// Trains every model with every seed, and asks it again and again: the strongest head's scores, and at the end the lag
/// matrices and the loss with and without lags.
#[arrakis::experiment]
fn mechanism(bench: &Bench, letters: &str, steps: u64) -> anyhow::Result<Answer> {
    let text = &Text::of(Path::new(TEXT), letters, Cut::Characters)?;
    let training = Training { seeds: SEEDS.to_vec(), steps, batch: 16, warm_up: 50, ..Training::default() };
    let axis = Axis::new("step", (0..=steps).step_by(EVERY as usize).map(|step| step.to_string()));
    let (mut induction, mut previous) = (Vec::new(), Vec::new());
    let (mut losses, mut names) = (Vec::new(), Vec::new());
    let mut lags = None;
    for mixer in ["attention", "separable:4"] {
        for blocks in [1, 2] {
            let name = format!("{mixer}, {blocks} {}", if blocks == 1 { "block" } else { "blocks" });
            let config = config(mixer.parse()?, blocks, text);
            let mut trainer = Trainer::new(&config, &training, text, Path::new(TEXT))?;
            let mut scores = vec![(Vec::new(), Vec::new()); SEEDS.len()];
            loop {
                if trainer.steps().is_multiple_of(EVERY) {
                    for (place, (copies, looks_back)) in scores.iter_mut().enumerate() {
                        let heads = AttentionHeads { length: Some(LENGTH), batch: 16, ..AttentionHeads::default() };
                        let asked = heads.run(&Context::new(&trainer.current(place)?).with_seed(place as u64))?;
                        copies.push(strongest(&asked.induction));
                        looks_back.push(strongest(&asked.previous_token));
                    }
                }
                if trainer.steps() == steps {
                    break;
                }
                trainer.step()?;
                bench.progress(trainer.steps(), steps)?;
            }
            for (seed, (copies, looks_back)) in SEEDS.iter().zip(scores) {
                induction.push((format!("{name}, seed {seed}"), copies));
                previous.push((format!("{name}, seed {seed}"), looks_back));
            }
            let model = trainer.current(0)?;
            losses.extend(copying(&model, text)?);
            if config.n_layers == 1 && mixer != "attention" {
                lags = Some(lag_matrices(&model, text)?);
            }
            names.push(name);
        }
    }
    let columns = Axis::new("second half of a string", ["as trained", "without lags", "unforeseeable"]);
    let mut answer = Answer::new()
        .with(
            "induction",
            Series::new("Attention to what followed last time", "strongest head", axis.clone(), induction)?,
        )
        .with("previous_token", Series::new("Attention to the token before", "strongest head", axis, previous)?)
        .with("losses", Grid::new("Loss of copies", "nats per letter", Axis::new("model", names), columns, losses)?);
    if let Some(lags) = lags {
        answer = answer.with("lags", lags);
    }
    Ok(answer)
}

fn strongest(scores: &Grid) -> f64 {
    scores.values.iter().copied().fold(f64::NEG_INFINITY, f64::max)
}

/// Strings twice, as rows: the second half of each can be copied from the first.
fn twice(text: &Text) -> Result<Tokens> {
    let mut stream = Stream::new(1, "copies");
    let rows: Vec<Vec<i64>> = (0..32)
        .map(|_| {
            let string: Vec<i64> = (0..LENGTH).map(|_| stream.below(text.vocabulary.len() as u64) as i64).collect();
            string.repeat(2)
        })
        .collect();
    Tokens::from_rows(&rows)
}

/// The loss over second halves: as trained, with lag zero alone, and of whoever knows nothing.
fn copying(model: &Leviathan, text: &Text) -> anyhow::Result<[f64; 3]> {
    let tokens = twice(text)?;
    let loss = |ablated: bool| -> Result<f64> {
        let mut trace = model.trace(&tokens);
        if ablated && model.points().iter().any(|point| point.site == LAG) {
            trace = trace.edit(LAG, edit::with(zero_lag));
        }
        let logits = trace.run()?.logits()?.f_narrow(1, LENGTH as i64, LENGTH as i64)?;
        let second = Tokens::from_tensor(&tokens.ids().f_narrow(1, LENGTH as i64, LENGTH as i64)?)?;
        Ok(loss_by_row(&logits, &second)?.f_mean(Kind::Double)?.f_double_value(&[])?)
    };
    Ok([loss(false)?, loss(true)?, (text.vocabulary.len() as f64).ln()])
}

/// The lag matrix of attention: 1 at lag zero of both signals, 0 elsewhere.
fn zero_lag(matrix: &Tensor) -> Result<Tensor> {
    let only = matrix.f_zeros_like()?;
    let _ = only.f_narrow(2, 0, 1)?.f_narrow(3, 0, 1)?.f_fill_(1.0)?;
    Ok(only)
}

/// The lag matrices of the first block's heads, query lags down, key lags across.
fn lag_matrices(model: &Leviathan, text: &Text) -> anyhow::Result<Grid> {
    let tokens = twice(text)?;
    let point = LAG.at(0);
    let matrices = model.trace(&tokens).keep(point).run()?.cache[point].f_get(0)?;
    let [heads, queries, keys] = matrices.size()[..] else { anyhow::bail!("lags of shape {:?}", matrices.size()) };
    let rows = (0..heads).flat_map(|head| (0..queries).map(move |lag| format!("head {head}, query lag {lag}")));
    let (rows, columns) = (Axis::new("head and query lag", rows), Axis::indices("key lag", keys as usize));
    Ok(Grid::from_tensor("Lag matrices", "weight", rows, columns, &matrices.f_flatten(0, 1)?)?.diverging())
}

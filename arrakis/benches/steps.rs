//! Training steps of every mixer beside attention's, in turn, so that a drifting machine cancels out; and their memory.
//!
//! `cargo bench -p arrakis --bench steps` prints the median time of a step of 8 windows of 512 characters (2
//! layers, 2 heads, at most 50,000 parameters) with `OMP_NUM_THREADS` threads, the median of the ratios to the step of
//! attention beside it, and the peak memory of a process that only trains that model. `scripts/peers/leviathan.py` takes
//! the same steps in Python's torch.

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use arrakis::core::Stream;
use arrakis::leviathan::{Config, Cut, FeedForward, Mixer, Positions, Text, Trainer, Training};

/// The variable that names the model of a child process.
const CASE: &str = "ARRAKIS_BENCH_CASE";

const MODELS: &[&str] = &[
    "attention",
    "separable:4",
    "diagonal:4",
    "low_rank:4:2",
    "involution:8",
    "attention+mixture:4:1",
    "separable:4+mixture:4:1",
];

const ROUNDS: usize = 25;

fn main() {
    // As the command does, before the first big block.
    arrakis::process::keep_big_blocks();
    let text = text();
    if let Ok(name) = std::env::var(CASE) {
        let mut trainer = trainer(&name, &text);
        (0..5).for_each(|_| drop(trainer.step().expect("a step")));
        return println!("{}", peak_of_this_process());
    }
    // `cargo bench` passes `--bench`; `cargo test` runs nothing here.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    println!("{} threads", tch::get_num_threads());
    println!("{:<26} {:>12} {:>12} {:>8} {:>10}", "model", "step", "attention", "ratio", "peak");
    for name in MODELS {
        let (mut own, mut beside) = (trainer(name, &text), trainer("attention", &text));
        let pairs: Vec<(f64, f64)> = (0..ROUNDS).map(|_| (time(&mut own), time(&mut beside))).skip(3).collect();
        let program = std::env::current_exe().expect("the path of this program");
        let output = Command::new(program).env(CASE, name).output().expect("a child");
        let peak = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        println!(
            "{name:<26} {:>9.1} ms {:>9.1} ms {:>8.3} {peak:>7} MB",
            median(pairs.iter().map(|(own, _)| *own)),
            median(pairs.iter().map(|(_, beside)| *beside)),
            median(pairs.iter().map(|(own, beside)| own / beside)),
        );
    }
}

/// Characters of which every one is as likely; what they are does not change how long a step takes.
fn text() -> Text {
    let mut stream = Stream::new(0, "text of the bench");
    let mut text = String::new();
    for _ in 0..40_000 {
        let _ = write!(text, "{}", char::from(b' ' + stream.below(65) as u8));
    }
    Text::of(Path::new("a text"), &text, Cut::Characters).expect("a text")
}

fn trainer<'t>(name: &str, text: &'t Text) -> Trainer<'t> {
    let (mixer, feed_forward) = name.split_once('+').unwrap_or((name, "dense"));
    let mixer: Mixer = mixer.parse().expect("a mixer");
    let feed_forward: FeedForward = feed_forward.parse().expect("a feed-forward");
    let vocab = text.vocabulary.len();
    let positions = Positions::Rotary.with(mixer);
    let (d_model, context) = (40, 512);
    let config = Config { n_layers: 2, n_heads: 2, d_model, d_mlp: 1, vocab, context, positions, mixer, feed_forward };
    let config = config.fitted(50_000).expect("a size");
    Trainer::new(&config, &Training::default(), text, Path::new("a text")).expect("a training")
}

/// Milliseconds of a step.
fn time(trainer: &mut Trainer<'_>) -> f64 {
    let start = Instant::now();
    trainer.step().expect("a step");
    start.elapsed().as_secs_f64() * 1e3
}

fn median(numbers: impl Iterator<Item = f64>) -> f64 {
    let mut numbers: Vec<f64> = numbers.collect();
    numbers.sort_by(f64::total_cmp);
    numbers[numbers.len() / 2]
}

/// The greatest resident memory of this process so far, in megabytes.
fn peak_of_this_process() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("the status of this process");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("its greatest memory");
    line.trim().trim_end_matches("kB").trim().parse::<u64>().expect("a number") / 1024
}

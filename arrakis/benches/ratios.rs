//! What watching costs: each pass beside the pass without hooks, in turn, so that a drifting machine cancels out.
//!
//! `cargo bench -p arrakis --bench ratios` prints the median time of each and the median of the ratios taken pair by
//! pair. The checkpoint is the one of the bench `speed`.

use std::cell::RefCell;
use std::time::Instant;

use arrakis::bench::Profile;
use arrakis::prelude::*;
use arrakis_core::{Pass, unwatched};

#[path = "speed/checkpoint.rs"]
mod checkpoint;
#[path = "speed/inputs.rs"]
mod inputs;

use checkpoint::model;
use inputs::{KEPT_BY_DEFAULT, tokens};

const ROUNDS: usize = 25;

fn main() {
    // `cargo bench` passes `--bench`; `cargo test` runs nothing here.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    arrakis::process::keep_big_blocks();
    let model = model();
    let packed = checkpoint::model().packed().expect("a copy of the weights");
    println!("{:<10} {:<36} {:>12} {:>12} {:>8}", "shape", "pass", "median", "beside", "ratio");
    for (batch, len) in [(1, 20), (1, 128)] {
        let tokens = tokens(batch, len);
        let plain = || {
            unwatched(|hooks| model.forward(Pass::tokens(tokens.ids(), hooks))).expect("a pass");
        };
        let report = |name: &str, run: &dyn Fn()| {
            let (own, beside, ratio) = paired(run, &plain);
            println!("{:<10} {name:<36} {own:>9.1} ms {beside:>9.1} ms {ratio:>8.3}", format!("{batch} x {len}"));
        };
        report("the same again", &plain);
        let packed = &packed;
        report("packed, without hooks", &|| {
            unwatched(|hooks| packed.forward(Pass::tokens(tokens.ids(), hooks))).expect("a pass");
        });
        report("trace that keeps nothing", &|| drop(model.trace(&tokens).run().expect("a run")));
        report("trace that keeps every residual", &|| {
            drop(model.trace(&tokens).keep(Site::RESID_POST).run().expect("a run"));
        });
        report("trace that keeps every default site", &|| {
            let trace = KEPT_BY_DEFAULT.iter().fold(model.trace(&tokens), |trace, site| trace.keep(*site));
            drop(trace.run().expect("a run"));
        });
        let profile = RefCell::new(Profile::new());
        report("profile of a trace that keeps nothing", &|| {
            drop(profile.borrow_mut().run(&model, |model| model.trace(&tokens).run()).expect("a run"));
        });
        println!("\n{}\n", profile.borrow());
    }
}

/// Median milliseconds of both, run in turn, and the median of the ratios.
fn paired(run: &dyn Fn(), beside: &dyn Fn()) -> (f64, f64, f64) {
    let time = |run: &dyn Fn()| {
        let start = Instant::now();
        run();
        start.elapsed().as_secs_f64() * 1e3
    };
    time(run);
    time(beside);
    let pairs: Vec<(f64, f64)> = (0..ROUNDS)
        .map(|round| {
            if round % 2 == 0 {
                let own = time(run);
                (own, time(beside))
            } else {
                let other = time(beside);
                (time(run), other)
            }
        })
        .collect();
    let median = |mut numbers: Vec<f64>| {
        numbers.sort_by(f64::total_cmp);
        numbers[numbers.len() / 2]
    };
    (
        median(pairs.iter().map(|(own, _)| *own).collect()),
        median(pairs.iter().map(|(_, other)| *other).collect()),
        median(pairs.iter().map(|(own, other)| own / other).collect()),
    )
}

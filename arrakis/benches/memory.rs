//! How much memory a pass takes at its peak, beside the same pass that keeps activations.
//!
//! `cargo bench -p arrakis --bench memory` runs each case in a process of its own and prints the peak of its resident
//! memory and what was kept. The checkpoint is the one of the bench `speed`.

use std::process::Command;

use arrakis::prelude::*;

#[path = "speed/checkpoint.rs"]
mod checkpoint;
#[path = "speed/inputs.rs"]
mod inputs;

use checkpoint::model;
use inputs::{KEPT_BY_DEFAULT, tokens};

/// The variable that names the case of a child process.
const CASE: &str = "ARRAKIS_BENCH_CASE";

/// What is kept.
const CASES: &[(&str, &[Site])] = &[
    ("nothing", &[]),
    ("hook_resid_post", &[Site::RESID_POST]),
    ("attn.hook_q", &[Site::Q]),
    ("mlp.hook_post", &[Site::MLP_POST]),
    ("attn.hook_pattern", &[Site::PATTERN]),
    ("every default site", KEPT_BY_DEFAULT),
];

fn main() {
    if let Ok(case) = std::env::var(CASE) {
        return run(&case);
    }
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    let program = std::env::current_exe().expect("the path of this program");
    for shape in ["1 128", "8 512"] {
        let mut nothing = None;
        for (name, _) in CASES {
            let output = Command::new(&program).env(CASE, format!("{shape} {name}")).output().expect("a child");
            let text = String::from_utf8_lossy(&output.stdout);
            let mut numbers = text.split_whitespace().filter_map(|number| number.parse::<f64>().ok());
            let (Some(peak), Some(kept)) = (numbers.next(), numbers.next()) else {
                panic!("`{name}` failed: {}", String::from_utf8_lossy(&output.stderr));
            };
            let floor = nothing.get_or_insert(peak).max(1.0) + kept;
            println!(
                "{shape:>6}  {name:<20} peak {peak:>8.1} MB   kept {kept:>8.1} MB   of both {:>6.3}",
                peak / floor
            );
        }
    }
}

fn run(case: &str) {
    arrakis::process::keep_big_blocks();
    let mut words = case.splitn(3, ' ');
    let mut number = || words.next().and_then(|word| word.parse().ok()).expect("a shape");
    let tokens = tokens(number(), number());
    let name = words.next().expect("a case");
    let (_, sites) = CASES.iter().find(|(known, _)| *known == name).expect("a case");
    let model = model();
    let trace = sites.iter().fold(model.trace(&tokens), |trace, site| trace.keep(*site));
    let run = trace.run().expect("a run");
    let kept: usize = run.cache.iter().map(|(_, value)| value.numel() * value.kind().elt_size_in_bytes()).sum();
    println!("{} {}", peak_of_this_process(), kept as f64 / 1e6);
}

/// In megabytes.
fn peak_of_this_process() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or_default();
    line.split_whitespace().next().and_then(|kib| kib.parse::<f64>().ok()).unwrap_or(f64::NAN) * 1024.0 / 1e6
}

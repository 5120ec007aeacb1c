//! How fast experiments are: sweeps, attribution, lenses and composition, on random weights of GPT-2-small's sizes.
//!
//! `cargo bench -p arrakis --bench sweeps` prints the median time of each, mapped and packed, and its peak of memory is
//! that of the process. `ARRAKIS_BENCH_ONLY=PART,..` runs those whose names contain a part. The prompts are those of the peers' bench: 20 random
//! tokens, two of which differ.

use std::time::Instant;

use arrakis::prelude::*;
use arrakis::tools::{
    ActivationPatching, AttributionPatching, CausalTrace, CompositionScores, DirectAttribution, HeadInput, LogitLens,
    PatchKind, PatchScale, PathPatching, Receiver, Subject,
};
use arrakis_core::{Stream, Tool};

#[path = "speed/checkpoint.rs"]
mod checkpoint;

const ROUNDS: usize = 5;
/// Fewer rounds are done once they have taken so long.
const SECONDS: f64 = 20.0;

fn main() {
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    arrakis::process::keep_big_blocks();
    let only = std::env::var("ARRAKIS_BENCH_ONLY").ok();
    let mapped = checkpoint::model();
    let packed = checkpoint::model().packed().expect("a copy of the weights");
    for (name, run) in experiments() {
        if only.as_ref().is_some_and(|only| !only.split(',').any(|part| name.contains(part))) {
            continue;
        }
        let time = |model: &Decoder| {
            let cx = Context::new(model);
            let mut times = Vec::new();
            while times.len() < ROUNDS && times.iter().sum::<f64>() < SECONDS * 1e3 {
                let start = Instant::now();
                run(&cx);
                times.push(start.elapsed().as_secs_f64() * 1e3);
            }
            times.sort_by(f64::total_cmp);
            times[times.len() / 2]
        };
        println!("{name:<48} mapped {:>9.1} ms   packed {:>9.1} ms", time(&mapped), time(&packed));
    }
}

type Experiment = (&'static str, Box<dyn Fn(&Context<'_>)>);

fn experiments() -> Vec<Experiment> {
    let mut stream = Stream::new(3, "prompts");
    let clean: Vec<i64> = (0..20).map(|_| 1 + stream.below(50_256) as i64).collect();
    let mut corrupted = clean.clone();
    corrupted[9] = (clean[9] + 11) % 50_257;
    corrupted[13] = (clean[13] + 5) % 50_257;
    let differing_from_the_first = {
        let mut ids = corrupted.clone();
        ids[0] = (clean[0] + 7) % 50_257;
        ids
    };
    let metric = || Metric::LogitDifference { answer: 41.into(), wrong: 97.into() };
    let patching = |kind: PatchKind, corrupted: &[i64]| {
        let mut asked = ActivationPatching::new(Prompt::Ids(clean.clone()), Prompt::Ids(corrupted.to_vec()), metric());
        (asked.kinds, asked.scale) = (vec![kind], PatchScale::Raw);
        asked
    };
    let (resid, heads) = (patching(PatchKind::ResidPre, &corrupted), patching(PatchKind::Z, &corrupted));
    let by_pos = patching(PatchKind::ZByPos, &corrupted);
    let whole = patching(PatchKind::ResidPre, &differing_from_the_first);
    let whole_heads = patching(PatchKind::Z, &differing_from_the_first);
    let path = |corrupted: &[i64]| PathPatching {
        receivers: Some(vec![Receiver { layer: 9, head: 9, input: HeadInput::Q }]),
        scale: PatchScale::Raw,
        ..PathPatching::new(Prompt::Ids(clean.clone()), Prompt::Ids(corrupted.to_vec()), metric())
    };
    let (nine_nine, whole_path) = (path(&corrupted), path(&differing_from_the_first));
    let mut attribution =
        AttributionPatching::new(Prompt::Ids(clean.clone()), Prompt::Ids(corrupted.clone()), metric());
    attribution.kinds = vec![PatchKind::ResidPre, PatchKind::AttnOut, PatchKind::MlpOut, PatchKind::ZByPos];
    (attribution.checks, attribution.scale) = (0, PatchScale::Raw);
    let mut trace = CausalTrace::new(Prompt::Ids(clean.clone()), Subject::Positions(vec![2, 3]));
    (trace.answer, trace.window) = (Some(41.into()), Some(10));
    let lens = |len: usize| {
        let ids: Vec<i64> = (0..len).map(|place| 1 + (place as i64 * 7919) % 50_256).collect();
        let mut lens = LogitLens::new(Prompt::Ids(ids));
        lens.mid = true;
        lens
    };
    let (short, long) = (lens(20), lens(128));
    let direct = DirectAttribution::new(Prompt::Ids(clean.clone()), 41, 97);
    let composition = CompositionScores { inputs: vec![HeadInput::Q], ..CompositionScores::default() };
    vec![
        ("resid_pre 12 x 20", ask(resid)),
        ("resid_pre 12 x 20, differing from token 0", ask(whole)),
        ("z of 144 heads", ask(heads)),
        ("z of 144 heads, differing from token 0", ask(whole_heads)),
        ("z by head and position 144 x 20", ask(by_pos)),
        ("path patching to q of 9.9", ask(nine_nine)),
        ("path patching to q of 9.9, from token 0", ask(whole_path)),
        ("causal tracing 12 x 20 x 3, 10 samples", ask(trace)),
        ("attribution patching resid attn mlp z", ask(attribution)),
        ("logit lens mid 1 x 20", ask(short)),
        ("logit lens mid 1 x 128", ask(long)),
        ("direct logit attribution 1 x 20", ask(direct)),
        ("q composition of all pairs", ask(composition)),
    ]
}

fn ask<T: Tool + 'static>(tool: T) -> Box<dyn Fn(&Context<'_>)> {
    Box::new(move |cx| drop(tool.run(cx).expect("an answer")))
}

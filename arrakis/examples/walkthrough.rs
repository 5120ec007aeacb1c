//! The walkthrough: an experiment, its versions and source, tools, a profile, a hypothesis, a picture.
//!
//! `cargo run -p arrakis --example walkthrough -- [MODEL]`; the demo model if there is none. It follows, step by step, the
//! walkthrough of the Python library (PyPI `arrakis-mi`), whose names stand in the comments.

use std::path::Path;

use arrakis::bench::Profile;
use arrakis::bench::hypothesis::{Comparison, Hypothesis, Samples};
use arrakis::core::loss_by_row;
use arrakis::examples::MODEL;
use arrakis::graph::{Style, draw};
use arrakis::prelude::*;
use serde_json::json;

/// Who writes a token's logit, and who reads the direction.
#[experiment] // @exp.log_experiment
fn read_write_analysis(bench: &Bench, prompt: &Prompt, token: i64) -> anyhow::Result<Answer> {
    // @exp.use_tools("write_read"): by name, the tools of other crates and of plugins too …
    let write_read = bench.use_tools("write_read")?;
    let writers = write_read.ask("writers", json!({ "prompt": prompt, "direction": { "token": token } }))?.answer;
    // … and typed.
    let readers = write_read.run(&WriteReadReaders::new(Direction::Token(token.into())))?.answer;
    bench.note("gains are by weights, writing is in the text")?;
    let mut answer = Answer::new().with("readers", readers.strongest);
    for (name, part) in writers.parts() {
        answer = answer.with(format!("writers_{name}"), part.clone());
    }
    Ok(answer)
}

/// Whether the loss on random tokens rises without a head.
#[experiment]
fn head_matters(bench: &Bench, layer: usize, head: usize, runs: usize) -> Result<Comparison> {
    let vocab = bench.model().dims().vocab as u64;
    let loss = |run: usize, without: bool| -> Result<f64> {
        let mut stream = bench.stream(&format!("prompt {run}"));
        let tokens = Tokens::from_rows(&[(0..16).map(|_| stream.below(vocab) as i64).collect::<Vec<i64>>()])?;
        let mut trace = bench.model().trace(&tokens);
        if without {
            trace = trace.edit(Site::Z.at(layer), edit::head(head, edit::zero()));
        }
        Ok(loss_by_row(trace.run()?.logits()?, &tokens)?.f_double_value(&[0])?)
    };
    // @exp.test_hypothesis(null_func, alt_func, n_samples): each is run so often.
    let control = Samples::from_fn(runs, |run| Ok(loss(run, false)?))?;
    let treatment = Samples::from_fn(runs, |run| Ok(loss(run, true)?))?;
    Ok(Hypothesis::default().paired(&control, &treatment)?)
}

/// Where the time of one pass goes.
#[experiment] // @exp.profile_model(granularity="layer")
fn cost(bench: &Bench, prompt: &Prompt) -> anyhow::Result<Profile> {
    let tokens = prompt.tokens(bench.model())?;
    let mut profile = Profile::new();
    profile.run(bench.model(), |model| model.trace(&tokens).run())?;
    Ok(profile)
}

/// The whole walk on a model of that name, logged in a folder.
pub(crate) fn walk(name: &str, folder: &Path) -> anyhow::Result<()> {
    let model = load(name, &LoadOptions::default())?;
    let prompt = match model.tokenizer()? {
        Some(_) => Prompt::Text("The capital of France is".into()),
        None => Prompt::Ids(vec![9, 3, 17, 5]),
    };
    // @exp.set_plotting_lib: whatever is logged is drawn.
    let bench = Bench::new(&model).named(name).log_to(folder).draw(&Pictures::DEFAULT);

    // Calling an experiment runs and logs it.
    let found = read_write_analysis(&bench, &prompt, 7)?;
    println!("{found}\n");

    // exp.list_versions, exp.get_version
    let log = Log::open(folder);
    let versions = log.versions("read_write_analysis")?;
    let last = versions.last().expect("it was just run");
    println!("version {} (runs so far: {}); its source:\n{}\n", last.version, last.runs, log.source(&last.version)?);

    println!("{}\n", cost(&bench, &prompt)?);
    println!("{}\n", head_matters(&bench, 0, 1, 12)?.verdict());

    // @exp.plot_results: the run has its pictures already; any part can be drawn elsewhere.
    let run = log.get(&last.last_run)?;
    println!("pictures in {}: {}", log.run_folder(&run.id).display(), run.pictures.join(", "));
    let heads = found.get("writers_heads").expect("the writers have a grid of heads");
    draw(heads, &folder.join("heads.png"), &Style::default())?;
    Ok(())
}

#[allow(dead_code)]
fn main() -> anyhow::Result<()> {
    let name = std::env::args().nth(1).unwrap_or_else(|| MODEL.to_owned());
    walk(&name, Path::new("experiments"))
}

//! Draws a picture for each tool from its example: `cargo run -p arrakis --example pictures -- [TOOL ..]`.
//!
//! SVG goes to `docs/pictures`, and PNG, to be looked at, to `target/pictures`. Run it in the root of the project.

use std::fs;
use std::path::Path;

use anyhow::Context as _;
use arrakis::examples::{MODEL, examples};
use arrakis::graph::{Style, draw};
use arrakis::prelude::*;

fn main() -> anyhow::Result<()> {
    let wanted: Vec<String> = std::env::args().skip(1).collect();
    let (svg, png) = (Path::new("docs/pictures"), Path::new("target/pictures"));
    fs::create_dir_all(svg)?;
    fs::create_dir_all(png)?;
    let model = load(MODEL, &LoadOptions::default())?;
    let bench = Bench::new(&model).named(MODEL).unlogged();
    let mut examples: Vec<_> = examples()?.into_iter().collect();
    // What reads a tuned lens comes after what trains one.
    examples.sort_by_key(|(tool, _)| tool == "logit_lens.tuned");
    for (tool, example) in examples {
        if !wanted.is_empty() && !wanted.contains(&tool) {
            continue;
        }
        let asked = bench.ask(&tool, example.parameters.clone().into()).with_context(|| tool.clone())?;
        let part = example.drawn(&asked.answer).with_context(|| tool.clone())?;
        for (folder, ending) in [(svg, "svg"), (png, "png")] {
            draw(part, &folder.join(format!("{tool}.{ending}")), &Style::default())?;
        }
        println!("{tool} ({:.1} s)", asked.record.seconds.unwrap_or_default());
    }
    Ok(())
}

//! Loss by size: draws what several `arrakis leviathan compare` found, each at another number of parameters.
//!
//! `cargo run -p arrakis --example scaling -- scaling.svg DIR DIR DIR`, each `DIR` the `--out` of a comparison. A line for
//! each model and seed becomes a mean with a band; losses are the least of each training's evaluations.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use arrakis::core::PlotSpec;
use arrakis::graph::{Style, draw_picture, plot_parts};
use arrakis::leviathan::{Config, metrics};
use arrakis::prelude::{Axis, Part, Series};
use serde_json::Value;

fn main() -> Result<()> {
    let mut paths = std::env::args().skip(1).map(PathBuf::from);
    let Some(picture) = paths.next() else { bail!("give the picture's path, then the folders of comparisons") };
    let mut sizes: Vec<(u64, BTreeMap<String, f64>)> = Vec::new();
    for folder in paths {
        sizes.push(losses(&folder)?);
    }
    sizes.sort_by_key(|(parameters, _)| *parameters);
    let names: Vec<&String> = sizes.first().map(|(_, losses)| losses.keys().collect()).unwrap_or_default();
    let lines = names.into_iter().map(|name| {
        let values = sizes.iter().map(|(_, losses)| losses.get(name).copied().unwrap_or(f64::NAN));
        (name.clone(), values.collect::<Vec<f64>>())
    });
    let axis = Axis::new("parameters", sizes.iter().map(|(parameters, _)| parameters.to_string()));
    let series = Part::from(Series::new("Loss by size", "nats per token", axis, lines)?);
    println!("{}", series.text("loss", arrakis::core::print::Room::default()));
    let drawn = plot_parts(&PlotSpec::new("training_curves"), &[("losses", &series)])?;
    Ok(draw_picture(drawn.as_ref(), &picture, &Style::DEFAULT)?)
}

/// The size of a comparison's first model, and the least loss of each model and seed.
fn losses(folder: &Path) -> Result<(u64, BTreeMap<String, f64>)> {
    let (mut parameters, mut found) = (0, BTreeMap::new());
    let trainings = folder.join("equal-size");
    for entry in fs::read_dir(&trainings).with_context(|| format!("cannot read `{}`", trainings.display()))? {
        let training = entry?.path();
        let described = training.join("training.json");
        let text = fs::read_to_string(&described).with_context(|| format!("cannot read `{}`", described.display()))?;
        let described: Value = serde_json::from_str(&text)?;
        let config: Config = serde_json::from_value(described["model"].clone())?;
        parameters = config.parameters().max(parameters);
        let lines = metrics::read(&training)?;
        let seeds: Vec<u64> = serde_json::from_value(described["training"]["seeds"].clone())?;
        for (place, seed) in seeds.iter().enumerate() {
            let least =
                lines.iter().filter_map(|line| line.validation_nats.get(place)).copied().fold(f64::NAN, f64::min);
            found.insert(format!("{}, seed {seed}", config.mixer), least);
        }
    }
    Ok((parameters, found))
}

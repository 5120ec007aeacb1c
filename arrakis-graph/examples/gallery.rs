//! One picture of each kind, drawn from made-up numbers: `cargo run -p arrakis-graph --example gallery -- FOLDER`.

use std::error::Error;
use std::path::PathBuf;
use std::time::Instant;

use arrakis_core::{Axis, Grid, Part, Ranking, Series, Stack};
use arrakis_graph::{Style, draw};
use tch::{Kind, Tensor};

const PROMPT: [&str; 12] =
    ["When", " Mary", " and", " John", " went", " to", " the", " store", ",", " John", " gave", " a"];

fn main() -> Result<(), Box<dyn Error>> {
    let folder: PathBuf = std::env::args_os().nth(1).ok_or("give the folder to draw into")?.into();
    for (name, part) in pictures()? {
        for ending in ["png", "svg"] {
            let start = Instant::now();
            let path = folder.join(name).with_extension(ending);
            draw(&part, &path, &Style::default())?;
            println!("{:6.1} ms  {}", start.elapsed().as_secs_f64() * 1e3, path.display());
        }
    }
    let path = folder.join("heads-dark.png");
    draw(&heads()?.into(), &path, &Style { dark: true, ..Style::default() })?;
    println!("{}", path.display());
    Ok(())
}

fn pictures() -> Result<Vec<(&'static str, Part)>, Box<dyn Error>> {
    Ok(vec![
        ("lens", lens()?.into()),
        ("heads", heads()?.into()),
        ("patching", patching()?.into()),
        ("curves", curves()?.into()),
        ("norms", norms()?.into()),
        ("ranking", ranking().into()),
        ("patterns", patterns(4, 4)?.into()),
        ("all-patterns", patterns(30, 9)?.into()),
        ("heads-of-layer", heads_of_layer()?.into()),
        ("large", large()?.into()),
        ("odd", odd()?.into()),
    ])
}

/// A number in -1..1 that looks like noise.
fn noise(seed: usize) -> f64 {
    let mixed = (seed as f64 * 12.9898).sin() * 43_758.547;
    2.0 * (mixed - mixed.floor()) - 1.0
}

fn lens() -> Result<Grid, Box<dyn Error>> {
    let tokens =
        [" the", " a", ",", " Paris", " city", "\n", " country", "ful", " located", "<|im_end|>", " 北", " capital"];
    let (rows, columns) =
        (Axis::indices("layer", 30), Axis::new("token", ["The", " capital", " of", " France", " is"]));
    let values = (0..150).map(|i| (0.05 + (i / 5) as f64 / 32.0 + 0.1 * noise(i)).clamp(0.0, 1.0)).collect();
    let cells = (0..150).map(|i| tokens[if i > 120 && i % 5 == 4 { 3 } else { i * 7 % tokens.len() }].to_owned());
    let grid =
        Grid::new("Logit lens of “The capital of France is”", "probability of the top token", rows, columns, values)?;
    Ok(grid.with_cells(cells.collect())?)
}

fn heads() -> Result<Grid, Box<dyn Error>> {
    let values = (0..270).map(|i| 0.9 * noise(i).powi(5) + if i == 18 * 9 + 6 { 2.2 } else { 0.0 }).collect();
    let (rows, columns) = (Axis::indices("layer", 30), Axis::indices("head", 9));
    Ok(Grid::new("Direct logit attribution by head", "logit difference", rows, columns, values)?.diverging())
}

fn patching() -> Result<Grid, Box<dyn Error>> {
    let columns = [
        "When",
        " Mary",
        " and",
        " Bartholomew",
        " went",
        " to",
        " the",
        " supermarket",
        ",",
        " Bartholomew",
        " gave",
        " a",
        " drink",
        " to",
        "\n",
        "\t",
        "  ",
        "é",
        "\u{1F600}",
        " to",
    ];
    let (rows, columns) = (Axis::indices("layer", 12), Axis::new("position", columns));
    let value = |i: usize| match i % 20 {
        9 if i / 20 < 6 => 0.95 + 0.05 * noise(i),
        19 if i / 20 > 6 => 1.0 - 0.1 * noise(i).abs(),
        3 => -0.3 * noise(i).abs(),
        _ => 0.04 * noise(i),
    };
    let values = (0..240).map(value).collect();
    let title = "Activation patching of the residual stream, clean into corrupted";
    Ok(Grid::new(title, "share of the logit difference restored", rows, columns, values)?.diverging())
}

fn curves() -> Result<Series, Box<dyn Error>> {
    let line = |floor: f64, rate: f64, seed: usize| {
        (0..4000).map(move |step| floor + 2.6 * (-(step as f64) * rate).exp() + 0.03 * noise(step * 3 + seed)).collect()
    };
    let lines = [
        ("Transformer", line(1.86, 0.0017, 1)),
        ("diagonal, W = 4", line(1.81, 0.002, 2)),
        ("separable, W = 4", line(1.75, 0.0024, 3)),
    ];
    Ok(Series::new("Validation loss on tiny shakespeare", "loss (nats)", Axis::indices("step", 4000), lines)?)
}

fn norms() -> Result<Series, Box<dyn Error>> {
    let line = |slope: f64, seed: usize| (0..12).map(|i| 2.0 + slope * i as f64 + noise(i + seed)).collect::<Vec<_>>();
    let lines = (0..5).map(|layer| (format!("layer {}", 6 * layer), line(0.5 * f64::from(layer), 20 * layer as usize)));
    Ok(Series::new("Norm of the residual stream", "L2 norm", Axis::new("token", PROMPT), lines)?)
}

fn ranking() -> Ranking {
    let entries = (0..15).map(|i| (format!("layer {} head {}", 29 - i, i % 9), 3.2 * noise(i + 4).powi(3)));
    Ranking::new("Heads by direct effect on the logit difference", "logit difference (logits)", entries).sorted()
}

fn patterns(layers: i64, heads: i64) -> Result<Stack, Box<dyn Error>> {
    let tokens: Vec<&str> = PROMPT.into_iter().chain([" drink", " to"]).collect();
    let scores: Vec<f64> =
        (0..layers * heads * 196).map(|i| 2.5 * noise(i as usize) + 2.5 * noise(i as usize / 196)).collect();
    let scores = Tensor::from_slice(&scores).f_reshape([layers, heads, 14, 14])?;
    let mask = Tensor::f_ones([14, 14], (Kind::Bool, tch::Device::Cpu))?.f_triu(1)?;
    let pattern = scores.f_masked_fill(&mask, f64::NEG_INFINITY)?.f_softmax(-1, Kind::Double)?;
    let axes = vec![
        Axis::indices("layer", layers as usize),
        Axis::indices("head", heads as usize),
        Axis::new("query", tokens.iter().copied()),
        Axis::new("key", tokens.iter().copied()),
    ];
    Ok(Stack::new("Attention patterns", "attention", axes, pattern)?)
}

fn heads_of_layer() -> Result<Stack, Box<dyn Error>> {
    let stack = patterns(1, 6)?;
    let axes = stack.axes.into_iter().skip(1).collect();
    Ok(Stack::new("Attention patterns of layer 0", "attention", axes, stack.values.f_select(0, 0)?)?)
}

fn large() -> Result<Grid, Box<dyn Error>> {
    let values = (0..1_000_000).map(|i| (i % 1000) as f64 / 1000.0 + (i / 100_000) as f64 + 0.1 * noise(i)).collect();
    Ok(Grid::new("A million cells", "value", Axis::indices("query", 1000), Axis::indices("key", 1000), values)?)
}

fn odd() -> Result<Grid, Box<dyn Error>> {
    let values = vec![0.0, 1.0, f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 2.5, f64::NAN, 3.0];
    Ok(Grid::new("NaN and ∞", "value", Axis::indices("row", 2), Axis::indices("column", 4), values)?)
}

//! Times a grid of attention maps to PNG and weighs its page: `cargo run --release -p arrakis-graph --example speed`.
//!
//! `-- FOLDER` keeps the files. The peer is `scripts/peer_plots.py`.

use std::error::Error;
use std::fs;
use std::path::PathBuf;
use std::time::Instant;

use arrakis_core::{Axis, Stack};
use arrakis_graph::{Backend, Html, Png, Style, Svg};
use tch::{Device, Kind, Tensor};

const SIDE: i64 = 12;
const LEN: i64 = 128;
const TIMES: usize = 7;

fn main() -> Result<(), Box<dyn Error>> {
    let folder: Option<PathBuf> = std::env::args_os().nth(1).map(Into::into);
    let stack = maps(SIDE, SIDE, LEN)?;
    let full = Style { width: 2000.0, scale: 1.0, dark: false };
    let cases: [(&str, &dyn Backend, Style); 4] = [
        ("maps-column.png", &Png, Style::DEFAULT),
        ("maps-full.png", &Png, full),
        ("maps.svg", &Svg, Style::DEFAULT),
        ("maps.html", &Html, Style::DEFAULT),
    ];
    for (name, backend, style) in cases {
        let mut times = Vec::new();
        let mut file = Vec::new();
        for _ in 0..TIMES {
            let start = Instant::now();
            file = backend.render(&stack, &style)?;
            times.push(start.elapsed().as_secs_f64() * 1e3);
        }
        times.sort_by(f64::total_cmp);
        println!("{name}: {:.1} ms, {} bytes", times[TIMES / 2], file.len());
        if let Some(folder) = &folder {
            fs::write(folder.join(name), file)?;
        }
    }
    let stack = maps(32, 32, 512)?;
    let start = Instant::now();
    let large = Html.render(&stack, &Style::DEFAULT)?;
    println!("page of 32 × 32 × 512: {:.1} s, {} bytes", start.elapsed().as_secs_f64(), large.len());
    if let Some(folder) = &folder {
        fs::write(folder.join("large.html"), large)?;
    }
    Ok(())
}

/// Patterns of random scores, sharper from head to head.
fn maps(layers: i64, heads: i64, len: i64) -> Result<Stack, Box<dyn Error>> {
    tch::manual_seed(0);
    let scores = Tensor::f_randn([layers, heads, len, len], (Kind::Float, Device::Cpu))?;
    let sharp = Tensor::f_arange(heads, (Kind::Float, Device::Cpu))?.f_add_scalar(1.0)?.f_reshape([1, heads, 1, 1])?;
    let mask = Tensor::f_ones([len, len], (Kind::Bool, Device::Cpu))?.f_triu(1)?;
    let pattern = (scores * sharp).f_masked_fill(&mask, f64::NEG_INFINITY)?.f_softmax(-1, Kind::Float)?;
    let tokens = Axis::new("query", (0..len).map(|place| format!(" t{place}")));
    let axes = vec![
        Axis::indices("layer", layers as usize),
        Axis::indices("head", heads as usize),
        tokens.clone(),
        Axis { name: "key".into(), ..tokens },
    ];
    Ok(Stack::new("Attention patterns", "attention", axes, pattern)?)
}

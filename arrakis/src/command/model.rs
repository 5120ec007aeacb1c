//! `arrakis model`: what a model is.

use std::collections::HashSet;

use anyhow::Result;
use arrakis_bench::{device_name, dtype_name};
use arrakis_core::{Model, NormKind, Residual};
use arrakis_models::Decoder;
use clap::Args;
use serde_json::{Value, json};
use tch::Tensor;

use super::console::Console;
use super::options::Options;

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// A folder, a `.gguf` file, or a hub id
    model: String,
    /// List the hook points
    #[arg(long)]
    points: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

impl Arguments {
    pub(crate) fn run(self, options: &Options, console: &Console<'_>) -> Result<()> {
        let model = options.load(&self.model)?;
        let (parameters, bytes) = size(&model)?;
        if self.json {
            return Ok(console.json(&self.json_of(&model, parameters, bytes)?)?);
        }
        let dims = model.dims();
        let kv = if dims.n_kv_heads == dims.n_heads {
            String::new()
        } else {
            format!(", {} for keys and values", dims.n_kv_heads)
        };
        let norm = match dims.norm {
            NormKind::Layer => "layer norm",
            NormKind::Rms => "RMS norm",
        };
        let blocks = match dims.residual {
            Residual::Serial => "serial",
            Residual::Parallel => "parallel",
        };
        let tokenizer = if model.tokenizer()?.is_some() { "yes" } else { "none; give token ids" };
        let lines = [
            ("family", dims.family.clone()),
            ("layers", format!("{}, {blocks}", dims.n_layers)),
            ("heads", format!("{}{kv}", dims.n_heads)),
            ("d_model", dims.d_model.to_string()),
            ("d_head", dims.d_head.to_string()),
            ("d_mlp", dims.d_mlp.to_string()),
            ("vocabulary", dims.vocab.to_string()),
            ("context", dims.context.to_string()),
            ("norm", format!("{norm}, eps {:e}", dims.norm_eps)),
            ("activation", word(&json!(model.architecture().activation))),
            ("positions", word(&json!(model.architecture().positions))),
            ("parameters", grouped(parameters)),
            ("bytes", format!("{} as {} on {}", grouped(bytes), dtype_name(model.kind()), device_name(model.device()))),
            (
                "hook points",
                format!("{}{}", model.points().len(), if self.points { "" } else { " (`--points` lists them)" }),
            ),
            ("tokenizer", tokenizer.to_owned()),
            ("digest", model.digest()?),
        ];
        for (name, value) in lines {
            console.line(format_args!("{name:12} {value}"))?;
        }
        if self.points {
            for point in model.points() {
                console.line(point)?;
            }
        }
        Ok(())
    }

    fn json_of(&self, model: &Decoder, parameters: usize, bytes: usize) -> Result<Value> {
        let points: Vec<String> = model.points().iter().map(ToString::to_string).collect();
        let mut object = json!({
            "model": self.model, "architecture": model.architecture(), "parameters": parameters, "bytes": bytes,
            "dtype": dtype_name(model.kind()), "device": device_name(model.device()),
            "hook_points": points.len(), "tokenizer": model.tokenizer()?.is_some(), "digest": model.digest()?,
        });
        if self.points {
            object["points"] = json!(points);
        }
        Ok(object)
    }
}

/// The numbers and bytes of all weights; what is tied counts once.
fn size(model: &Decoder) -> Result<(usize, usize)> {
    let weights = model.weights().into_iter().map(|weight| model.weight(weight)).collect::<Result<Vec<Tensor>, _>>()?;
    let mut seen = HashSet::new();
    let own = weights.iter().filter(|weight| seen.insert(weight.data_ptr()));
    let parameters: usize = own.map(Tensor::numel).sum();
    Ok((parameters, parameters * model.kind().elt_size_in_bytes()))
}

/// The name of a choice, whether or not it has details.
fn word(choice: &Value) -> String {
    match choice {
        Value::Object(details) => details.keys().next().cloned().unwrap_or_default(),
        Value::String(name) => name.clone(),
        other => other.to_string(),
    }
}

/// A number with a comma between thousands.
fn grouped(number: usize) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

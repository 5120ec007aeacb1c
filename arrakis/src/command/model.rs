//! `arrakis model`: what a model is, and what a run of it would cost.

use std::collections::{BTreeMap, HashSet};

use anyhow::Result;
use arrakis_bench::{device_name, dtype_name};
use arrakis_core::{ModelExt, NormKind, Plan, Residual, Trace};
use clap::Args;
use serde_json::{Value, json};

use super::console::Console;
use super::memory::grouped;
use super::options::Options;
use super::prompts::Prompts;
use crate::Loaded;

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// A folder, a `.gguf` file, a hub id, or one that ships: `builtin:leviathan`, `builtin:transformer`, `builtin:induction`
    model: String,
    /// List the hook points
    #[arg(long)]
    points: bool,
    /// Say what keeping these points would cost for the prompt, without running it; `*` stands for anything
    #[arg(long, value_name = "POINTS")]
    keep: Vec<String>,
    #[command(flatten)]
    prompts: Prompts,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

impl Arguments {
    pub(crate) fn run(self, options: &Options, console: &Console<'_>) -> Result<()> {
        let model = options.load(&self.model)?;
        let size = Size::of(&model)?;
        let plan = self.plan(&model)?;
        if self.json {
            return Ok(console.json(&self.json_of(&model, &size, plan.as_ref())?)?);
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
        ];
        let after = [
            ("parameters", grouped(size.parameters)),
            ("bytes", format!("{} on {}", size.text(), device_name(model.device()))),
            (
                "hook points",
                format!("{}{}", model.points().len(), if self.points { "" } else { " (`--points` lists them)" }),
            ),
            ("tokenizer", tokenizer.to_owned()),
            ("digest", model.digest()?),
        ];
        for (name, value) in lines.into_iter().chain(model.particulars()?).chain(after) {
            console.line(format_args!("{name:12} {value}"))?;
        }
        if self.points {
            for point in model.points() {
                console.line(point)?;
            }
        }
        plan.map_or(Ok(()), |plan| lines_of(&plan, console))
    }

    /// What a run over the prompt would hold; nothing if no run was described.
    fn plan(&self, model: &Loaded) -> Result<Option<Plan>> {
        if self.keep.is_empty() && self.prompts.parameter()?.is_none() {
            return Ok(None);
        }
        let tokens = self.prompts.tokens(&**model)?;
        Ok(Some(self.keep.iter().fold(model.trace(&tokens), Trace::keep).plan()?))
    }

    fn json_of(&self, model: &Loaded, size: &Size, plan: Option<&Plan>) -> Result<Value> {
        let points: Vec<String> = model.points().iter().map(ToString::to_string).collect();
        let mut object = json!({
            "model": self.model, "architecture": model.architecture()?, "parameters": size.parameters,
            "bytes": size.bytes.values().sum::<u64>(), "bytes_by_dtype": size.bytes,
            "dtype": dtype_name(model.kind()), "device": device_name(model.device()),
            "hook_points": points.len(), "tokenizer": model.tokenizer()?.is_some(), "digest": model.digest()?,
        });
        if self.points {
            object["points"] = json!(points);
        }
        if let Some(plan) = plan {
            object["plan"] = json!(plan);
            object["plan"]["bytes"] = json!(plan.bytes());
        }
        Ok(object)
    }
}

/// What a run would hold, one line for each value and one for all.
fn lines_of(plan: &Plan, console: &Console<'_>) -> Result<()> {
    console.line(format_args!("\na run over {} x {} tokens would hold", plan.batch, plan.pos))?;
    for value in &plan.kept {
        console.line(format_args!("{:>16} bytes  {} {:?}", grouped(value.bytes), value.point, value.shape))?;
    }
    console.line(format_args!("{:>16} bytes  logits", grouped(plan.logits_bytes)))?;
    console.line(format_args!("{:>16} bytes  in all, beside the weights", grouped(plan.bytes())))?;
    Ok(())
}

/// The numbers and bytes of all weights, by kind; what is tied counts once.
struct Size {
    parameters: u64,
    bytes: BTreeMap<String, u64>,
}

impl Size {
    fn of(model: &Loaded) -> Result<Self> {
        let mut size = Self { parameters: 0, bytes: BTreeMap::new() };
        let mut seen = HashSet::new();
        for weight in model.weights() {
            let weight = model.weight(weight)?;
            if seen.insert(weight.data_ptr()) {
                let numbers = weight.numel() as u64;
                size.parameters += numbers;
                *size.bytes.entry(dtype_name(weight.kind())).or_default() +=
                    numbers * weight.kind().elt_size_in_bytes() as u64;
            }
        }
        Ok(size)
    }

    fn text(&self) -> String {
        let kinds = self.bytes.iter().map(|(kind, bytes)| format!("{} as {kind}", grouped(*bytes)));
        kinds.collect::<Vec<String>>().join(", ")
    }
}

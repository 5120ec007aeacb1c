//! Draws every kind of picture from the demo model: `cargo xtask gallery`, or `cargo run -p arrakis --example gallery`.
//!
//! SVG goes to `docs/gallery`, the page that shows them to `docs/gallery.md`, and PNG and HTML, to be looked at, to
//! `target/gallery`. Run it in the root of the project.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use arrakis::core::{Axis, Grid, PlotSpec, Ranking, RowLabels, Series};
use arrakis::examples::MODEL;
use arrakis::graph::{Picture, Style, draw_picture, kinds, plot, plot_parts, reads};
use arrakis::prelude::*;
use serde_json::{Value, json};

const TEXT: &str = "When Mary and John went to the store, John gave a drink to";
const CORRUPTED: &str = "When Mary and John went to the store, Mary gave a drink to";
const REPEATED: &str = "The quick brown fox jumps over the lazy dog. The quick brown fox jumps over the lazy dog.";
/// The most bytes of a picture that is checked in.
const MOST: usize = 150_000;

/// A picture, and what is typed to get one like it.
struct Shown {
    kind: &'static str,
    picture: Box<dyn Picture>,
    command: String,
}

struct Gallery<'a> {
    model: &'a Decoder,
    bench: Bench<'a>,
}

fn main() -> Result<()> {
    let (svg, looked_at) = (Path::new("docs/gallery"), Path::new("target/gallery"));
    fs::create_dir_all(svg)?;
    fs::create_dir_all(looked_at)?;
    let model = load(MODEL, &LoadOptions::default())?;
    let gallery = Gallery { model: &model, bench: Bench::new(&model).named(MODEL).unlogged() };
    let mut page = "# Gallery\n\nEvery kind of picture, drawn from SmolLM2-135M-Instruct by `cargo xtask gallery`. `arrakis plot` lists the \
                    kinds; a file that ends in `.svg` or `.png` is a picture for a paper, one that ends in `.html` a page to explore: attention by \
                    layer, head and token, grids cell by cell. `MODEL` stands for the model, `…` for the text.\n"
        .to_owned();
    for shown in gallery.pictures()? {
        let Shown { kind, picture, command } = &shown;
        let file = svg.join(format!("{kind}.svg"));
        draw_picture(picture.as_ref(), &file, &Style::DEFAULT).with_context(|| (*kind).to_owned())?;
        for ending in ["png", "html"] {
            draw_picture(picture.as_ref(), &looked_at.join(format!("{kind}.{ending}")), &Style::DEFAULT)?;
        }
        draw_picture(
            picture.as_ref(),
            &looked_at.join(format!("{kind}-dark.png")),
            &Style { dark: true, ..Style::DEFAULT },
        )?;
        let bytes = fs::metadata(&file)?.len();
        ensure!((bytes as usize) < MOST, "`{kind}` has {bytes} bytes, more than is checked in");
        let about = kinds().iter().find(|known| known.name() == *kind).map_or("", |known| known.about());
        write!(page, "\n## {kind}\n\n{about}.\n\n![{kind}](gallery/{kind}.svg)\n\n```sh\n{command}\n```\n")?;
        println!("{kind}: {bytes} bytes");
    }
    fs::write("docs/gallery.md", page)?;
    Ok(())
}

impl Gallery<'_> {
    fn pictures(&self) -> Result<Vec<Shown>> {
        let some = |layers: &[usize], site: &str| -> Vec<String> {
            layers.iter().map(|layer| format!("blocks.{layer}.{site}")).collect()
        };
        let attention = PlotSpec::new("attention").points(some(&[1, 5, 10, 11, 16, 18, 23], "attn.hook_pattern"));
        let products = some(&[2, 10, 16], "attn.hook_rot_*");
        let mut shown = vec![
            self.of_points(&attention, TEXT)?,
            self.of_points(&PlotSpec::new("neuron_activation"), TEXT)?,
            self.of_points(&PlotSpec::new("attention_stats"), TEXT)?,
            self.of_points(
                &PlotSpec::new("induction_heads").points(some(&[5, 8, 14, 17, 18, 20], "attn.hook_pattern")),
                REPEATED,
            )?,
            self.of_points(&PlotSpec::new("neuron_activation_trajectories"), TEXT)?,
            self.of_points(&PlotSpec::new("qk_dot_product").points(products), TEXT)?,
            self.of_points(&PlotSpec::new("residual_stream"), TEXT)?,
            self.of_points(&PlotSpec::new("layer_norms"), TEXT)?,
        ];
        shown.extend(self.of_answers()?);
        shown.extend(self.of_made()?);
        let order = |shown: &Shown| kinds().iter().position(|kind| kind.name() == shown.kind);
        shown.sort_by_key(order);
        ensure!(shown.len() == kinds().len(), "{} of {} kinds are drawn", shown.len(), kinds().len());
        Ok(shown)
    }

    fn of_points(&self, spec: &PlotSpec, text: &str) -> Result<Shown> {
        let tokens = self.model.tokens(&[text])?;
        let row = RowLabels::of(&tokens, 0, self.model)?;
        let mut trace = self.model.trace(&tokens).logits(PosSlice::None);
        for point in reads(spec, self.model.points())? {
            trace = trace.keep(point);
        }
        let run = trace.run()?;
        let points: Vec<String> = spec.points.iter().map(|point| format!(" --points '{point}'")).collect();
        let command = format!("arrakis plot {} --model MODEL --prompt '…'{} --out x.svg", spec.kind, points.concat());
        Ok(Shown { kind: name(&spec.kind)?, picture: plot(spec, row.beside(&run.cache))?, command })
    }

    /// What answers of tools look like.
    fn of_answers(&self) -> Result<Vec<Shown>> {
        let metric = json!({ "logit_difference": { "answer": " Mary", "wrong": " John" } });
        let direct = json!({ "prompt": TEXT, "answer": " Mary", "wrong": " John" });
        let patched = json!({ "clean": TEXT, "corrupted": CORRUPTED, "metric": metric, "kinds": ["resid_pre"] });
        let other = json!({ "prompt": CORRUPTED, "answer": " Mary", "wrong": " John" });
        let first = self.ask("logit_attribution.direct", &direct)?;
        let second = self.ask("logit_attribution.direct", &other)?;
        let heads = part(&first, "heads")?;
        let Part::Grid(grid) = heads else { anyhow::bail!("`heads` is no grid") };
        let scores = self.ask("attention.heads", &json!({ "length": 40 }))?;
        let ranked = |name: &str| -> Result<Part> {
            let Part::Grid(grid) = part(&scores, name)? else { anyhow::bail!("`{name}` is no grid") };
            let mut ranking = grid.strongest(grid.values.len());
            ranking.title.clone_from(&grid.title);
            Ok(ranking.into())
        };
        let (induction, previous) = (ranked("induction")?, ranked("previous_token")?);
        let lens = self.ask("logit_lens.lens", &json!({ "prompt": "The capital of France is" }))?;
        let patching = self.ask("patching.activation", &patched)?;
        let composition = self.ask("head_composition.scores", &json!({ "inputs": ["k"] }))?;
        let neuron = json!({ "neuron": { "layer": 20, "neuron": 100 } });
        let tops = json!({ "corpus": "docs/corpus.json", "feature": neuron, "skip": 1 });
        let portrait = json!({ "corpus": "docs/corpus.json", "layer": 20, "neuron": 100, "skip": 1 });
        let (tops, portrait) = (self.ask("feature_viz.top_tokens", &tops)?, self.ask("feature_viz.neuron", &portrait)?);
        let sheet: Vec<(&str, &Part)> = tops.parts().chain(portrait.parts()).collect();
        let feature = Shown {
            kind: name("feature")?,
            picture: plot_parts(&PlotSpec::new("feature"), &sheet)?,
            command: "arrakis plot feature corpus=FILE.json layer=20 neuron=100 skip=1 --model MODEL --out x.svg"
                .into(),
        };
        let strongest = Part::from(grid.strongest(24));
        let made = |kind: &str, parts: &[&Part], command: &str| -> Result<Shown> {
            let parts: Vec<(&str, &Part)> = parts.iter().map(|part| ("part", *part)).collect();
            let picture = plot_parts(&PlotSpec::new(kind), &parts)?;
            Ok(Shown { kind: name(kind)?, picture, command: format!("arrakis plot {kind} {command} --out x.svg") })
        };
        Ok(vec![
            feature,
            made("logit_lens", &[part(&lens, "lens")?], "--model MODEL --prompt '…'")?,
            made("patching", &[part(&patching, "resid_pre")?], "clean='…' corrupted='…' metric='…' --model MODEL")?,
            made("head_layer", &[heads], "answer=' Mary' wrong=' John' --model MODEL --prompt '…'")?,
            made("waterfall", &[&strongest], "--run ID --part NAME")?,
            made("composition", &[part(&composition, "k")?], "inputs='[\"k\"]' --model MODEL")?,
            made("difference", &[heads, part(&second, "heads")?], "--run ID --run ID --part heads")?,
            made("histogram", &[heads], "--run ID --part heads")?,
            made("scatter", &[&induction, &previous], "--run ID --part NAME --part NAME")?,
        ])
    }

    /// What is made of runs here: losses with their intervals, memory, a neuron along a text, a lens in training.
    fn of_made(&self) -> Result<Vec<Shown>> {
        let texts = [
            ("prose", "The old man walked slowly down to the harbour, where the boats lay still in the morning light."),
            ("code", "def add(a, b):\n    return a + b\n\nprint(add(1, 2))\n"),
            ("repeated", REPEATED),
            ("digits", "3 1 4 1 5 9 2 6 5 3 5 8 9 7 9 3 2 3 8 4 6"),
        ];
        let mut values = Vec::new();
        for (_, text) in texts {
            let tokens = self.model.tokens(&[text])?;
            let clean = self.model.trace(&tokens).run()?;
            let without =
                [(17, 4), (17, 5), (18, 6), (20, 6)].into_iter().fold(self.model.trace(&tokens), |trace, head| {
                    trace.edit(Site::Z.at(head.0), edit::head(head.1, edit::zero()))
                });
            let without = without.run()?;
            let (clean, without) = (losses(clean.logits()?, &tokens)?, losses(without.logits()?, &tokens)?);
            let changes: Vec<f64> = without.iter().zip(&clean).map(|(without, clean)| without - clean).collect();
            let count = changes.len() as f64;
            let mean = changes.iter().sum::<f64>() / count;
            let variance = changes.iter().map(|change| (change - mean).powi(2)).sum::<f64>() / (count - 1.0);
            let half = 1.96 * (variance / count).sqrt();
            values.extend([mean, mean - half, mean + half]);
        }
        let rows = Axis::new("text", texts.map(|(name, _)| name));
        let columns = Axis::new("number", ["estimate", "low", "high"]);
        let value = "change in loss (nats), mean and 95% interval over tokens";
        let intervals: Part =
            Grid::new("Loss without four induction heads: 17.4, 17.5, 18.6, 20.6", value, rows, columns, values)?
                .into();

        let tokens = self.model.tokens(&[TEXT])?;
        let plan = self.model.trace(&tokens).keep("*").plan()?;
        let mut sizes: Vec<(String, f64)> = Vec::new();
        for kept in &plan.kept {
            let site = kept.point.site.to_string();
            match sizes.iter_mut().find(|(known, _)| *known == site) {
                Some((_, bytes)) => *bytes += kept.bytes as f64 / 1e6,
                None => sizes.push((site, kept.bytes as f64 / 1e6)),
            }
        }
        let memory: Part = Ranking::new("Memory of everything kept", "MB", sizes).into();

        let long = "The Eiffel Tower is in Paris, the Colosseum is in Rome, and the Brandenburg Gate is in Berlin.";
        let tokens = self.model.tokens(&[long])?;
        let run = self.model.trace(&tokens).keep(Site::MLP_POST.at(20)).logits(PosSlice::None).run()?;
        let line = arrakis::core::answer::numbers(&run.cache[Site::MLP_POST.at(20)].get(0).select(1, 100))?;
        let axis = Axis::new("token", tokens.labels(self.model, 0)?);
        let neuron: Part = Series::new("Layer 20, neuron 100", "activation", axis, [("", line)])?.into();

        let training = self.training()?;
        let made = |kind: &str, part: &Part, command: &str| -> Result<Shown> {
            let picture = plot_parts(&PlotSpec::new(kind), &[("part", part)])?;
            Ok(Shown { kind: name(kind)?, picture, command: format!("arrakis plot {kind} {command} --out x.svg") })
        };
        Ok(vec![
            made("intervals", &intervals, "--run ID --part NAME")?,
            made("profile", &memory, "--run ID --part NAME")?,
            made("text", &neuron, "--run ID --part NAME")?,
            made("training_curves", &training, "--run ID --run ID --part training")?,
        ])
    }

    /// A shift of the stream learnt by steps of a fixed length from three seeds: one curve with a band for each length.
    fn training(&self) -> Result<Part> {
        let tokens = self.model.tokens(&[TEXT])?;
        let run = self.model.trace(&tokens).keep(Site::RESID_POST.at(14)).run()?;
        let target = run.logits()?.get(0).softmax(-1, Kind::Float);
        let resid = run.cache[Site::RESID_POST.at(14)].get(0);
        let mut lines = Vec::new();
        for (length, name) in [(2.0, "steps of 2"), (8.0, "steps of 8")] {
            for seed in 0..3 {
                let mut stream = arrakis::core::Stream::new(seed, "start");
                let start: Vec<f32> = (0..resid.size()[1]).map(|_| 6.0 * stream.normal() as f32).collect();
                let mut shift = Tensor::from_slice(&start);
                let mut losses = Vec::new();
                for _ in 0..30 {
                    let leaf = shift.set_requires_grad(true);
                    let logits = self.model.unembed(&(&resid + &leaf))?;
                    let loss =
                        -(&target * logits.log_softmax(-1, Kind::Float)).sum(Kind::Float) / resid.size()[0] as f64;
                    let gradient = Tensor::run_backward(&[&loss], &[&leaf], false, false).remove(0);
                    losses.push(loss.double_value(&[]));
                    shift = (&leaf - &gradient / gradient.norm() * length).detach();
                }
                lines.push((format!("{name}, seed {seed}"), losses));
            }
        }
        Ok(Series::new(
            "A shift of layer 14 towards the output",
            "cross-entropy (nats)",
            Axis::indices("step", 30),
            lines,
        )?
        .into())
    }

    fn ask(&self, tool: &str, parameters: &Value) -> Result<Answer> {
        Ok(self.bench.ask(tool, parameters.clone()).with_context(|| tool.to_owned())?.answer)
    }
}

/// The loss at each token after the first.
fn losses(logits: &Tensor, tokens: &arrakis::core::Tokens) -> Result<Vec<f64>> {
    let len = tokens.positions() as i64;
    let log = logits.get(0).narrow(0, 0, len - 1).log_softmax(-1, Kind::Double);
    let next = tokens.ids().get(0).narrow(0, 1, len - 1).unsqueeze(-1);
    Ok(arrakis::core::answer::numbers(&-log.gather(-1, &next, false))?)
}

fn part<'a>(answer: &'a Answer, name: &str) -> Result<&'a Part> {
    answer.get(name).with_context(|| format!("the answer has no part `{name}`"))
}

/// The kind's own name, which lasts as long as the program.
fn name(kind: &str) -> Result<&'static str> {
    Ok(arrakis::graph::kind(kind)?.name())
}

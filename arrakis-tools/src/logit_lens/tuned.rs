//! Reading through a tuned lens.

use std::path::PathBuf;

use arrakis_core::{
    Answer, Axis, Context, ModelExt, PosSlice, Prompt, Result, Series, Site, TokenChoice, Tokens, Tool, answer,
    register_tools,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use super::RowLens;
use super::translators::{Translators, divergence, logits};
use crate::index;
use crate::lens_reading::Reading;

/// Reads the residual stream before every block through a tuned lens, and at the end as the model does.
///
/// The stream before block `l` becomes `h + h A_l + b_l` by the translators of `logit_lens.tuned_train`, and is read as
/// the logit lens reads it. `divergence` is KL(model ‖ lens) at the followed position, in nats, beside that of the plain
/// lens. Identity: untrained translators are the logit lens exactly, and the end is the model's own output; `logit_gap` is
/// the greatest absolute difference of the last.
/// Source: Belrose et al., "Eliciting latent predictions from transformers with the tuned lens" (2023).
///
/// ```
/// # use arrakis_core::{Context, Corpus, Prompt, Tool};
/// # use arrakis_tools::{TunedLens, TunedLensTraining};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/golden/llama");
/// # let model = arrakis_models::load(folder, &arrakis_models::LoadOptions::default())?;
/// # let cx = Context::new(&model);
/// # let file = std::env::temp_dir().join(format!("tuned-{}.safetensors", std::process::id()));
/// # let corpus = Corpus::Rows(vec![vec![9, 3, 17, 40], vec![5, 8, 2, 6], vec![7, 7, 1, 3]]);
/// # TunedLensTraining { steps: 2, ..TunedLensTraining::new(corpus, &file) }.run(&cx)?;
/// let found = TunedLens::new(Prompt::Ids(vec![9, 3, 17]), &file).run(&cx)?;
/// assert_eq!(found.rows[0].lens.grid.rows.labels[..2], ["0_pre", "1_pre"]);
/// # std::fs::remove_file(file)?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TunedLens {
    /// What to read.
    pub prompt: Prompt,
    /// The file that `logit_lens.tuned_train` wrote for this model.
    #[schemars(extend("x-file" = "read"))]
    pub file: PathBuf,
    /// Position whose likeliest tokens and targets are followed through the layers; the last one if absent.
    #[serde(default)]
    pub position: Option<i64>,
    /// How many of the likeliest tokens are given at each layer and position.
    #[serde(default = "five")]
    pub top: usize,
    /// Tokens whose probability and rank are followed through the layers.
    #[serde(default)]
    pub targets: Vec<TokenChoice>,
}

const fn five() -> usize {
    5
}

impl TunedLens {
    /// The tuned lens in `file` over `prompt`, with the defaults of everything else.
    pub fn new(prompt: impl Into<Prompt>, file: impl Into<PathBuf>) -> Self {
        Self { prompt: prompt.into(), file: file.into(), position: None, top: five(), targets: Vec::new() }
    }
}

/// What a tuned lens shows, row by row.
#[derive(Debug, Clone)]
pub struct TunedReading {
    /// One reading for each row of the prompt.
    pub rows: Vec<RowTuned>,
}

/// The tuned lens of one row.
#[derive(Debug, Clone)]
pub struct RowTuned {
    /// What the lens shows: before each block, and at the end.
    pub lens: RowLens,
    /// Divergence from the model at the followed position, by layer, in nats: lines `tuned lens`, `logit lens`.
    pub divergence: Series,
}

impl From<TunedReading> for Answer {
    fn from(found: TunedReading) -> Self {
        let count = found.rows.len();
        found.rows.into_iter().enumerate().fold(Self::new(), |answer, (row, found)| {
            let name = |name: &str| index::row_part(row, count, name);
            found.lens.told(answer, name).with(name("divergence"), found.divergence)
        })
    }
}

impl Tool for TunedLens {
    const NAME: &'static str = "logit_lens.tuned";
    type Output = TunedReading;

    fn run(&self, cx: &Context<'_>) -> Result<TunedReading> {
        let model = cx.model();
        let top = index::count("top", self.top, model.dims().vocab)?;
        let targets: Vec<i64> = self.targets.iter().map(|token| token.id(model)).collect::<Result<_>>()?;
        let tokens = self.prompt.tokens(model)?;
        let translators = Translators::read(&self.file, model)?;
        let rows = (0..tokens.batch()).map(|row| {
            cx.progress(row as u64, tokens.batch() as u64)?;
            self.row(cx, &tokens.row(row)?, &translators, top, &targets)
        });
        Ok(TunedReading { rows: rows.collect::<Result<_>>()? })
    }
}

impl TunedLens {
    fn row(
        &self,
        cx: &Context<'_>,
        ids: &[i64],
        translators: &Translators,
        top: usize,
        targets: &[i64],
    ) -> Result<RowTuned> {
        let model = cx.model();
        let layers = model.dims().n_layers;
        let followed = index::position(self.position.unwrap_or(-1), ids.len())?;
        let end = Site::RESID_POST.at(layers - 1);
        let tokens = Tokens::from_ids(ids)?;
        let run = model.trace(&tokens).logits(PosSlice::All).keep(Site::RESID_PRE).keep(end).run()?;
        let last = run.cache.get(end)?.f_select(0, 0)?;
        let (mut streams, mut plain, mut names) = (Vec::new(), Vec::new(), Vec::new());
        for layer in 0..layers {
            let stream = run.cache.get(Site::RESID_PRE.at(layer))?.f_select(0, 0)?;
            streams.push(translators.apply(layer, &stream)?.f_to_kind(model.kind())?);
            plain.push(stream);
            names.push(format!("{layer}_pre"));
        }
        let at = |streams: &[Tensor]| -> Result<Tensor> {
            let read = streams.iter().map(|stream| Ok(stream.f_select(0, followed)?)).collect::<Result<Vec<_>>>()?;
            Ok(Tensor::f_stack(&read, 0)?)
        };
        let target = logits(model, &last.f_narrow(0, followed, 1)?)?.f_log_softmax(-1, None::<Kind>)?;
        let from = |streams: &[Tensor]| -> Result<Vec<f64>> {
            answer::numbers(&divergence(&target, &logits(model, &at(streams)?)?)?)
        };
        let divergence = Series::new(
            "divergence from the model",
            "nats",
            Axis::new("layer", names.clone()),
            [("tuned lens", from(&streams)?), ("logit lens", from(&plain)?)],
        )?;
        streams.push(last);
        names.push("final_post".into());
        let stream = Tensor::f_stack(&streams, 0)?;
        let reading = Reading::of(cx, &stream, top, targets, &run.logits()?.f_select(0, 0)?)?;
        let texts: Vec<String> = ids.iter().map(|id| model.token(*id)).collect();
        let lens =
            reading.shown(model, &Axis::new("layer", names), &Axis::new("position", texts), followed, targets)?;
        Ok(RowTuned { lens, divergence })
    }
}

register_tools!(TunedLens);

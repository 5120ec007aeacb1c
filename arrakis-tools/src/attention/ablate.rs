//! What is lost when a component is put out of action.

use arrakis_core::{
    Answer, Axis, Cache, Context, Error, Grid, HookPoint, Metric, Model, PosSlice, Prompt, Ranking, Result, Series,
    Site, Tokens, Tool, register_tools,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::Tensor;

use super::rerun::Rerun;
use crate::{gap, index, reduce};

/// Measures what is lost when a head, an attention layer or an MLP is put out of action, one at a time.
///
/// What the component gives is replaced at every position: by zeros, by its mean over rows and real positions, or by
/// what it gives over another prompt. Of a head that is `z`, its values mixed by its pattern. The effect is the metric
/// after less the metric before, a mean over the rows. Several ablations share a pass, which starts at their layer.
/// Identity: among them goes one that replaces nothing, and `unchanged_gap` is the greatest absolute difference of its
/// metric from the one before.
/// Source: Michel et al., "Are sixteen heads really better than one?" (2019); Wang et al., "Interpretability in the
/// wild" (2023) for means; Chan et al., "Causal scrubbing" (2022) for resampling.
///
/// ```
/// # use arrakis_core::{Context, Metric, Prompt, Tool};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/golden/gpt2");
/// # let model = arrakis_models::load(folder, &arrakis_models::LoadOptions::default())?;
/// let asked = arrakis_tools::AttentionAblation::new(Prompt::Ids(vec![9, 3, 17]), Metric::Loss);
/// let found = asked.run(&Context::new(&model))?;
/// println!("without {}: {:+} nats", found.strongest.entries[0].label, found.strongest.entries[0].value);
/// # assert!(found.unchanged_gap < 1e-5);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AttentionAblation {
    /// What to read.
    pub prompt: Prompt,
    /// What is measured, as a mean over the rows.
    pub metric: Metric,
    /// What stands in place of what a component gives.
    #[serde(default)]
    pub kind: AblationKind,
    /// What `resample` takes its values from, each row as long as in `prompt`; and `mean` its means, from `prompt` itself
    /// if absent.
    #[serde(default)]
    pub source: Option<Prompt>,
    /// Which components are ablated.
    #[serde(default = "AblatedPart::usual")]
    pub parts: Vec<AblatedPart>,
    /// Layers to ablate in; all of them if absent.
    #[serde(default)]
    pub layers: Option<Vec<usize>>,
    /// Heads to ablate in each layer; all of them if absent.
    #[serde(default)]
    pub heads: Option<Vec<usize>>,
}

/// What stands in place of what a component gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AblationKind {
    /// Zeros.
    #[default]
    Zero,
    /// Its mean over rows and real positions.
    Mean,
    /// What it gives over another prompt, position by position.
    Resample,
}

/// A kind of component.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AblatedPart {
    /// One head.
    Head,
    /// All heads of a layer and the bias: what attention writes.
    Attention,
    /// What an MLP writes.
    Mlp,
}

impl AblatedPart {
    fn usual() -> Vec<Self> {
        vec![Self::Head, Self::Mlp]
    }

    const fn site(self) -> Site {
        match self {
            Self::Head => Site::Z,
            Self::Attention => Site::ATTN_OUT,
            Self::Mlp => Site::MLP_OUT,
        }
    }
}

impl AttentionAblation {
    /// Heads and MLPs of every layer ablated by zero.
    pub fn new(prompt: impl Into<Prompt>, metric: Metric) -> Self {
        let (prompt, kind, parts) = (prompt.into(), AblationKind::default(), AblatedPart::usual());
        Self { prompt, metric, kind, source: None, parts, layers: None, heads: None }
    }
}

/// The metric without each component.
#[derive(Debug, Clone)]
pub struct Ablations {
    /// The metric with everything in place.
    pub before: f64,
    /// The effect of each head: `[layer, head]`.
    pub heads: Option<Grid>,
    /// The metric without each head: `[layer, head]`.
    pub heads_after: Option<Grid>,
    /// The effect of attention and MLP, by layer.
    pub layers: Option<Series>,
    /// The metric without attention and MLP, by layer.
    pub layers_after: Option<Series>,
    /// The components with the greatest absolute effects.
    pub strongest: Ranking,
    /// Greatest absolute difference from `before` where nothing was replaced.
    pub unchanged_gap: f64,
}

impl From<Ablations> for Answer {
    fn from(found: Ablations) -> Self {
        let mut answer = Self::new().with("before", found.before).with("strongest", found.strongest);
        for (name, grid) in [("heads", found.heads), ("heads_after", found.heads_after)] {
            answer = grid.into_iter().fold(answer, |answer, grid| answer.with(name, grid));
        }
        for (name, series) in [("layers", found.layers), ("layers_after", found.layers_after)] {
            answer = series.into_iter().fold(answer, |answer, series| answer.with(name, series));
        }
        answer.with("unchanged_gap", found.unchanged_gap)
    }
}

/// How many of the strongest effects are listed.
const STRONGEST: usize = 10;

impl Tool for AttentionAblation {
    const NAME: &'static str = "attention.ablate";
    type Output = Ablations;

    fn run(&self, cx: &Context<'_>) -> Result<Ablations> {
        let dims = cx.model().dims();
        if self.parts.is_empty() {
            let why = "the list is empty; leave it out for heads and MLPs".into();
            return Err(Error::Invalid { what: "parts".into(), why });
        }
        let layers = index::chosen("layer", self.layers.as_deref(), dims.n_layers)?;
        let heads = index::chosen("head", self.heads.as_deref(), dims.n_heads)?;
        let tokens = self.prompt.tokens(cx.model())?;
        let source = self.replacements(cx, &tokens, &layers)?;
        let rerun = Rerun::of(cx, &tokens, &self.metric, &layers)?;

        let (mut by_head, mut lines, mut unchanged_gap) = (None, Vec::new(), 0.0);
        let total = (self.parts.len() * layers.len()) as u64;
        for (done, part) in self.parts.iter().enumerate() {
            let ablated: &[usize] = if *part == AblatedPart::Head { &heads } else { &[0] };
            let mut values = Vec::with_capacity(layers.len() * ablated.len());
            for (step, layer) in layers.iter().enumerate() {
                cx.progress((done * layers.len() + step) as u64, total)?;
                let point = part.site().at(*layer);
                // The last run replaces nothing.
                let mut after = rerun.changed(cx, point, *layer, ablated.len() + 1, |numbers, value| {
                    let wanted = numbers.iter().map(|number| ablated.get(*number).copied());
                    replaced(value, source.get(point).ok(), &wanted.collect::<Vec<_>>())
                })?;
                let unchanged = after.pop().unwrap_or(f64::NAN);
                unchanged_gap = gap::worse(unchanged_gap, (unchanged - rerun.before).abs());
                values.extend(after);
            }
            match part {
                AblatedPart::Head => by_head = Some(values),
                AblatedPart::Attention => lines.push(("attention", values)),
                AblatedPart::Mlp => lines.push(("MLP", values)),
            }
        }
        self.shown(&layers, &heads, rerun.before, by_head, lines, unchanged_gap)
    }

    fn measured(&self, model: &dyn Model) -> Result<Option<String>> {
        self.metric.described(model).map(Some)
    }
}

impl AttentionAblation {
    /// What stands in place of the value at each point: broadcasts to `[row, pos, …]`; nothing for zeros.
    fn replacements(&self, cx: &Context<'_>, tokens: &Tokens, layers: &[usize]) -> Result<Cache> {
        let invalid = |why: &str| Err(Error::Invalid { what: "source".into(), why: why.into() });
        let source = self.source.as_ref().map(|prompt| prompt.tokens(cx.model())).transpose()?;
        let source = match (self.kind, &source) {
            (AblationKind::Zero, None) => return Ok(Cache::new()),
            (AblationKind::Zero, Some(_)) => return invalid("zeros come from nowhere; ask for `mean` or `resample`"),
            (AblationKind::Mean, None) => tokens,
            (AblationKind::Resample, None) => return invalid("`resample` wants a prompt to take values from"),
            (_, Some(source)) => source,
        };
        if self.kind == AblationKind::Resample {
            let lengths = |tokens: &Tokens| -> Result<Vec<usize>> {
                (0..tokens.batch()).map(|row| Ok(tokens.row(row)?.len())).collect()
            };
            let (here, there) = (lengths(tokens)?, lengths(source)?);
            if here != there {
                let why =
                    format!("its rows have {there:?} tokens and those of the prompt {here:?}; they must be equal");
                return invalid(&why);
            }
        }
        let real = source.mask().map(|mask| mask.f_to_device(cx.model().device())).transpose()?;
        let points: Vec<HookPoint> =
            self.parts.iter().flat_map(|part| layers.iter().map(|layer| part.site().at(*layer))).collect();
        let (_, kept) = reduce::reduce(cx.model(), source, PosSlice::None, &points, |_, value| match self.kind {
            AblationKind::Resample => Ok(value.shallow_clone()),
            _ => mean(value, real.as_ref()),
        })?;
        Ok(kept)
    }

    fn shown(
        &self,
        layers: &[usize],
        heads: &[usize],
        before: f64,
        by_head: Option<Vec<f64>>,
        lines: Vec<(&'static str, Vec<f64>)>,
        unchanged_gap: f64,
    ) -> Result<Ablations> {
        let (rows, columns) = (Axis::new("layer", index::labels(layers)), Axis::new("head", index::labels(heads)));
        let label = self.metric.label();
        let effect = |values: &[f64]| values.iter().map(|value| value - before).collect::<Vec<f64>>();
        let grid = |title: &str, value: String, values: Vec<f64>| {
            Grid::new(title, value, rows.clone(), columns.clone(), values)
        };
        let change = format!("change of {label}");
        let series = |title: &str, value: &str, lines: Vec<(&'static str, Vec<f64>)>| {
            if lines.is_empty() { Ok(None) } else { Series::new(title, value, rows.clone(), lines).map(Some) }
        };
        let effects: Vec<(&str, Vec<f64>)> = lines.iter().map(|(name, values)| (*name, effect(values))).collect();
        let mut entries: Vec<(String, f64)> = Vec::new();
        if let Some(values) = &by_head {
            let names = layers.iter().flat_map(|layer| heads.iter().map(|head| index::head_label(*layer, *head)));
            entries.extend(names.zip(effect(values)));
        }
        for (name, values) in &effects {
            entries.extend(layers.iter().map(|layer| format!("{name} of layer {layer}")).zip(values.iter().copied()));
        }
        // NaN is greater than anything here, so that it is seen.
        entries.sort_by(|a, b| b.1.abs().total_cmp(&a.1.abs()));
        entries.truncate(STRONGEST);
        let heads_effect =
            by_head.as_deref().map(|values| grid("effect of ablating a head", change.clone(), effect(values)));
        Ok(Ablations {
            before,
            heads: heads_effect.transpose()?.map(Grid::diverging),
            heads_after: by_head.map(|values| grid("without a head", label.to_owned(), values)).transpose()?,
            layers: series("effect of ablating a layer's half", &change, effects)?,
            layers_after: series("without a layer's half", label, lines)?,
            strongest: Ranking::new("strongest ablations", change, entries),
            unchanged_gap,
        })
    }
}

/// The mean over rows and real positions (`real` is `[row, pos]`), which broadcasts to the value.
fn mean(value: &Tensor, real: Option<&Tensor>) -> Result<Tensor> {
    let Some(real) = real else { return Ok(value.f_mean_dim(&[0_i64, 1][..], true, value.kind())?) };
    let mut shape = real.size();
    shape.resize(value.dim(), 1);
    let real = real.f_to_kind(value.kind())?.f_view(&shape[..])?;
    let sum = value.f_mul(&real)?.f_sum_dim_intlist(&[0_i64, 1][..], true, value.kind())?;
    Ok(sum.f_div(&real.f_sum(value.kind())?)?)
}

/// The value (`[run, row, pos, head, d_head]` or `[run, row, pos, d_model]`) with the wanted head of each run replaced;
/// the whole where there are no heads, nothing where none is wanted.
fn replaced(value: &Tensor, source: Option<&Tensor>, wanted: &[Option<usize>]) -> Result<Tensor> {
    let size = value.size();
    let heads = if size.len() == 5 { size[3] as usize } else { 1 };
    let cells: Vec<bool> = wanted.iter().flat_map(|wanted| (0..heads).map(move |head| *wanted == Some(head))).collect();
    let mut shape = vec![1; size.len()];
    shape[0] = wanted.len() as i64;
    if size.len() == 5 {
        shape[3] = heads as i64;
    }
    let chosen = Tensor::f_from_slice(&cells)?.f_view(&shape[..])?.f_to_device(value.device())?;
    match source {
        Some(source) => Ok(source.f_unsqueeze(0)?.f_where_self(&chosen, value)?),
        None => Ok(value.f_masked_fill(&chosen, 0.0)?),
    }
}

register_tools!(AttentionAblation);

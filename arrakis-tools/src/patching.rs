//! Questions about which activations carry an answer, asked by moving them from one run into another.

use arrakis_core::{Answer, Axis, Context, Error, Grid, Metric, Prompt, Result, Site, Tokens, Tool, register_tools};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::index;
use crate::patch_runs::{PatchRuns, Slot};

/// Puts activations of a clean run into a corrupted one, one at a time, and measures how much of the answer comes back.
///
/// The corrupted prompt is run again and again, each time with the clean value at one point (denoising, as in
/// TransformerLens' `get_act_patch_*`). Normalised, 0 is the corrupted run and 1 the clean one. Several patches share a
/// pass, which starts at the patched layer. Identity: with the residual stream of every position patched before the
/// first block the clean run comes back, and `whole_patch_gap` is the absolute difference of the metrics.
/// Source: Meng et al., "Locating and editing factual associations in GPT" (2022); Zhang and Nanda, "Towards best
/// practices of activation patching" (2024).
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ActivationPatching {
    /// What the activations are taken from.
    pub clean: Prompt,
    /// What they are put into; each row as long as in `clean`.
    pub corrupted: Prompt,
    /// What is measured, as a mean over the rows.
    pub metric: Metric,
    /// What is patched.
    #[serde(default = "PatchKind::usual")]
    pub kinds: Vec<PatchKind>,
    /// What the numbers are.
    #[serde(default)]
    pub scale: PatchScale,
    /// Layers to patch; all of them if absent.
    #[serde(default)]
    pub layers: Option<Vec<usize>>,
}

/// What is patched, under TransformerLens' names of the sites.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PatchKind {
    /// The residual stream before a block, by layer and position.
    ResidPre,
    /// The residual stream between attention and MLP, by layer and position.
    ResidMid,
    /// What attention writes, by layer and position.
    AttnOut,
    /// What the MLP writes, by layer and position.
    MlpOut,
    /// A head's values mixed by its pattern, at all positions, by layer and head.
    Z,
    /// The same at one position, by head and position.
    ZByPos,
}

/// What the numbers of a patching experiment are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PatchScale {
    /// The share of the way from the corrupted run (0) to the clean one (1).
    #[default]
    Normalised,
    /// The metric itself.
    Raw,
}

impl PatchKind {
    fn usual() -> Vec<Self> {
        vec![Self::ResidPre, Self::AttnOut, Self::MlpOut, Self::Z]
    }

    pub(crate) const fn site(self) -> Site {
        match self {
            Self::ResidPre => Site::RESID_PRE,
            Self::ResidMid => Site::RESID_MID,
            Self::AttnOut => Site::ATTN_OUT,
            Self::MlpOut => Site::MLP_OUT,
            Self::Z | Self::ZByPos => Site::Z,
        }
    }

    /// The name of its grid.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::ResidPre => "resid_pre",
            Self::ResidMid => "resid_mid",
            Self::AttnOut => "attn_out",
            Self::MlpOut => "mlp_out",
            Self::Z => "z",
            Self::ZByPos => "z_by_pos",
        }
    }

    /// The patches of one layer, in the order of the grid.
    fn slots(self, heads: usize, positions: usize) -> Vec<Slot> {
        match self {
            Self::Z => (0..heads).map(|head| Slot { head: Some(head), position: None }).collect(),
            Self::ZByPos => (0..heads)
                .flat_map(|head| (0..positions).map(move |pos| Slot { head: Some(head), position: Some(pos) }))
                .collect(),
            _ => (0..positions).map(|pos| Slot { head: None, position: Some(pos) }).collect(),
        }
    }
}

impl ActivationPatching {
    /// The usual kinds, normalised, in every layer.
    pub fn new(clean: impl Into<Prompt>, corrupted: impl Into<Prompt>, metric: Metric) -> Self {
        let (clean, corrupted, kinds) = (clean.into(), corrupted.into(), PatchKind::usual());
        Self { clean, corrupted, metric, kinds, scale: PatchScale::default(), layers: None }
    }
}

/// What comes back of an answer when activations are patched.
#[derive(Debug, Clone)]
pub struct Patches {
    /// The metric of the clean run.
    pub clean: f64,
    /// The metric of the corrupted run.
    pub corrupted: f64,
    /// One grid for each kind: `[layer, position]`, `[layer, head]`, or `[layer * head, position]`.
    pub grids: Vec<(PatchKind, Grid)>,
    /// Absolute difference of the metric from the clean one when the whole residual stream is patched.
    pub whole_patch_gap: f64,
}

impl Patches {
    /// The grid of a kind, if it was asked for.
    #[must_use]
    pub fn grid(&self, kind: PatchKind) -> Option<&Grid> {
        self.grids.iter().find(|(known, _)| *known == kind).map(|(_, grid)| grid)
    }
}

impl From<Patches> for Answer {
    fn from(patches: Patches) -> Self {
        let answer = Self::new().with("clean", patches.clean).with("corrupted", patches.corrupted);
        let answer = patches.grids.into_iter().fold(answer, |answer, (kind, grid)| answer.with(kind.name(), grid));
        answer.with("whole_patch_gap", patches.whole_patch_gap)
    }
}

impl Tool for ActivationPatching {
    const NAME: &'static str = "patching.activation";
    type Output = Patches;

    fn run(&self, cx: &Context<'_>) -> Result<Patches> {
        let model = cx.model();
        let dims = model.dims();
        if self.kinds.is_empty() {
            return Err(Error::Invalid {
                what: "kinds".into(),
                why: "the list is empty; leave it out for the usual".into(),
            });
        }
        let layers = index::chosen("layer", self.layers.as_deref(), dims.n_layers)?;
        let clean = self.clean.tokens(model)?;
        let corrupted = self.corrupted.tokens(model)?;
        self.check(&clean, &corrupted)?;
        let sites: Vec<Site> = self.kinds.iter().map(|kind| kind.site()).collect();
        let runs = PatchRuns::of(cx, &clean, &corrupted, &self.metric, &sites, &layers)?;
        let (base, whole) = (runs.corrupted, runs.clean - runs.corrupted);
        if self.scale == PatchScale::Normalised && whole == 0.0 {
            let why = "both runs measure the same, so there is nothing to normalise by; ask with `scale` `raw`".into();
            return Err(Error::Invalid { what: "the clean and the corrupted prompt".into(), why });
        }

        let positions = corrupted.positions();
        let total = (self.kinds.len() * layers.len()) as u64;
        let mut grids = Vec::with_capacity(self.kinds.len());
        for (done, kind) in self.kinds.iter().enumerate() {
            let slots = kind.slots(dims.n_heads, positions);
            let mut values = Vec::with_capacity(layers.len() * slots.len());
            for (step, layer) in layers.iter().enumerate() {
                cx.progress((done * layers.len() + step) as u64, total)?;
                values.extend(runs.patched(cx, kind.site(), *layer, &slots)?);
            }
            if self.scale == PatchScale::Normalised {
                for value in &mut values {
                    *value = (*value - base) / whole;
                }
            }
            let (rows, columns) = axes(cx, *kind, &layers, &clean, &corrupted)?;
            let value = match self.scale {
                PatchScale::Normalised => format!("share of the {} that comes back", self.metric.label()),
                PatchScale::Raw => self.metric.label().to_owned(),
            };
            let title = format!("activation patching of {}", kind.name());
            grids.push((*kind, Grid::new(title, value, rows, columns, values)?.diverging()));
        }
        let whole_patch_gap = (runs.patched(cx, Site::RESID_PRE, 0, &[Slot::EVERY])?[0] - runs.clean).abs();
        Ok(Patches { clean: runs.clean, corrupted: runs.corrupted, grids, whole_patch_gap })
    }
}

impl ActivationPatching {
    /// Whether the prompts can be laid over each other.
    fn check(&self, clean: &Tokens, corrupted: &Tokens) -> Result<()> {
        let invalid = |why: String| Err(Error::Invalid { what: "the clean and the corrupted prompt".into(), why });
        if clean.batch() != corrupted.batch() {
            return invalid(format!("they have {} and {} rows", clean.batch(), corrupted.batch()));
        }
        for row in 0..clean.batch() {
            let (here, there) = (clean.row(row)?.len(), corrupted.row(row)?.len());
            if here != there {
                return invalid(format!(
                    "they have {here} and {there} tokens in row {row}; patching wants them equally long"
                ));
            }
        }
        let by_position = self.kinds.iter().find(|kind| **kind != PatchKind::Z);
        if let (Some(kind), Some(_)) = (by_position, clean.mask()) {
            let why =
                "its rows differ in length, so its positions do not lie over each other; ask for `z` alone".into();
            return Err(Error::Invalid { what: format!("`{}` of a batch", kind.name()), why });
        }
        Ok(())
    }
}

/// The axes of a kind's grid.
fn axes(
    cx: &Context<'_>,
    kind: PatchKind,
    layers: &[usize],
    clean: &Tokens,
    corrupted: &Tokens,
) -> Result<(Axis, Axis)> {
    let heads = cx.model().dims().n_heads;
    let by_layer = Axis::new("layer", index::labels(layers));
    if kind == PatchKind::Z {
        return Ok((by_layer, Axis::indices("head", heads)));
    }
    let positions = if clean.batch() > 1 {
        Axis::indices("position", clean.positions())
    } else {
        let (here, there) = (clean.labels(cx.model(), 0)?, corrupted.labels(cx.model(), 0)?);
        let label = |(here, there): (String, String)| if here == there { here } else { format!("{here} /{there}") };
        Axis::new("position", here.into_iter().zip(there).map(label))
    };
    if kind != PatchKind::ZByPos {
        return Ok((by_layer, positions));
    }
    let names = layers.iter().flat_map(|layer| (0..heads).map(|head| index::head_label(*layer, head)));
    Ok((Axis::new("head", names.collect::<Vec<_>>()), positions))
}

register_tools!(ActivationPatching);

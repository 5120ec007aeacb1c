//! Activation patching by its linear part: all patches from one backward pass.

use arrakis_core::{
    Answer, Axis, Case, Context, Error, Grid, HookPoint, Metric, Model, ModelExt, Prompt, Result, Site, Stack, Sweep,
    Tool, Trace, answer, register_tools,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use super::kind::{PatchKind, PatchScale};
use super::pair::{Pair, zero_and_one};
use super::tables::{Tables, with_tables};
use crate::measured::mean;
use crate::{gap, index};

/// Estimates every activation patch at once: the difference of the two runs times the metric's gradient.
///
/// For each patch, the sum of (clean - corrupted) x d metric / d activation, taken in the corrupted run: the first order
/// of what `patching.activation` measures, and exact where the rest of the model is linear. The greatest patches are also
/// run, as a check of the estimate: `checks` has both numbers. Identity: what attention writes is the sum of its heads
/// and a bias, so at each position the heads' estimates sum to that of attention; `head_gap` is the greatest difference.
/// Source: Nanda, "Attribution patching: activation patching at industrial scale" (2023); Kramár et al., "`AtP*`" (2024).
///
/// ```
/// # use arrakis_core::{Context, Metric, Prompt, Tool};
/// # use arrakis_tools::AttributionPatching;
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/golden/llama");
/// # let model = arrakis_models::load(folder, &arrakis_models::LoadOptions::default())?;
/// # let [clean, corrupted] = [vec![9, 3, 17], vec![9, 4, 17]].map(Prompt::Ids);
/// let metric = Metric::LogitDifference { answer: 3.into(), wrong: 8.into() };
/// let found = AttributionPatching::new(clean, corrupted, metric).run(&Context::new(&model))?;
/// assert!(found.head_gap < 1e-4);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AttributionPatching {
    /// What the activations are taken from.
    pub clean: Prompt,
    /// What they are put into; each row as long as in `clean`.
    pub corrupted: Prompt,
    /// What is measured, as a mean over the rows.
    pub metric: Metric,
    /// What is patched.
    #[serde(default = "PatchKind::usual")]
    pub kinds: Vec<PatchKind>,
    /// What the numbers are: shares of the way from the corrupted run to the clean one, or changes of the metric.
    #[serde(default)]
    pub scale: PatchScale,
    /// Layers to patch; all of them if absent.
    #[serde(default)]
    pub layers: Option<Vec<usize>>,
    /// How many of the greatest patches of each kind are also run.
    #[serde(default = "three")]
    pub checks: usize,
}

const fn three() -> usize {
    3
}

impl AttributionPatching {
    /// The usual kinds, normalised, in every layer, with three checks of each.
    pub fn new(clean: impl Into<Prompt>, corrupted: impl Into<Prompt>, metric: Metric) -> Self {
        let (clean, corrupted, kinds) = (clean.into(), corrupted.into(), PatchKind::usual());
        Self { clean, corrupted, metric, kinds, scale: PatchScale::default(), layers: None, checks: three() }
    }
}

/// A patch that was estimated and run.
#[derive(Debug, Clone, PartialEq)]
pub struct SpotCheck {
    /// What was patched.
    pub kind: PatchKind,
    /// Which patch: layer, head, position.
    pub label: String,
    /// The estimate.
    pub estimate: f64,
    /// What the patch does.
    pub exact: f64,
}

/// What every patch is estimated to do.
#[derive(Debug, Clone)]
pub struct Attributions {
    /// The metric of the clean run.
    pub clean: f64,
    /// The metric of the corrupted run.
    pub corrupted: f64,
    /// One grid for each kind: `[layer, position]`, `[layer, head]`, or `[layer * head, position]`.
    pub grids: Vec<(PatchKind, Grid)>,
    /// Estimates for single attention weights, if they were asked for: `[layer, head, destination, source]`.
    pub pairs: Option<Stack>,
    /// The greatest patches, estimated and run.
    pub checks: Vec<SpotCheck>,
    /// Greatest absolute difference, over layers and positions, of the heads' sum from attention's estimate.
    pub head_gap: f64,
}

impl Attributions {
    /// The grid of a kind, if it was asked for.
    #[must_use]
    pub fn grid(&self, kind: PatchKind) -> Option<&Grid> {
        self.grids.iter().find(|(known, _)| *known == kind).map(|(_, grid)| grid)
    }
}

impl From<Attributions> for Answer {
    fn from(found: Attributions) -> Self {
        let answer = Self::new().with("clean", found.clean).with("corrupted", found.corrupted);
        let answer = with_tables(answer, found.grids, found.pairs);
        let rows =
            Axis::new("patch", found.checks.iter().map(|check| format!("{} {}", check.kind.name(), check.label)));
        let values = found.checks.iter().flat_map(|check| [check.estimate, check.exact]).collect();
        let columns = Axis::new("by", ["estimate", "exact"]);
        let answer = match Grid::new("estimated and run", "effect", rows, columns, values) {
            Ok(grid) if !found.checks.is_empty() => answer.with("checks", grid.diverging()),
            _ => answer,
        };
        answer.with("head_gap", found.head_gap)
    }
}

impl Tool for AttributionPatching {
    const NAME: &'static str = "patching.attribution";
    type Output = Attributions;

    fn run(&self, cx: &Context<'_>) -> Result<Attributions> {
        let model = cx.model();
        if self.kinds.is_empty() {
            let why = "the list is empty; leave it out for the usual".into();
            return Err(Error::Invalid { what: "kinds".into(), why });
        }
        let layers = index::chosen("layer", self.layers.as_deref(), model.dims().n_layers)?;
        let pair = Pair::of(model, &self.clean, &self.corrupted)?;
        if let Some(kind) = self.kinds.iter().find(|kind| kind.by_position()) {
            pair.check_positions(kind.name())?;
        }
        let sites = self.kinds.iter().map(|kind| kind.site()).chain([Site::ATTN_OUT, Site::Z]);
        let points: Vec<HookPoint> = sites.flat_map(|site| layers.iter().map(move |layer| site.at(*layer))).collect();

        let measure = self.metric.prepare(model, &pair.clean)?;
        let trace = model.trace(&pair.clean).logits(measure.wanted());
        let run = points.iter().copied().fold(trace, Trace::keep).run()?;
        let (clean, source) = (mean(&measure, run.logits()?)?, run.cache);
        let measure = self.metric.prepare(model, &pair.corrupted)?;
        let trace = model.trace(&pair.corrupted).logits(measure.wanted());
        let trace = points.iter().copied().fold(trace, Trace::keep);
        let run = trace.gradients(|logits| Ok(measure.of(logits)?.f_mean(None::<Kind>)?)).run()?;
        let corrupted = run.metric.unwrap_or(f64::NAN);
        let whole = zero_and_one(self.scale, clean, corrupted)?.1;

        // By point, the estimate of its smallest patches: [head, position, key], 1 where it has none of them.
        let cells = |point: HookPoint| -> Result<Tensor> {
            let change = source.get(point)?.f_sub(run.cache.get(point)?)?.f_to_kind(Kind::Double)?;
            let cells = change.f_mul(&run.gradients.get(point)?.f_to_kind(Kind::Double)?)?;
            let cells = cells.f_sum_dim_intlist(0, false, Kind::Double)?.f_div_scalar(whole)?;
            Ok(match point.site {
                Site::PATTERN => cells,
                _ if cells.dim() == 3 => cells.f_sum_dim_intlist(2, true, Kind::Double)?.f_transpose(0, 1)?,
                _ => cells.f_sum_dim_intlist(1, true, Kind::Double)?.f_unsqueeze(0)?,
            })
        };
        let mut head_gap: f64 = 0.0;
        for layer in &layers {
            let heads = cells(Site::Z.at(*layer))?.f_sum_dim_intlist(0, true, Kind::Double)?;
            head_gap = gap::worse(head_gap, gap::gap(&heads, &cells(Site::ATTN_OUT.at(*layer))?)?);
        }
        let mut values = Vec::with_capacity(self.kinds.len());
        for kind in &self.kinds {
            let mut of_kind = Vec::new();
            for layer in &layers {
                let mut cells = cells(kind.site().at(*layer))?;
                if !kind.by_position() {
                    cells = cells.f_sum_dim_intlist(1, true, Kind::Double)?;
                }
                if *kind != PatchKind::PatternByPair {
                    cells = cells.f_sum_dim_intlist(2, true, Kind::Double)?;
                }
                of_kind.extend(answer::numbers(&cells)?);
            }
            values.push(of_kind);
        }
        let from = if pair.corrupted.mask().is_some() { 0 } else { pair.first_difference()? };
        let mut checks = Vec::new();
        let mut cases = Vec::new();
        for (kind, values) in self.kinds.iter().zip(&values) {
            let slots = kind.slots(cx, pair.corrupted.positions());
            let mut order: Vec<usize> = (0..values.len()).collect();
            order.sort_by(|a, b| values[*b].abs().total_cmp(&values[*a].abs()));
            for place in order.into_iter().take(self.checks) {
                let (layer, slot) = (layers[place / slots.len()], slots[place % slots.len()]);
                let point = kind.site().at(layer);
                cases.push(Case::new().edit(point, slot.edit(source.get(point)?, from)));
                checks.push(SpotCheck {
                    kind: *kind,
                    label: slot.label(layer),
                    estimate: values[place],
                    exact: f64::NAN,
                });
            }
        }
        Sweep::new(cx, &pair.corrupted).cases(cases).logits(measure.wanted()).run(|case, found| {
            checks[case].exact = (mean(&measure, found.logits()?)? - corrupted) / whole;
            Ok(())
        })?;
        let value = match self.scale {
            PatchScale::Normalised => format!("estimated share of the {} that comes back", self.metric.label()),
            PatchScale::Raw => format!("estimated change of the {}", self.metric.label()),
        };
        let values = self.kinds.iter().copied().zip(values);
        let Tables { grids, pairs } = Tables::of(cx, ("attribution patching", &value), (&layers, &pair), values)?;
        Ok(Attributions { clean, corrupted, grids, pairs, checks, head_gap })
    }

    fn measured(&self, model: &dyn Model) -> Result<Option<String>> {
        self.metric.described(model).map(Some)
    }
}

register_tools!(AttributionPatching);

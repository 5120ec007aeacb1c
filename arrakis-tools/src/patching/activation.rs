//! Activations of one run in another, one at a time.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use arrakis_core::{
    Answer, Case, Context, Error, Grid, HookPoint, Metric, Model, Prompt, Result, Site, Stack, Sweep, Tool,
    register_tools,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::kind::{Differing, PatchKind, PatchScale, Slot};
use super::pair::{Pair, Runs, zero_and_one};
use super::tables::{Tables, with_tables};
use crate::index;
use crate::measured::mean;

/// Puts activations of a clean run into a corrupted one, one at a time, and measures how much of the answer comes back.
///
/// The corrupted prompt is run again and again, each time with the clean value at one point (denoising, as in
/// TransformerLens' `get_act_patch_*`). Normalised, 0 is the corrupted run and 1 the clean one. Patches share their passes
/// ([`arrakis_core::Sweep`]), and those that change nothing are not run. Identity: with the residual stream of every position patched before the
/// first block the clean run comes back, and `whole_patch_gap` is the absolute difference of the metrics.
/// Source: Meng et al., "Locating and editing factual associations in GPT" (2022); Zhang and Nanda, "Towards best
/// practices of activation patching" (2024).
///
/// ```
/// # use arrakis_core::{Context, Tool, Metric, Prompt};
/// # use arrakis_tools::ActivationPatching;
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/golden/llama");
/// let model = arrakis_models::load(folder, &arrakis_models::LoadOptions::default())?;
/// let [clean, corrupted] = [vec![9, 3, 17], vec![9, 4, 17]].map(Prompt::Ids);
/// let metric = Metric::LogitDifference { answer: 3.into(), wrong: 8.into() };
/// let found = ActivationPatching::new(clean, corrupted, metric).run(&Context::new(&model))?;
/// assert!(found.whole_patch_gap < 1e-4);
/// # Ok(())
/// # }
/// ```
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
    /// Patches of single attention weights, if they were asked for: `[layer, head, destination, source]`.
    pub pairs: Option<Stack>,
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
        let answer = with_tables(answer, patches.grids, patches.pairs);
        answer.with("whole_patch_gap", patches.whole_patch_gap)
    }
}

impl Tool for ActivationPatching {
    const NAME: &'static str = "patching.activation";
    type Output = Patches;

    fn run(&self, cx: &Context<'_>) -> Result<Patches> {
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
        let sites = self.kinds.iter().map(|kind| kind.site());
        let mut points: Vec<HookPoint> =
            sites.flat_map(|site| layers.iter().map(move |layer| site.at(*layer))).collect();
        points.push(Site::RESID_PRE.at(0));
        let runs = pair.run(cx, &self.metric, &points)?;
        let (base, whole) = zero_and_one(self.scale, runs.clean, runs.corrupted)?;

        let (values, whole_patch_gap) = self.values(cx, &pair, &runs, &layers)?;
        let value = match self.scale {
            PatchScale::Normalised => format!("share of the {} that comes back", self.metric.label()),
            PatchScale::Raw => self.metric.label().to_owned(),
        };
        let scaled = |values: Vec<f64>| values.into_iter().map(|value| (value - base) / whole).collect();
        let values = self.kinds.iter().copied().zip(values.into_iter().map(scaled));
        let Tables { grids, pairs } = Tables::of(cx, ("activation patching", &value), (&layers, &pair), values)?;
        Ok(Patches { clean: runs.clean, corrupted: runs.corrupted, grids, pairs, whole_patch_gap })
    }

    fn measured(&self, model: &dyn Model) -> Result<Option<String>> {
        self.metric.described(model).map(Some)
    }
}

impl ActivationPatching {
    /// The metric under every patch of each kind, and how far a patch of everything is from the clean run.
    fn values(&self, cx: &Context<'_>, pair: &Pair, runs: &Runs, layers: &[usize]) -> Result<(Vec<Vec<f64>>, f64)> {
        let from = if pair.corrupted.mask().is_some() { 0 } else { pair.first_difference()? };
        let mut differing: HashMap<HookPoint, Differing> = HashMap::new();
        let mut values: Vec<Vec<f64>> = Vec::new();
        let (mut places, mut cases) = (Vec::new(), Vec::new());
        for (kind_place, kind) in self.kinds.iter().enumerate() {
            let slots = kind.slots(cx, pair.corrupted.positions());
            values.push(vec![runs.corrupted; layers.len() * slots.len()]);
            for (step, layer) in layers.iter().enumerate() {
                let point = kind.site().at(*layer);
                let source = runs.source.get(point)?;
                if let Entry::Vacant(place) = differing.entry(point) {
                    place.insert(Differing::of(point, source, runs.base.get(point)?)?);
                }
                // Where both runs hold the same, as before the first token that differs, nothing is run.
                let differs = |slot: &Slot| differing.get(&point).is_none_or(|differing| differing.touches(*slot));
                for (slot_place, slot) in slots.iter().enumerate().filter(|(_, slot)| differs(slot)) {
                    places.push((kind_place, step * slots.len() + slot_place));
                    cases.push(Case::new().edit(point, slot.edit(source, from)));
                }
            }
        }
        let everything = cases.len();
        let first = Site::RESID_PRE.at(0);
        cases.push(Case::new().edit(first, Slot::EVERY.edit(runs.source.get(first)?, from)));
        let mut restored = runs.corrupted;
        Sweep::new(cx, &pair.corrupted).cases(cases).logits(runs.measure.wanted()).run(|case, found| {
            let value = mean(&runs.measure, found.logits()?)?;
            if case == everything {
                restored = value;
            } else {
                let (kind, place) = places[case];
                values[kind][place] = value;
            }
            Ok(())
        })?;
        Ok((values, (restored - runs.clean).abs()))
    }
}

register_tools!(ActivationPatching);

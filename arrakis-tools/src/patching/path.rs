//! Path patching: what a head tells another one, and nothing else.

use arrakis_core::{Answer, Axis, Context, Error, Grid, Metric, Model, Prompt, Result, Tool, register_tools};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::frozen::{Frozen, Mlps, Receiver};
use super::kind::PatchScale;
use super::pair::{Pair, zero_and_one};
use crate::{HeadInput, HeadPlace, gap};

/// Lets each head send its clean output to some receivers only, and measures how much of the answer comes back.
///
/// In the corrupted run one head (the sender) writes what it writes in the clean run, and all other heads are frozen; what
/// arrives at the receivers - the queries, keys or values of some heads, or the logits - is noted. Then the corrupted run
/// is done once more, with only that changed, and everything after the receivers computed again. Norms are computed
/// anew. Heads that share keys and values receive one by one. Identity: with nothing sent the corrupted run comes back;
/// `replay_gap` is the absolute difference of the metrics.
/// Source: Wang et al., "Interpretability in the wild" (2023), appendix B; Goldowsky-Dill et al., "Localizing model
/// behavior with path patching" (2023).
///
/// ```
/// # use arrakis_core::{Context, Metric, Prompt, Tool};
/// # use arrakis_tools::PathPatching;
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/golden/llama");
/// # let model = arrakis_models::load(folder, &arrakis_models::LoadOptions::default())?;
/// # let [clean, corrupted] = [vec![9, 3, 17], vec![9, 4, 17]].map(Prompt::Ids);
/// let metric = Metric::LogitDifference { answer: 3.into(), wrong: 8.into() };
/// let to_logits = PathPatching::new(clean, corrupted, metric);
/// assert!(to_logits.run(&Context::new(&model))?.replay_gap < 1e-5);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PathPatching {
    /// What the senders' outputs are taken from.
    pub clean: Prompt,
    /// What they are put into; each row as long as in `clean`.
    pub corrupted: Prompt,
    /// What is measured, as a mean over the rows.
    pub metric: Metric,
    /// Who receives, all of them together; the logits if absent.
    #[serde(default)]
    pub receivers: Option<Vec<Receiver>>,
    /// What the MLPs between sender and receiver do.
    #[serde(default)]
    pub mlps: Mlps,
    /// What the numbers are.
    #[serde(default)]
    pub scale: PatchScale,
}

/// Lets one head send its clean output to each later head alone, and measures how much of the answer comes back.
///
/// As `patching.path`, with one sender and every later head as the receiver in turn: TransformerLens'
/// `get_act_patch_direct_path` where the MLPs are frozen. Identity: with nothing sent the corrupted run comes back;
/// `replay_gap` is the absolute difference of the metrics.
/// Source: Goldowsky-Dill et al., "Localizing model behavior with path patching" (2023).
///
/// ```
/// # use arrakis_core::{Context, Metric, Prompt, Tool};
/// # use arrakis_tools::{DirectPath, HeadInput, HeadPlace, Mlps, PatchScale};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/golden/llama");
/// # let model = arrakis_models::load(folder, &arrakis_models::LoadOptions::default())?;
/// # let [clean, corrupted] = [vec![9, 3, 17], vec![9, 4, 17]].map(Prompt::Ids);
/// let (sender, input, metric) = (HeadPlace { layer: 0, head: 1 }, HeadInput::K, Metric::Logit(3.into()));
/// let (mlps, scale) = (Mlps::Frozen, PatchScale::Normalised);
/// let found = DirectPath { clean, corrupted, metric, sender, input, mlps, scale }.run(&Context::new(&model))?;
/// assert_eq!(found.grid.rows.name, "layer");
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DirectPath {
    /// What the sender's output is taken from.
    pub clean: Prompt,
    /// What it is put into; each row as long as in `clean`.
    pub corrupted: Prompt,
    /// What is measured, as a mean over the rows.
    pub metric: Metric,
    /// Who sends.
    pub sender: HeadPlace,
    /// What heads receive by.
    pub input: HeadInput,
    /// What the MLPs between sender and receiver do.
    #[serde(default = "frozen")]
    pub mlps: Mlps,
    /// What the numbers are.
    #[serde(default)]
    pub scale: PatchScale,
}

const fn frozen() -> Mlps {
    Mlps::Frozen
}

impl PathPatching {
    /// Paths from every head to the logits through recomputed MLPs, normalised.
    pub fn new(clean: impl Into<Prompt>, corrupted: impl Into<Prompt>, metric: Metric) -> Self {
        let (clean, corrupted, receivers) = (clean.into(), corrupted.into(), None);
        Self { clean, corrupted, metric, receivers, mlps: Mlps::default(), scale: PatchScale::default() }
    }
}

/// What comes back of an answer by each path.
#[derive(Debug, Clone)]
pub struct Paths {
    /// The metric of the clean run.
    pub clean: f64,
    /// The metric of the corrupted run.
    pub corrupted: f64,
    /// By the other end of the path: `[layer, head]`.
    pub grid: Grid,
    /// Absolute difference of the metric from the corrupted one when nothing is sent.
    pub replay_gap: f64,
}

impl From<Paths> for Answer {
    fn from(paths: Paths) -> Self {
        Self::new()
            .with("clean", paths.clean)
            .with("corrupted", paths.corrupted)
            .with("paths", paths.grid)
            .with("replay_gap", paths.replay_gap)
    }
}

impl Tool for PathPatching {
    const NAME: &'static str = "patching.path";
    type Output = Paths;

    fn run(&self, cx: &Context<'_>) -> Result<Paths> {
        let dims = cx.model().dims();
        let receivers = self.receivers.as_deref().unwrap_or_default();
        if self.receivers.as_ref().is_some_and(Vec::is_empty) {
            let why = "the list is empty; leave it out for the logits".into();
            return Err(Error::Invalid { what: "receivers".into(), why });
        }
        for receiver in receivers {
            HeadPlace::new(receiver.layer, receiver.head).check(cx.model())?;
        }
        let pair = Pair::of(cx.model(), &self.clean, &self.corrupted)?;
        let frozen = Frozen::of(cx, &pair, &self.metric, self.mlps)?;
        let mut layers: Vec<usize> = receivers.iter().map(|receiver| receiver.layer).collect();
        layers.sort_unstable();
        layers.dedup();
        let end = layers.last().copied().unwrap_or(dims.n_layers);
        let senders = (0..end).flat_map(|layer| (0..dims.n_heads).map(move |head| Some(HeadPlace { layer, head })));
        let senders: Vec<Option<HeadPlace>> = [None].into_iter().chain(senders).collect();
        let mut values = Vec::with_capacity(senders.len());
        for senders in senders.chunks(frozen.at_once()) {
            if receivers.is_empty() {
                values.extend(frozen.to_logits(senders)?);
                continue;
            }
            let streams = frozen.streams(senders, &layers)?;
            let job = |streams: &Vec<tch::Tensor>| {
                let of = |receiver: &Receiver| {
                    let place = layers.partition_point(|layer| *layer < receiver.layer);
                    (*receiver, streams[place].shallow_clone())
                };
                receivers.iter().map(of).collect()
            };
            values.extend(frozen.received(&streams.iter().map(job).collect::<Vec<_>>())?);
        }
        let replayed = values.remove(0);
        values.resize(dims.n_layers * dims.n_heads, frozen.runs.corrupted);
        paths(&frozen, self.scale, (&self.metric, "sender"), values, replayed)
    }

    fn measured(&self, model: &dyn Model) -> Result<Option<String>> {
        self.metric.described(model).map(Some)
    }
}

impl Tool for DirectPath {
    const NAME: &'static str = "patching.direct_path";
    type Output = Paths;

    fn run(&self, cx: &Context<'_>) -> Result<Paths> {
        let dims = cx.model().dims();
        let sender = self.sender.layer;
        self.sender.check(cx.model())?;
        if sender + 1 == dims.n_layers {
            let why = format!("layer {sender} is the last; no head comes after it");
            return Err(Error::Invalid { what: "sender".into(), why });
        }
        let pair = Pair::of(cx.model(), &self.clean, &self.corrupted)?;
        let frozen = Frozen::of(cx, &pair, &self.metric, self.mlps)?;
        let layers: Vec<usize> = (sender + 1..dims.n_layers).collect();
        let mut streams = frozen.streams(&[None, Some(self.sender)], &layers)?;
        let (Some(sent), Some(unsent)) = (streams.pop(), streams.pop()) else { return Err(Error::Cancelled) };
        let receiver = |layer: usize, head: usize| Receiver { layer, head, input: self.input };
        let mut jobs = vec![vec![(receiver(layers[0], 0), unsent[0].shallow_clone())]];
        for (layer, stream) in layers.iter().zip(&sent) {
            jobs.extend((0..dims.n_heads).map(|head| vec![(receiver(*layer, head), stream.shallow_clone())]));
        }
        let mut values = frozen.received(&jobs)?;
        let replayed = values.remove(0);
        let before = vec![frozen.runs.corrupted; (sender + 1) * dims.n_heads];
        paths(&frozen, self.scale, (&self.metric, "receiver"), [before, values].concat(), replayed)
    }

    fn measured(&self, model: &dyn Model) -> Result<Option<String>> {
        self.metric.described(model).map(Some)
    }
}

fn paths(
    frozen: &Frozen<'_>,
    scale: PatchScale,
    (metric, end): (&Metric, &str),
    values: Vec<f64>,
    replayed: f64,
) -> Result<Paths> {
    let runs = &frozen.runs;
    let (base, whole) = zero_and_one(scale, runs.clean, runs.corrupted)?;
    let value = match scale {
        PatchScale::Normalised => format!("share of the {} that comes back", metric.label()),
        PatchScale::Raw => metric.label().to_owned(),
    };
    let values: Vec<f64> = values.into_iter().map(|value| (value - base) / whole).collect();
    let heads = frozen.heads();
    let rows = Axis::indices("layer", values.len() / heads);
    let grid = Grid::new(format!("path patching by {end}"), value, rows, Axis::indices("head", heads), values)?;
    let replay_gap = gap::worse((replayed - runs.corrupted).abs(), 0.0);
    Ok(Paths { clean: runs.clean, corrupted: runs.corrupted, grid: grid.diverging(), replay_gap })
}

register_tools!(PathPatching, DirectPath);

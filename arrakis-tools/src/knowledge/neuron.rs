//! Whether a neuron or direction tells true texts from false ones.

use arrakis_core::{Answer, Context, Error, Model, Prompt, Ranking, Result, Tool, answer, register_tools};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::auc::TwoSamples;
use crate::feature::Feature;
use crate::token_vectors;

/// Probes how well a neuron, head output or direction tells true texts from false ones.
///
/// The measure is the area under the ROC curve (AUC): the share of pairs of a true and a false text in which the feature
/// is greater in the true one, ties by half; 1/2 is chance, and below it the feature is greater in false texts. The
/// interval is the percentile interval of a seeded bootstrap that draws true and false texts apart, or pairs together if
/// `paired`; `delong_error` is the standard error without drawing.
/// Identity: the area through ranks (Mann and Whitney) is the mean placement, pair by pair (`auc_gap`).
/// Source: Hanley et al., "The meaning and use of the area under a receiver operating characteristic (ROC) curve" (1982);
/// DeLong et al., "Comparing the areas under two or more correlated receiver operating characteristic curves" (1988), for
/// the error; Efron, "Better bootstrap confidence intervals" (1987), for the interval; Marks & Tegmark, "The geometry of
/// truth" (2023), for true and false texts.
///
/// ```
/// # use arrakis_core::{Context, Prompt, Tool};
/// # use arrakis_tools::{Feature, KnowledgeNeuron};
/// # let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/golden/llama");
/// # let model = arrakis_models::load(folder, &arrakis_models::LoadOptions::default()).unwrap();
/// let (yes, no) = (Prompt::Rows(vec![vec![9, 3], vec![5, 3]]), Prompt::Rows(vec![vec![9, 4], vec![5, 4]]));
/// let found = KnowledgeNeuron::new(Feature::Neuron { layer: 1, neuron: 7 }, yes, no).run(&Context::new(&model)).unwrap();
/// assert!((0.0..=1.0).contains(&found.auc));
/// ```
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KnowledgeNeuron {
    /// What is read of each text.
    pub feature: Feature,
    /// The true texts, two at least.
    pub true_texts: Prompt,
    /// The false texts, two at least.
    pub false_texts: Prompt,
    /// Position that is read; each text's last one if absent.
    #[serde(default)]
    pub position: Option<i64>,
    /// Whether the texts are pairs, the first true one with the first false one and so on.
    #[serde(default)]
    pub paired: bool,
    /// How often texts are drawn anew for the interval.
    #[serde(default = "thousand")]
    pub resamples: usize,
    /// The confidence of the interval, in `0..1`.
    #[serde(default = "usual")]
    pub confidence: f64,
}

const fn thousand() -> usize {
    1000
}

const fn usual() -> f64 {
    0.95
}

impl KnowledgeNeuron {
    /// The feature at the last position of unpaired texts.
    pub fn new(feature: Feature, true_texts: impl Into<Prompt>, false_texts: impl Into<Prompt>) -> Self {
        Self {
            feature,
            true_texts: true_texts.into(),
            false_texts: false_texts.into(),
            position: None,
            paired: false,
            resamples: thousand(),
            confidence: usual(),
        }
    }
}

/// How well a feature tells true from false.
#[derive(Debug, Clone)]
pub struct TruthProbe {
    /// The area under the ROC curve.
    pub auc: f64,
    /// Lower end of the bootstrap interval.
    pub auc_low: f64,
    /// Upper end of the bootstrap interval.
    pub auc_high: f64,
    /// Standard error of the area, without drawing.
    pub delong_error: f64,
    /// Share of pairs whose true text is greater, ties by half, where the texts are pairs.
    pub pair_accuracy: Option<f64>,
    /// Mean of the feature over true texts less that over false ones.
    pub difference: f64,
    /// The feature of each text, greatest first.
    pub scores: Ranking,
    /// Absolute difference of the area through ranks from the one pair by pair.
    pub auc_gap: f64,
}

impl From<TruthProbe> for Answer {
    fn from(found: TruthProbe) -> Self {
        let mut answer = Self::new()
            .with("auc", found.auc)
            .with("auc_low", found.auc_low)
            .with("auc_high", found.auc_high)
            .with("delong_error", found.delong_error);
        if let Some(accuracy) = found.pair_accuracy {
            answer = answer.with("pair_accuracy", accuracy);
        }
        answer.with("difference", found.difference).with("scores", found.scores).with("auc_gap", found.auc_gap)
    }
}

impl Tool for KnowledgeNeuron {
    const NAME: &'static str = "knowledge.neuron";
    type Output = TruthProbe;

    fn run(&self, cx: &Context<'_>) -> Result<TruthProbe> {
        let model = cx.model();
        let feature = self.feature.readout(model)?;
        if self.resamples == 0 {
            return Err(Error::Invalid { what: "resamples 0".into(), why: "give one at least".into() });
        }
        if !(self.confidence > 0.0 && self.confidence < 1.0) {
            let why = "give a share between 0 and 1".into();
            return Err(Error::Invalid { what: format!("confidence {}", self.confidence), why });
        }
        let read = |texts: &Prompt, name: &str| -> Result<(Vec<Vec<i64>>, Vec<f64>)> {
            let tokens = texts.tokens(model)?;
            let rows: Vec<Vec<i64>> = (0..tokens.batch()).map(|row| tokens.row(row)).collect::<Result<_>>()?;
            if rows.len() < 2 {
                let why = format!("there is {} and two are needed at least", rows.len());
                return Err(Error::Invalid { what: name.into(), why });
            }
            let vectors = token_vectors::at_position(cx, &rows, self.position, &[feature.point])?;
            let values = answer::numbers(&feature.of(&vectors[0])?)?;
            Ok((rows, values))
        };
        let (true_rows, high) = read(&self.true_texts, "true_texts")?;
        let (false_rows, low) = read(&self.false_texts, "false_texts")?;
        if self.paired && high.len() != low.len() {
            let why = format!("{} true and {} false texts; pairs need as many", high.len(), low.len());
            return Err(Error::Invalid { what: "`paired`".into(), why });
        }
        let labels = true_rows.iter().map(|ids| label(model, "true", ids));
        let labels = labels.chain(false_rows.iter().map(|ids| label(model, "false", ids)));
        let values = high.iter().chain(&low).copied();
        let scores = Ranking::new(feature.label.clone(), "activation", labels.zip(values)).sorted();
        let samples = TwoSamples { high, low };
        let (auc, (by_pairs, delong_error)) = (samples.auc(), samples.by_placements());
        cx.cancelled()?;
        let mut stream = cx.stream("knowledge.neuron bootstrap");
        let (auc_low, auc_high) = samples.interval(&mut stream, self.resamples, self.confidence, self.paired);
        let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
        Ok(TruthProbe {
            auc,
            auc_low,
            auc_high,
            delong_error,
            pair_accuracy: self.paired.then(|| pair_accuracy(&samples)),
            difference: mean(&samples.high) - mean(&samples.low),
            scores,
            auc_gap: (auc - by_pairs).abs(),
        })
    }
}

fn label(model: &dyn Model, class: &str, ids: &[i64]) -> String {
    let text: String = ids.iter().map(|id| model.token(*id)).collect();
    format!("{class}: {text}")
}

/// Share of pairs whose high value is greater, ties by half.
fn pair_accuracy(samples: &TwoSamples) -> f64 {
    let pairs = samples.high.iter().zip(&samples.low);
    let won = pairs.map(|(high, low)| match high.total_cmp(low) {
        std::cmp::Ordering::Greater => 1.0,
        std::cmp::Ordering::Equal => 0.5,
        std::cmp::Ordering::Less => 0.0,
    });
    won.sum::<f64>() / samples.high.len() as f64
}

register_tools!(KnowledgeNeuron);

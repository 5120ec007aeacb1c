//! A neuron's activations over a corpus, and what it makes the model say.

use arrakis_core::{
    Answer, Axis, Context, Corpus, Error, Ranking, Result, Series, Tool, Weight, answer, register_tools,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::Kind;

use crate::corpus_pass::CorpusPass;
use crate::feature::Feature;
use crate::token_effects::{self, Chosen};
use crate::{gap, index, token_vectors};

/// Shows how a neuron's activations are spread over a corpus, and which tokens it promotes and suppresses.
///
/// The activation is that after the activation function, and the gate where there is one. The histogram has equal bins
/// from the least to the greatest activation. A token's effect is the change of its logit per unit of activation before
/// the final norm's scale: `W_out` of the neuron, centred where the norm centres, times the norm's weight, through the
/// unembedding.
/// Identities: the bins hold every token (`count_gap`), and effects through the unembedding with the norm's weight
/// folded in are the same (`effect_gap`).
/// Source: Geva et al., "Transformer feed-forward layers build predictions by promoting concepts in the vocabulary
/// space" (2022); Gurnee et al., "Universal neurons in GPT2 language models" (2024), for the folding.
///
/// ```
/// # use arrakis_core::{Context, Corpus, Tool};
/// # use arrakis_tools::NeuronPortrait;
/// # let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/golden/llama");
/// # let model = arrakis_models::load(folder, &arrakis_models::LoadOptions::default()).unwrap();
/// let corpus = Corpus::Rows(vec![vec![9, 3, 17, 4], vec![5, 8, 2]]);
/// let found = NeuronPortrait::new(corpus, 1, 7).run(&Context::new(&model)).unwrap();
/// assert_eq!(found.histogram.lines[0].values.iter().sum::<f64>(), 7.0);
/// ```
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NeuronPortrait {
    /// The texts to read.
    pub corpus: Corpus,
    /// The layer.
    pub layer: usize,
    /// The neuron.
    pub neuron: usize,
    /// Bins of the histogram.
    #[serde(default = "forty")]
    pub bins: usize,
    /// How many tokens are shown at each end.
    #[serde(default = "ten")]
    pub top: usize,
    /// Tokens read at once; 256 if absent, or what the context holds.
    #[serde(default)]
    pub window: Option<usize>,
    /// Tokens at the start of each window that are left out; the first ones are often unlike all others.
    #[serde(default)]
    pub skip: usize,
}

const fn forty() -> usize {
    40
}

const fn ten() -> usize {
    10
}

impl NeuronPortrait {
    /// A neuron over `corpus`.
    pub fn new(corpus: impl Into<Corpus>, layer: usize, neuron: usize) -> Self {
        Self { corpus: corpus.into(), layer, neuron, bins: forty(), top: ten(), window: None, skip: 0 }
    }
}

/// What a neuron does.
#[derive(Debug, Clone)]
pub struct Portrait {
    /// Tokens whose logit it raises most.
    pub promoted: Ranking,
    /// Tokens whose logit it lowers most.
    pub suppressed: Ranking,
    /// Tokens of the corpus by activation; a bin is named by its lower end.
    pub histogram: Series,
    /// Mean activation.
    pub mean: f64,
    /// Standard deviation of the activation, over the tokens.
    pub deviation: f64,
    /// Share of tokens with an activation above 0.
    pub active: f64,
    /// The greatest activation.
    pub greatest: f64,
    /// Difference between the tokens in all bins and those read.
    pub count_gap: f64,
    /// Greatest absolute difference of a shown effect from the one through the folded unembedding.
    pub effect_gap: f64,
}

impl From<Portrait> for Answer {
    fn from(found: Portrait) -> Self {
        Self::new()
            .with("promoted", found.promoted)
            .with("suppressed", found.suppressed)
            .with("histogram", found.histogram)
            .with("mean", found.mean)
            .with("deviation", found.deviation)
            .with("active", found.active)
            .with("greatest", found.greatest)
            .with("count_gap", found.count_gap)
            .with("effect_gap", found.effect_gap)
    }
}

impl Tool for NeuronPortrait {
    const NAME: &'static str = "feature_viz.neuron";
    type Output = Portrait;

    fn run(&self, cx: &Context<'_>) -> Result<Portrait> {
        let model = cx.model();
        let feature = Feature::Neuron { layer: self.layer, neuron: self.neuron }.readout(model)?;
        let top = index::count("top", self.top, model.dims().vocab)?;
        if self.bins == 0 {
            return Err(Error::Invalid { what: "bins 0".into(), why: "give one at least".into() });
        }
        let pass = CorpusPass::of(cx, &self.corpus, self.window, 2 * model.dims().d_mlp)?;
        let pass = pass.without_first(self.skip)?;
        // One number a token: a corpus of a million tokens takes 8 MB.
        let mut seen = Vec::with_capacity(pass.tokens());
        pass.each(cx, |batch| {
            token_vectors::read(model, batch, &[feature.point], |_, vectors| {
                seen.extend(answer::numbers(&feature.of(&vectors)?)?);
                Ok(())
            })
        })?;

        let written = model.weight(Weight::OUT.at(self.layer))?.f_get(self.neuron as i64)?;
        let written = written.f_to_kind(Kind::Double)?.f_unsqueeze(0)?;
        let effects = token_effects::of(model, &written)?;
        let [promoted, suppressed] = [Chosen::of(&effects, top, true)?, Chosen::of(&effects, top, false)?];
        let effect_gap = gap::worse(promoted.folded_gap(model, &written)?, suppressed.folded_gap(model, &written)?);
        let (edges, counts) = histogram(&seen, self.bins);
        let tokens = seen.len() as f64;
        let mean = seen.iter().sum::<f64>() / tokens;
        let value = "logit per unit of activation";
        Ok(Portrait {
            promoted: promoted.ranking(model, &format!("promoted by {}", feature.label), value)?,
            suppressed: suppressed.ranking(model, &format!("suppressed by {}", feature.label), value)?,
            mean,
            deviation: (seen.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / tokens).sqrt(),
            active: seen.iter().filter(|value| **value > 0.0).count() as f64 / tokens,
            greatest: seen.iter().copied().fold(f64::NEG_INFINITY, f64::max),
            count_gap: (counts.iter().sum::<f64>() - pass.tokens() as f64).abs(),
            effect_gap,
            histogram: Series::new(
                format!("activations of {}", feature.label),
                "tokens",
                Axis::new("activation", edges.iter().map(|edge| format!("{edge:.3}"))),
                [("tokens", counts)],
            )?,
        })
    }
}

/// Lower ends of equal bins from the least to the greatest value, and how many values each holds.
fn histogram(values: &[f64], bins: usize) -> (Vec<f64>, Vec<f64>) {
    let least = values.iter().copied().fold(f64::INFINITY, f64::min);
    let greatest = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let width = (greatest - least) / bins as f64;
    let mut counts = vec![0.0; bins];
    for value in values {
        // The greatest value belongs to the last bin; where all are equal, to the first.
        let bin = if width > 0.0 { ((value - least) / width) as usize } else { 0 };
        counts[bin.min(bins - 1)] += 1.0;
    }
    ((0..bins).map(|bin| least + width * bin as f64).collect(), counts)
}

register_tools!(NeuronPortrait);

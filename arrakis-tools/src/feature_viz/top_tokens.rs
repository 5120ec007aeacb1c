//! Where in a corpus a feature is strongest.

use arrakis_core::{Answer, Axis, Context, Corpus, Grid, Ranking, Result, Tool, answer, register_tools};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::corpus_pass::CorpusPass;
use crate::feature::Feature;
use crate::most_active::{self, MostActive};
use crate::{gap, index, token_vectors};

/// Finds the tokens of a corpus where a neuron, head output or direction is greatest, with their contexts.
///
/// The corpus is read once and only the greatest are kept. Each row of the grid is one of them, in its text: a column is
/// a place before or behind the token, its number the feature there (NaN past the window's ends).
/// Identity: read alone, the window of each token gives the same number (`replay_gap`, the greatest absolute difference).
/// Source: Karpathy et al., "Visualizing and understanding recurrent networks" (2015); Dalvi et al., "What is one grain
/// of sand in the desert? Analyzing individual neurons in deep NLP models" (2019).
///
/// ```
/// # use arrakis_core::{Context, Corpus, Tool};
/// # use arrakis_tools::{Feature, TopTokens};
/// # let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/golden/llama");
/// # let model = arrakis_models::load(folder, &arrakis_models::LoadOptions::default()).unwrap();
/// let corpus = Corpus::Rows(vec![vec![9, 3, 17, 4], vec![5, 8, 2]]);
/// let neuron = Feature::Neuron { layer: 1, neuron: 7 };
/// let found = TopTokens { top: 3, ..TopTokens::new(corpus, neuron) }.run(&Context::new(&model)).unwrap();
/// assert!(found.top.entries[0].label.contains("«["));
/// ```
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TopTokens {
    /// The texts to read.
    pub corpus: Corpus,
    /// What is read at every token.
    pub feature: Feature,
    /// How many tokens are shown, or all if there are fewer.
    #[serde(default = "ten")]
    pub top: usize,
    /// Tokens of context shown on each side.
    #[serde(default = "eight")]
    pub around: usize,
    /// Tokens read at once; 256 if absent, or what the context holds.
    #[serde(default)]
    pub window: Option<usize>,
    /// Tokens at the start of each window that are left out; the first ones are often unlike all others.
    #[serde(default)]
    pub skip: usize,
}

const fn ten() -> usize {
    10
}

const fn eight() -> usize {
    8
}

impl TopTokens {
    /// The ten tokens of `corpus` where `feature` is greatest.
    pub fn new(corpus: impl Into<Corpus>, feature: Feature) -> Self {
        Self { corpus: corpus.into(), feature, top: ten(), around: eight(), window: None, skip: 0 }
    }
}

/// Where a feature is strongest.
#[derive(Debug, Clone)]
pub struct Tops {
    /// The contexts, the token in «», greatest first.
    pub top: Ranking,
    /// The feature at each token of the contexts: `[rank, offset]`.
    pub contexts: Grid,
    /// Document and place in it of each token, greatest first.
    pub places: Vec<(usize, usize)>,
    /// Greatest absolute difference of a number from the one when its window is read alone.
    pub replay_gap: f64,
}

impl From<Tops> for Answer {
    fn from(found: Tops) -> Self {
        let places = found.places.iter().map(|(document, place)| format!("document {document}, token {place}"));
        let places = places.collect::<Vec<_>>().join("; ");
        Self::new()
            .with("top", found.top)
            .with("contexts", found.contexts)
            .with("places", places)
            .with("replay_gap", found.replay_gap)
    }
}

impl Tool for TopTokens {
    const NAME: &'static str = "feature_viz.top_tokens";
    type Output = Tops;

    fn run(&self, cx: &Context<'_>) -> Result<Tops> {
        let model = cx.model();
        let feature = self.feature.readout(model)?;
        let width = token_vectors::width(model, feature.point)?;
        let pass = CorpusPass::of(cx, &self.corpus, self.window, 2 * width)?.without_first(self.skip)?;
        let top = index::count("top", self.top.min(pass.tokens()), pass.tokens())?;
        let mut found = MostActive::new(top);
        pass.each(cx, |batch| {
            token_vectors::read(model, batch, &[feature.point], |_, vectors| {
                found.add(&feature.of(&vectors)?.f_unsqueeze(1)?, batch.first)
            })
        })?;

        let around = self.around as i64;
        let (mut entries, mut places, mut replay_gap) = (Vec::new(), Vec::new(), 0.0);
        let (mut values, mut cells, mut rows) = (Vec::new(), Vec::new(), Vec::new());
        for (rank, (value, token)) in found.lists()?.into_iter().flatten().enumerate() {
            cx.cancelled()?;
            let (window, place) = pass.place(token);
            let alone = answer::numbers(&feature.of(&token_vectors::read_alone(model, window, feature.point)?)?)?;
            replay_gap = gap::worse(replay_gap, (alone[place] - value).abs());
            for offset in -around..=around {
                let at = usize::try_from(place as i64 + offset).ok().filter(|at| *at < alone.len());
                values.push(at.map_or(f64::NAN, |at| alone[at]));
                cells.push(at.map_or_else(String::new, |at| model.token(window.ids[at])));
            }
            entries.push((most_active::context(model, window, place, self.around), value));
            places.push((window.document, window.start + place));
            rows.push(format!("{}: {}", rank + 1, model.token(window.ids[place])));
        }
        let offsets = Axis::new("offset", (-around..=around).map(|offset| offset.to_string()));
        let title = format!("{} where it is greatest", feature.label);
        Ok(Tops {
            top: Ranking::new(title.clone(), "activation", entries),
            contexts: Grid::new(title, "activation", Axis::new("rank", rows), offsets, values)?.with_cells(cells)?,
            places,
            replay_gap,
        })
    }
}

register_tools!(TopTokens);

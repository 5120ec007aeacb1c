//! Which neurons answer to many different tokens.

use std::collections::HashMap;

use arrakis_core::{
    Answer, Axis, Context, Corpus, Error, Grid, HookPoint, Model, Ranking, Result, Site, Tool, Weight, register_tools,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use crate::corpus_pass::CorpusPass;
use crate::most_active::MostActive;
use crate::{gap, index, token_vectors};

/// Finds neurons whose strongest tokens over a corpus are many and unlike each other.
///
/// For each neuron, after its activation function, the `examples` tokens of the corpus where it is greatest and above 0
/// are taken. `effective` is how many different tokens they are, as `exp(-Σ p ln p)` over the share `p` of each (1 where
/// it is always the same token); `spread` is one less the mean cosine of their embeddings over all pairs. A neuron with
/// fewer than two such tokens has neither (NaN). There is no standard published score: neurons with unrelated strongest
/// examples are what the literature calls polysemantic, and the count is Hill's diversity number of order 1.
/// Identity: read alone, the window of the strongest token of each listed neuron gives the same activation
/// (`replay_gap`, the greatest absolute difference).
/// Source: Olah et al., "Zoom in: an introduction to circuits" (2020), for polysemantic neurons; Hill, "Diversity and
/// evenness: a unifying notation and its consequences" (1973), for the count.
///
/// ```
/// # use arrakis_core::{Context, Corpus, Tool};
/// # use arrakis_tools::PolysemanticNeurons;
/// # let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/golden/llama");
/// # let model = arrakis_models::load(folder, &arrakis_models::LoadOptions::default()).unwrap();
/// let corpus = Corpus::Rows(vec![vec![9, 3, 17, 4], vec![5, 8, 2]]);
/// let found = PolysemanticNeurons::new(corpus).run(&Context::new(&model)).unwrap();
/// assert!(found.replay_gap < 1e-4);
/// ```
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PolysemanticNeurons {
    /// The texts to read.
    pub corpus: Corpus,
    /// Which layers; all of them if absent.
    #[serde(default)]
    pub layers: Option<Vec<usize>>,
    /// Strongest tokens taken of each neuron.
    #[serde(default = "twenty")]
    pub examples: usize,
    /// How many neurons are ranked at each end.
    #[serde(default = "ten")]
    pub top: usize,
    /// Tokens read at once; 256 if absent, or what the context holds.
    #[serde(default)]
    pub window: Option<usize>,
    /// Tokens at the start of each window that are left out; the first ones are often unlike all others.
    #[serde(default)]
    pub skip: usize,
}

const fn twenty() -> usize {
    20
}

const fn ten() -> usize {
    10
}

impl PolysemanticNeurons {
    /// The neurons of every layer over `corpus`.
    pub fn new(corpus: impl Into<Corpus>) -> Self {
        Self { corpus: corpus.into(), layers: None, examples: twenty(), top: ten(), window: None, skip: 0 }
    }
}

/// How many things each neuron answers to.
#[derive(Debug, Clone)]
pub struct Polysemy {
    /// Effective number of different tokens among the strongest: `[layer, neuron]`.
    pub effective: Grid,
    /// One less the mean cosine of their embeddings: `[layer, neuron]`.
    pub spread: Grid,
    /// Neurons with the most effective tokens, those of greater spread first where equal.
    pub most: Ranking,
    /// Neurons with the fewest.
    pub fewest: Ranking,
    /// Greatest absolute difference of a strongest activation from the one when its window is read alone.
    pub replay_gap: f64,
}

impl From<Polysemy> for Answer {
    fn from(found: Polysemy) -> Self {
        Self::new()
            .with("most", found.most)
            .with("fewest", found.fewest)
            .with("effective", found.effective)
            .with("spread", found.spread)
            .with("replay_gap", found.replay_gap)
    }
}

/// A neuron with its scores and strongest tokens.
struct Scored {
    layer: usize,
    neuron: usize,
    effective: f64,
    spread: f64,
    strongest: Vec<(f64, usize)>,
}

impl Tool for PolysemanticNeurons {
    const NAME: &'static str = "sparsity.polysemantic";
    type Output = Polysemy;

    fn run(&self, cx: &Context<'_>) -> Result<Polysemy> {
        let model = cx.model();
        let dims = model.dims();
        let layers = index::chosen("layer", self.layers.as_deref(), dims.n_layers)?;
        let top = index::count("top", self.top, layers.len() * dims.d_mlp)?;
        if self.examples < 2 {
            let why = "one token cannot differ from another; give two at least".into();
            return Err(Error::Invalid { what: format!("examples {}", self.examples), why });
        }
        let pass = CorpusPass::of(cx, &self.corpus, self.window, 3 * dims.d_mlp)?;
        let pass = pass.without_first(self.skip)?.at_least(2)?;
        let points: Vec<HookPoint> = layers.iter().map(|layer| Site::MLP_POST.at(*layer)).collect();
        let mut found: Vec<MostActive> = points.iter().map(|_| MostActive::new(self.examples)).collect();
        pass.each(cx, |batch| {
            token_vectors::read(model, batch, &points, |point, vectors| {
                let place = points.iter().position(|known| *known == point).unwrap_or(0);
                found[place].add(&vectors, batch.first)
            })
        })?;

        let embedding = model.weight(Weight::E.global())?;
        let mut scored = Vec::new();
        for (layer, found) in layers.iter().zip(&found) {
            cx.cancelled()?;
            for (neuron, strongest) in found.lists()?.into_iter().enumerate() {
                let strongest: Vec<(f64, usize)> = strongest.into_iter().filter(|(value, _)| *value > 0.0).collect();
                let ids: Vec<i64> = strongest.iter().map(|(_, token)| token_id(&pass, *token)).collect();
                let (effective, spread) =
                    if ids.len() < 2 { (f64::NAN, f64::NAN) } else { (effective(&ids), spread(&embedding, &ids)?) };
                scored.push(Scored { layer: *layer, neuron, effective, spread, strongest });
            }
        }
        let rows = Axis::new("layer", index::labels(&layers));
        let columns = Axis::indices("neuron", dims.d_mlp);
        let grid = |title: &str, value: &str, of: &dyn Fn(&Scored) -> f64| {
            Grid::new(title, value, rows.clone(), columns.clone(), scored.iter().map(of).collect())
        };
        let effective = grid("effective tokens", "tokens", &|scored| scored.effective)?;
        let spread = grid("spread of the strongest tokens", "1 - cosine", &|scored| scored.spread)?;
        let mut order: Vec<&Scored> = scored.iter().filter(|scored| !scored.effective.is_nan()).collect();
        order.sort_by(|a, b| b.effective.total_cmp(&a.effective).then(b.spread.total_cmp(&a.spread)));
        let most: Vec<&Scored> = order.iter().copied().take(top).collect();
        let fewest: Vec<&Scored> = order.iter().rev().copied().take(top).collect();
        let mut replay_gap = 0.0;
        for scored in most.iter().chain(&fewest) {
            cx.cancelled()?;
            let (value, token) = scored.strongest[0];
            let (window, place) = pass.place(token);
            let alone = token_vectors::read_alone(model, window, Site::MLP_POST.at(scored.layer))?;
            let alone = alone.f_double_value(&[place as i64, scored.neuron as i64])?;
            replay_gap = gap::worse(replay_gap, (alone - value).abs());
        }
        let ranking = |title: &str, chosen: &[&Scored]| {
            let entries = chosen.iter().map(|scored| (scored.label(model, &pass), scored.effective));
            Ranking::new(title, "effective tokens", entries.collect::<Vec<_>>())
        };
        Ok(Polysemy {
            most: ranking("neurons with the most tokens", &most),
            fewest: ranking("neurons with the fewest tokens", &fewest),
            effective,
            spread,
            replay_gap,
        })
    }
}

impl Scored {
    /// The neuron's name, with its strongest tokens.
    fn label(&self, model: &dyn Model, pass: &CorpusPass) -> String {
        let tokens =
            self.strongest.iter().take(5).map(|(_, token)| format!("{:?}", model.token(token_id(pass, *token))));
        format!("L{}N{}: {}", self.layer, self.neuron, tokens.collect::<Vec<_>>().join(" "))
    }
}

fn token_id(pass: &CorpusPass, token: usize) -> i64 {
    let (window, place) = pass.place(token);
    window.ids[place]
}

/// The exponential of the entropy of the shares of each token.
fn effective(ids: &[i64]) -> f64 {
    let mut counts: HashMap<i64, f64> = HashMap::new();
    for id in ids {
        *counts.entry(*id).or_default() += 1.0;
    }
    let mut shares: Vec<f64> = counts.into_values().map(|count| count / ids.len() as f64).collect();
    // A sum in the order of a hash map would differ in the last bit from run to run.
    shares.sort_by(f64::total_cmp);
    shares.into_iter().map(|share| -share * share.ln()).sum::<f64>().exp()
}

/// One less the mean cosine of the embeddings of all pairs.
fn spread(embedding: &Tensor, ids: &[i64]) -> Result<f64> {
    let places = Tensor::f_from_slice(ids)?.f_to_device(embedding.device())?;
    let vectors = embedding.f_index_select(0, &places)?.f_to_kind(Kind::Double)?;
    let lengths = vectors.f_square()?.f_sum_dim_intlist(1, true, Kind::Double)?.f_sqrt()?;
    let sum = vectors.f_div(&lengths)?.f_sum_dim_intlist(0, false, Kind::Double)?;
    let count = ids.len() as f64;
    // Of the squared length of the sum, each vector with itself is 1.
    let pairs = sum.f_square()?.f_sum(Kind::Double)?.f_double_value(&[])? - count;
    Ok(1.0 - pairs / (count * (count - 1.0)))
}

register_tools!(PolysemanticNeurons);

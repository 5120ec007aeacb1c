//! What a model loses when weights are set to zero.

use arrakis_core::{
    Answer, Axis, Context, Corpus, Error, Model, ModelExt, Result, Series, Tool, WeightPoint, register_tools,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use super::prunable::Prunable;
use super::prune_inputs;
use crate::corpus_pass::{CorpusLoss, CorpusPass};
use crate::index;

/// How weights are chosen to be set to zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PruneMethod {
    /// The least `|W|` of a whole matrix.
    Magnitude,
    /// The least `|W_ij| · |X_j|` of each output, `|X_j|` the norm of input `j` over the corpus (Wanda).
    Wanda,
}

impl PruneMethod {
    const ALL: [Self; 2] = [Self::Magnitude, Self::Wanda];

    const fn label(self) -> &'static str {
        match self {
            Self::Magnitude => "magnitude",
            Self::Wanda => "wanda",
        }
    }
}

/// Sets the least important weights to zero, at several levels, and measures the loss on a corpus.
///
/// At level `s`, `magnitude` zeroes the share `s` of a matrix with the least `|W|`; `wanda` zeroes, for each output, the
/// share `s` of its inputs with the least `|W_ij| · |X_j|₂`, `X_j` the input `j` over the tokens of `calibration`. The
/// norms are those of the model as it is, where the paper takes them anew after each pruned block. Counts are rounded
/// down. The loss is the mean cross entropy of the next token, in nats. The model itself is untouched.
/// Identity: at level 0 nothing changes, and `unpruned_gap` is the greatest absolute difference of such a model's loss
/// from the model's own.
/// Source: Han et al., "Learning both weights and connections for efficient neural networks" (2015), for magnitude; Sun
/// et al., "A simple and effective pruning approach for large language models" (2023), for Wanda.
///
/// ```
/// # use arrakis_core::{Context, Corpus, Tool};
/// # use arrakis_tools::Prune;
/// # let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/golden/llama");
/// # let model = arrakis_models::load(folder, &arrakis_models::LoadOptions::default()).unwrap();
/// let corpus = Corpus::Rows(vec![vec![9, 3, 17, 4], vec![5, 8, 2]]);
/// let found = Prune::new(corpus, [0.5]).run(&Context::new(&model)).unwrap();
/// assert_eq!(found.losses.lines[1].name, "wanda");
/// ```
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Prune {
    /// The texts that the loss is taken over.
    pub corpus: Corpus,
    /// Shares of the weights that are set to zero, in `0..=1`.
    pub levels: Vec<f64>,
    /// How weights are chosen.
    #[serde(default = "both")]
    pub methods: Vec<PruneMethod>,
    /// Which maps are pruned; all of them if absent.
    #[serde(default)]
    pub maps: Option<Vec<Prunable>>,
    /// Which layers are pruned; all of them if absent.
    #[serde(default)]
    pub layers: Option<Vec<usize>>,
    /// The texts that inputs are measured on; those of `corpus` if absent.
    #[serde(default)]
    pub calibration: Option<Corpus>,
    /// Tokens read at once; 256 if absent, or what the context holds.
    #[serde(default)]
    pub window: Option<usize>,
}

fn both() -> Vec<PruneMethod> {
    PruneMethod::ALL.to_vec()
}

impl Prune {
    /// Both methods at `levels`, on all maps of all layers.
    pub fn new(corpus: impl Into<Corpus>, levels: impl IntoIterator<Item = f64>) -> Self {
        Self {
            corpus: corpus.into(),
            levels: levels.into_iter().collect(),
            methods: both(),
            maps: None,
            layers: None,
            calibration: None,
            window: None,
        }
    }
}

/// The loss by level.
#[derive(Debug, Clone)]
pub struct Pruned {
    /// The loss of the model as it is, in nats.
    pub loss: f64,
    /// The loss by level, a line for each method and one for the model as it is, in nats.
    pub losses: Series,
    /// The share of zeros in the pruned maps by level, a line for each method.
    pub zeros: Series,
    /// Greatest absolute difference of the loss at level 0 from the model's own.
    pub unpruned_gap: f64,
}

impl From<Pruned> for Answer {
    fn from(found: Pruned) -> Self {
        Self::new()
            .with("loss", found.loss)
            .with("losses", found.losses)
            .with("zeros", found.zeros)
            .with("unpruned_gap", found.unpruned_gap)
    }
}

impl Tool for Prune {
    const NAME: &'static str = "sparsity.prune";
    type Output = Pruned;

    fn run(&self, cx: &Context<'_>) -> Result<Pruned> {
        let model = cx.model();
        let weights = self.weights(model)?;
        let pass = CorpusPass::of_predictions(cx, &self.corpus, self.window)?;
        let norms = if self.methods.contains(&PruneMethod::Wanda) {
            let dims = model.dims();
            let widest = dims.d_mlp.max(dims.d_model).max(dims.n_heads * dims.d_head);
            let corpus = self.calibration.as_ref().unwrap_or(&self.corpus);
            let calibration = CorpusPass::of(cx, corpus, self.window, 2 * widest)?;
            prune_inputs::norms(cx, &calibration, &weights)?
        } else {
            std::collections::HashMap::new()
        };

        let own = loss(cx, model, &pass)?;
        let mut unpruned_gap: f64 = 0.0;
        let (mut losses, mut zeros) = (Vec::new(), Vec::new());
        for method in &self.methods {
            let (mut by_level, mut shares) = (Vec::new(), Vec::new());
            for level in [0.0].iter().chain(&self.levels) {
                let (mut edits, mut zero, mut count) = (Vec::new(), 0.0, 0.0);
                for (point, part) in &weights {
                    let weight = model.weight(*point)?;
                    let pruned = pruned(*method, *part, &weight, norms.get(point), *level)?;
                    zero += pruned.f_eq(0.0)?.f_sum(Kind::Int64)?.f_double_value(&[])?;
                    count += weight.numel() as f64;
                    edits.push((*point, pruned));
                }
                by_level.push(loss(cx, &*model.with_weights(edits)?, &pass)?);
                shares.push(zero / count);
            }
            unpruned_gap = crate::gap::worse(unpruned_gap, (by_level.remove(0) - own).abs());
            shares.remove(0);
            losses.push((method.label(), by_level));
            zeros.push((method.label(), shares));
        }
        losses.push(("unpruned", vec![own; self.levels.len()]));
        let axis = Axis::new("level", self.levels.iter().map(ToString::to_string));
        Ok(Pruned {
            loss: own,
            losses: Series::new("loss of the pruned model", "loss (nats)", axis.clone(), losses)?,
            zeros: Series::new("zeros in the pruned maps", "share", axis, zeros)?,
            unpruned_gap,
        })
    }
}

impl Prune {
    /// The weights to be pruned, in order.
    fn weights(&self, model: &dyn Model) -> Result<Vec<(WeightPoint, Prunable)>> {
        let empty = |what: &str| Error::Invalid { what: what.into(), why: "the list is empty; give one".into() };
        if self.levels.is_empty() {
            return Err(empty("levels"));
        }
        if self.methods.is_empty() {
            return Err(empty("methods"));
        }
        if let Some(level) = self.levels.iter().find(|level| !(0.0..=1.0).contains(*level)) {
            return Err(Error::Invalid { what: format!("level {level}"), why: "give a share in 0..=1".into() });
        }
        let layers = index::chosen("layer", self.layers.as_deref(), model.dims().n_layers)?;
        let known = model.weights();
        let chosen = self.maps.as_deref().unwrap_or(&Prunable::ALL);
        let each = layers.into_iter().flat_map(|layer| chosen.iter().map(move |part| (part.weight().at(layer), *part)));
        let weights: Vec<(WeightPoint, Prunable)> = each.filter(|(weight, _)| known.contains(weight)).collect();
        if weights.is_empty() {
            return Err(Error::Invalid { what: "maps".into(), why: "this model has none of them".into() });
        }
        Ok(weights)
    }
}

/// The loss of a model over the corpus, in nats.
fn loss(cx: &Context<'_>, model: &dyn Model, pass: &CorpusPass) -> Result<f64> {
    let mut loss = CorpusLoss::default();
    pass.each(cx, |batch| loss.add(model.trace(&batch.tokens).run()?.logits()?, batch))?;
    Ok(loss.mean())
}

/// A weight whose least important entries are zero.
fn pruned(method: PruneMethod, part: Prunable, weight: &Tensor, norms: Option<&Tensor>, level: f64) -> Result<Tensor> {
    let flat = part.flat(weight)?;
    let (inputs, outputs) = flat.size2()?;
    let sizes = flat.f_to_kind(Kind::Double)?.f_abs()?;
    let scores = match (method, norms) {
        (PruneMethod::Wanda, Some(norms)) => sizes.f_mul(&norms.f_unsqueeze(1)?)?,
        _ => sizes.f_reshape([inputs * outputs, 1])?,
    };
    let compared = scores.size()[0];
    // A share like 0.3 of 10 is 3, though it is a little less in binary.
    let count = (level * compared as f64 + 1e-9).floor() as i64;
    let (_, least) = scores.f_topk(count.min(compared), 0, false, false)?;
    let kept = flat.f_reshape(&scores.size()[..])?.f_scatter_value(0, &least, 0.0)?;
    part.folded(&kept.f_reshape([inputs, outputs])?, &weight.size())
}

register_tools!(Prune);

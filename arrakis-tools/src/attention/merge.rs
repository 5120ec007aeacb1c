//! What is lost when two heads share one set of weights.

use arrakis_core::{
    Answer, Context, Dims, Error, Metric, Model, ModelExt, Prompt, Ranking, Result, Tokens, Tool, Weight, WeightPoint,
    register_tools,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use crate::{gap, index, measured};

/// Puts the average of two heads' weights in place of both, and measures what that costs.
///
/// Merged are `W_Q` and `W_O` of the two heads, with the bias and the norm of their queries, and `W_K` and `W_V` of
/// their key-value heads, with biases and norms, and what else the model has for each head in its attention (the weights
/// of lags, or what makes kernels); `b_O` belongs to no head. Under grouped-query attention a key-value
/// head serves a group of heads: in one group it is shared already and stays as it is; in two groups merging it reaches
/// the other heads of both, which `merged` names. Heads are averaged entry by entry, in the bases in which they are
/// stored: two heads that do the same in different bases do not average to it.
/// Identity: each of the two heads merged with itself is itself, and `same_gap` is the greatest absolute difference of
/// the metric from the one before.
/// Source: Matena and Raffel, "Merging models with Fisher-weighted averaging" (2022), of which this is the plain average.
///
/// ```
/// # use arrakis_core::{Context, Prompt, Tool};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/golden/gpt2");
/// # let model = arrakis_models::load(folder, &arrakis_models::LoadOptions::default())?;
/// let asked = arrakis_tools::AttentionMerge::new(Prompt::Ids(vec![9, 3, 17, 40]), [0, 0], [0, 1]);
/// let found = asked.run(&Context::new(&model))?;
/// println!("{}: loss {} -> {}", found.merged, found.before, found.after);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AttentionMerge {
    /// What to read.
    pub prompt: Prompt,
    /// Layer and head of the one.
    pub first: [usize; 2],
    /// Layer and head of the other.
    pub second: [usize; 2],
    /// The weight of the first head in the average, from 0 to 1.
    #[serde(default = "half")]
    pub blend: f64,
    /// What is measured, as a mean over the rows.
    #[serde(default = "loss")]
    pub metric: Metric,
}

const fn half() -> f64 {
    0.5
}

const fn loss() -> Metric {
    Metric::Loss
}

impl AttentionMerge {
    /// The loss on `prompt` with two heads (layer and head) merged by halves.
    pub fn new(prompt: impl Into<Prompt>, first: [usize; 2], second: [usize; 2]) -> Self {
        Self { prompt: prompt.into(), first, second, blend: half(), metric: loss() }
    }
}

/// The metric with two heads merged.
#[derive(Debug, Clone)]
pub struct Merged {
    /// The metric with the model as it is.
    pub before: f64,
    /// The metric with the heads merged.
    pub after: f64,
    /// The cosine of the two heads' weights before, by weight.
    pub similarity: Ranking,
    /// What was merged, and which other heads that reached.
    pub merged: String,
    /// Greatest absolute difference of the metric where a head is merged with itself.
    pub same_gap: f64,
}

impl From<Merged> for Answer {
    fn from(found: Merged) -> Self {
        Self::new()
            .with("before", found.before)
            .with("after", found.after)
            .with("change", found.after - found.before)
            .with("similarity", found.similarity)
            .with("merged", found.merged)
            .with("same_gap", found.same_gap)
    }
}

impl Tool for AttentionMerge {
    const NAME: &'static str = "attention.merge";
    type Output = Merged;

    fn run(&self, cx: &Context<'_>) -> Result<Merged> {
        let model = cx.model();
        let (first, second) = (index::head(model.dims(), self.first)?, index::head(model.dims(), self.second)?);
        if !(0.0..=1.0).contains(&self.blend) {
            let why = "give a number from 0 to 1".into();
            return Err(Error::Invalid { what: format!("blend {}", self.blend), why });
        }
        let tokens = self.prompt.tokens(model)?;
        let before = self.measured(model, &tokens)?;
        let with = |a: HeadPlace, b: HeadPlace| -> Result<f64> {
            self.measured(&*model.with_weights(merged(model, a, b, self.blend)?)?, &tokens)
        };
        cx.progress(0, 3)?;
        let after = with(first, second)?;
        let mut same_gap = 0.0;
        for (done, head) in [first, second].into_iter().enumerate() {
            cx.progress(done as u64 + 1, 3)?;
            same_gap = gap::worse(same_gap, (with(head, head)? - before).abs());
        }
        let merged = described(model, first, second)?;
        Ok(Merged { before, after, similarity: similarity(model, first, second)?, merged, same_gap })
    }

    fn measured(&self, model: &dyn Model) -> Result<Option<String>> {
        self.metric.described(model).map(Some)
    }
}

impl AttentionMerge {
    fn measured(&self, model: &dyn Model, tokens: &Tokens) -> Result<f64> {
        let measure = self.metric.prepare(model, tokens)?;
        let run = model.trace(tokens).logits(measure.wanted()).run()?;
        measured::mean(&measure, run.logits()?)
    }
}

/// A head: layer and number.
type HeadPlace = (usize, usize);

/// The weights that belong to a query head.
const OF_HEAD: [Weight; 4] = [Weight::Q, Weight::O, Weight::Q_B, Weight::Q_NORM];
/// The weights that belong to a key-value head.
const OF_GROUP: [Weight; 5] = [Weight::K, Weight::V, Weight::K_B, Weight::V_B, Weight::K_NORM];

/// The weights of attention that only some models have, each with an entry for every query head.
fn added(model: &dyn Model, layer: usize) -> Result<Vec<Weight>> {
    let known = |weight: &Weight| OF_HEAD.contains(weight) || OF_GROUP.contains(weight) || *weight == Weight::O_B;
    let here = model.weights().into_iter().filter(|point| point.layer == Some(layer));
    let added = here.map(|point| point.weight).filter(|weight| weight.name().starts_with("attn.") && !known(weight));
    let added: Vec<Weight> = added.collect();
    for weight in &added {
        let size = model.weight(weight.at(layer))?.size();
        if size.first() != Some(&(model.dims().n_heads as i64)) {
            let why = format!("its shape is {size:?}, which does not say what of it belongs to which head");
            return Err(Error::Invalid { what: format!("weight `{}`", weight.at(layer)), why });
        }
    }
    Ok(added)
}

fn group(dims: &Dims, (layer, head): HeadPlace) -> HeadPlace {
    (layer, head / (dims.n_heads / dims.n_kv_heads))
}

/// The weights with the average of two heads in the place of both.
fn merged(model: &dyn Model, first: HeadPlace, second: HeadPlace, blend: f64) -> Result<Vec<(WeightPoint, Tensor)>> {
    let dims = model.dims();
    let of_head = OF_HEAD.map(|weight| (weight, first, second));
    let of_group = OF_GROUP.map(|weight| (weight, group(dims, first), group(dims, second)));
    let added = added(model, first.0)?.into_iter().map(|weight| (weight, first, second));
    let mut edits = Vec::new();
    for (weight, a, b) in of_head.into_iter().chain(of_group).chain(added) {
        // Two heads of one group share it.
        if a == b && first != second {
            continue;
        }
        let points = [weight.at(a.0), weight.at(b.0)];
        let Some(whole) = model.weight_if_any(points[0])? else { continue };
        let other = model.weight(points[1])?;
        let (own, others) = (whole.f_get(a.1 as i64)?, other.f_get(b.1 as i64)?);
        let mean = own.f_mul_scalar(blend)?.f_add(&others.f_mul_scalar(1.0 - blend)?)?.f_unsqueeze(0)?;
        let put = |into: &Tensor, place: usize| into.f_slice_scatter(&mean, 0, place as i64, place as i64 + 1, 1);
        if a.0 == b.0 {
            edits.push((points[0], put(&put(&whole, a.1)?, b.1)?));
        } else {
            edits.push((points[0], put(&whole, a.1)?));
            edits.push((points[1], put(&other, b.1)?));
        }
    }
    Ok(edits)
}

/// The cosine of the two heads' matrices, entry by entry.
fn similarity(model: &dyn Model, first: HeadPlace, second: HeadPlace) -> Result<Ranking> {
    let dims = model.dims();
    let mut entries = Vec::new();
    for (weight, grouped) in matrices(model, first.0)? {
        let own = |head: HeadPlace| -> Result<Tensor> {
            let (layer, place) = if grouped { group(dims, head) } else { head };
            Ok(model.weight(weight.at(layer))?.f_get(place as i64)?.f_to_kind(Kind::Double)?.f_reshape([-1])?)
        };
        let (a, b) = (own(first)?, own(second)?);
        let lengths = a.f_norm()?.f_double_value(&[])? * b.f_norm()?.f_double_value(&[])?;
        entries.push((short(weight), a.f_dot(&b)?.f_double_value(&[])? / lengths));
    }
    Ok(Ranking::new("likeness of the heads' weights", "cosine", entries))
}

/// The matrices of heads, and whether a group of heads shares them.
fn matrices(model: &dyn Model, layer: usize) -> Result<Vec<(Weight, bool)>> {
    let usual = [(Weight::Q, false), (Weight::K, true), (Weight::V, true), (Weight::O, false)];
    let there = model.weights();
    let usual = usual.into_iter().filter(|(weight, _)| there.contains(&weight.at(layer)));
    Ok(usual.chain(added(model, layer)?.into_iter().map(|weight| (weight, false))).collect())
}

/// A weight's name within attention.
fn short(weight: Weight) -> &'static str {
    weight.name().trim_start_matches("attn.")
}

/// Which weights are averaged, in words.
fn described(model: &dyn Model, first: HeadPlace, second: HeadPlace) -> Result<String> {
    let dims = model.dims();
    let matrices = matrices(model, first.0)?;
    let listed = |wanted: &dyn Fn(bool) -> bool| {
        let names = matrices.iter().filter(|(_, grouped)| wanted(*grouped)).map(|(weight, _)| short(*weight));
        names.collect::<Vec<_>>().join(", ")
    };
    let label = |head: HeadPlace| index::head_label(head.0, head.1);
    let (one, other) = (group(dims, first), group(dims, second));
    let heads = format!("{} and {}", label(first), label(second));
    if dims.n_heads == dims.n_kv_heads {
        return Ok(format!("{} of {heads}", listed(&|_| true)));
    }
    if one == other {
        return Ok(format!("{} of {heads}; their key-value head is one already", listed(&|grouped| !grouped)));
    }
    let served = (0..dims.n_layers).flat_map(|layer| (0..dims.n_heads).map(move |head| (layer, head)));
    let reached = served.filter(|head| [one, other].contains(&group(dims, *head)) && ![first, second].contains(head));
    let reached: Vec<String> = reached.map(label).collect();
    let key_values = format!("{}.{} and {}.{}", one.0, one.1, other.0, other.1);
    let reached = if reached.is_empty() { "no other head".into() } else { reached.join(", ") };
    let (own, shared) = (listed(&|grouped| !grouped), listed(&|grouped| grouped));
    Ok(format!("{own} of {heads}; {shared} of the key-value heads {key_values}, which {reached} read too"))
}

register_tools!(AttentionMerge);

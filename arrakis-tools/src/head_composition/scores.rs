//! The question how much of what each head writes each later head reads, by the weights alone.

use arrakis_core::{Answer, Axis, Context, Error, Grid, Model, Ranking, Result, Stack, Tool, answer, register_tools};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::Tensor;

use super::grams::all_pairs;
use crate::{Circuit, HeadInput, HeadPlace, gap, index};

/// Scores how strongly each head could compose with each later one, through its queries, keys or values.
///
/// The score of an earlier and a later head is `‖A B‖ / (‖A‖ ‖B‖)` in Frobenius norms, with `A` the earlier one's OV
/// circuit `W_V W_O` and `B` what the later one makes of its input: `W_Q W_Kᵀ` (Q-composition), `W_K W_Qᵀ`
/// (K-composition) or `W_V W_O` (V-composition). It lies in 0..=1; random circuits have `1 / √d_model` in the mean square,
/// which is given as `random`. Pairs that are not in order are 0. Norms, rotations and biases are no part of it: fold
/// the norms first where their weights matter. Where scores compare queries and keys of earlier positions too, each pair
/// of lags multiplies `B` by a number, so that the score is that of every pair.
/// It is computed in the model's kind, in 32 bits at least. Identity: `dense_gap` is the greatest absolute difference,
/// over the strongest pair of each kind, from the score of the product formed in full, in double.
/// Source: Elhage et al., "A mathematical framework for transformer circuits" (2021).
///
/// ```
/// # use arrakis_core::{Context, Tool};
/// # use arrakis_tools::CompositionScores;
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/golden/llama");
/// let model = arrakis_models::load(folder, &arrakis_models::LoadOptions::default())?;
/// let found = CompositionScores::default().run(&Context::new(&model))?;
/// assert_eq!(found.inputs[0].scores.values.size(), [2, 4, 2, 4]);
/// assert!(found.dense_gap < 1e-5);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CompositionScores {
    /// The inputs of the later head: `q`, `k`, `v`.
    #[serde(default = "every_input")]
    pub inputs: Vec<HeadInput>,
    /// How many pairs are ranked for each input.
    #[serde(default = "ten")]
    pub top: usize,
}

fn every_input() -> Vec<HeadInput> {
    HeadInput::ALL.to_vec()
}

const fn ten() -> usize {
    10
}

impl Default for CompositionScores {
    fn default() -> Self {
        Self { inputs: every_input(), top: ten() }
    }
}

/// Composition scores of all pairs of heads.
#[derive(Debug, Clone)]
pub struct Compositions {
    /// The scores through each input that was asked for.
    pub inputs: Vec<InputScores>,
    /// The root of the mean square of random circuits' scores, `1 / √d_model`.
    pub random: f64,
    /// Greatest absolute difference of the strongest pairs' scores from those of the products formed in full.
    pub dense_gap: f64,
}

/// Composition scores through one input of the later head.
#[derive(Debug, Clone)]
pub struct InputScores {
    /// What the later head reads with.
    pub input: HeadInput,
    /// The pairs with the greatest scores.
    pub top: Ranking,
    /// The greatest score between two layers: `[earlier layer, later layer]`.
    pub by_layer: Grid,
    /// Every score, 0 where the pair is not in order: `[earlier layer, head, later layer, head]`.
    pub scores: Stack,
}

impl From<Compositions> for Answer {
    fn from(found: Compositions) -> Self {
        let answer = found.inputs.into_iter().fold(Self::new(), |answer, scores| {
            let name = scores.input.name();
            answer
                .with(format!("{name}_top"), scores.top)
                .with(format!("{name}_by_layer"), scores.by_layer)
                .with(name, scores.scores)
        });
        answer.with("random", found.random).with("dense_gap", found.dense_gap)
    }
}

impl Tool for CompositionScores {
    const NAME: &'static str = "head_composition.scores";
    type Output = Compositions;

    fn run(&self, cx: &Context<'_>) -> Result<Compositions> {
        let model = cx.model();
        let dims = model.dims();
        if dims.n_layers < 2 {
            let why = "it has one layer, so no head comes after another".into();
            return Err(Error::Invalid { what: "model".into(), why });
        }
        if self.inputs.is_empty() {
            let why = "the list is empty; leave it out for `q`, `k` and `v`".into();
            return Err(Error::Invalid { what: "inputs".into(), why });
        }
        let pairs = dims.n_layers * (dims.n_layers - 1) / 2 * dims.n_heads * dims.n_heads;
        index::count("top", self.top.min(pairs), pairs)?;
        let scores = all_pairs(cx, &self.inputs)?;
        let mut dense_gap = 0.0;
        let mut inputs = Vec::with_capacity(scores.len());
        for (input, scores) in self.inputs.iter().zip(scores) {
            let shown = shown(model, *input, scores, self.top)?;
            if let Some((pair, score)) = shown.strongest {
                dense_gap = gap::worse(dense_gap, (dense_score(model, *input, pair)? - score).abs());
            }
            inputs.push(shown.scores);
        }
        Ok(Compositions { inputs, random: 1.0 / (dims.d_model as f64).sqrt(), dense_gap })
    }
}

/// A score computed from the product itself, in double.
fn dense_score(model: &dyn Model, input: HeadInput, [earlier, later]: [HeadPlace; 2]) -> Result<f64> {
    let a = Circuit::Ov.of_head_unweighed(model, earlier)?.dense()?;
    let b = input.of_head_unweighed(model, later)?;
    let norm = |matrix: &Tensor| -> Result<f64> { Ok(matrix.f_norm()?.f_double_value(&[])?) };
    Ok(norm(&b.apply(&a)?)? / (norm(&a)? * norm(&b.dense()?)?))
}

/// The labelled scores of an input, with the strongest pair and its score.
struct Shown {
    scores: InputScores,
    strongest: Option<([HeadPlace; 2], f64)>,
}

fn shown(model: &dyn Model, input: HeadInput, scores: Tensor, top: usize) -> Result<Shown> {
    let dims = model.dims();
    let (layers, heads) = (dims.n_layers, dims.n_heads);
    let place = |index: usize| HeadPlace::new(index / heads, index % heads);
    let numbers = answer::numbers(&scores)?;
    let width = layers * heads;
    let in_order = |index: &usize| place(index / width).layer < place(index % width).layer;
    let mut order: Vec<usize> = (0..numbers.len()).filter(in_order).filter(|index| !numbers[*index].is_nan()).collect();
    order.sort_by(|a, b| numbers[*b].total_cmp(&numbers[*a]));
    let pair = |index: usize| [place(index / width), place(index % width)];
    let entries = order.iter().take(top).map(|index| {
        let [earlier, later] = pair(*index);
        (format!("{} → {}", earlier.label(), later.label()), numbers[*index])
    });
    let name = format!("{}-composition", input.name().to_uppercase());
    let axis = |name: &str, len: usize| Axis::indices(name, len);
    let by_layer = Grid::from_tensor(
        format!("strongest {name} between layers"),
        "score",
        axis("earlier layer", layers),
        axis("later layer", layers),
        &scores.f_amax([1, 3], false)?,
    )?;
    let axes =
        vec![axis("earlier layer", layers), axis("head", heads), axis("later layer", layers), axis("head", heads)];
    Ok(Shown {
        strongest: order.first().map(|index| (pair(*index), numbers[*index])),
        scores: InputScores {
            input,
            top: Ranking::new(format!("strongest {name}"), "score", entries),
            by_layer,
            scores: Stack::new(name, "score", axes, scores)?,
        },
    })
}

register_tools!(CompositionScores);

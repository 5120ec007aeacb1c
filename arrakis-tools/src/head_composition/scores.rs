//! The question how much of what each head writes each later head reads, by the weights alone.

use arrakis_core::{Answer, Axis, Context, Error, Grid, Model, Ranking, Result, Stack, Tool, answer, register_tools};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use crate::{Circuit, HeadInput, HeadPlace, gap, index};

/// Scores how strongly each head could compose with each later one, through its queries, keys or values.
///
/// The score of an earlier and a later head is `‖A B‖ / (‖A‖ ‖B‖)` in Frobenius norms, with `A` the earlier one's OV
/// circuit `W_V W_O` and `B` what the later one makes of its input: `W_Q W_Kᵀ` (Q-composition), `W_K W_Qᵀ`
/// (K-composition) or `W_V W_O` (V-composition). It lies in 0..=1; random circuits have `1 / √d_model` in the mean square,
/// which is given as `random`. Pairs that are not in order are 0. Norms, rotations and biases are no part of it: fold
/// the norms first where their weights matter.
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
        let scores = scores(cx, &self.inputs)?;
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

/// A matrix `M Mᵀ` for each head of the model, kept as factors: `outer · inner · outerᵀ`.
struct Grams {
    /// `[head, d_model, d_head]`, every layer's.
    outer: Tensor,
    /// `[head, d_head, d_head]`.
    inner: Tensor,
}

impl Grams {
    /// Those of `M = outer · rest`, whose factors `part` gives for every head of a layer.
    fn of(model: &dyn Model, part: impl Fn(usize) -> Result<(Tensor, Tensor)>) -> Result<Self> {
        let (mut outers, mut inners) = (Vec::new(), Vec::new());
        for layer in 0..model.dims().n_layers {
            let (outer, rest) = part(layer)?;
            inners.push(rest.f_matmul(&rest.f_transpose(1, 2)?)?);
            outers.push(outer);
        }
        Ok(Self { outer: Tensor::f_cat(&outers, 0)?, inner: Tensor::f_cat(&inners, 0)? })
    }

    /// The squared norms of the matrices, which are the traces: `[head]`.
    fn squared_norms(&self) -> Result<Tensor> {
        Ok(self.outer.f_matmul(&self.inner)?.f_mul(&self.outer)?.f_sum_dim_intlist(
            &[1_i64, 2][..],
            false,
            None::<Kind>,
        )?)
    }

    /// The columns `start..start + len` of the products, transposed and halfway: `[head, d_head, len]`.
    fn columns(&self, start: i64, len: i64) -> Result<Tensor> {
        Ok(self.outer.f_narrow(1, start, len)?.f_matmul(&self.inner)?.f_transpose(1, 2)?)
    }

    /// The given rows of those columns: `[head, rows * len]`.
    fn block(&self, rows: (i64, i64), columns: &Tensor) -> Result<Tensor> {
        let block = self.outer.f_narrow(1, rows.0, rows.1)?.f_matmul(columns)?;
        Ok(block.f_reshape([self.outer.size()[0], rows.1 * columns.size()[2]])?)
    }
}

/// The bytes of columns held at once where no bound is given.
const BLOCK_BYTES: u64 = 64 << 20;

/// The scores through each input: `[earlier layer, head, later layer, head]`.
///
/// `‖A B‖² = ⟨AᵀA, B Bᵀ⟩`, so that all pairs are one product of two tables with a row for each head. Both matrices are
/// symmetric: what is below the diagonal is taken twice and what is above never formed. This is a third of the work of
/// multiplying the factors of each pair, and does without their QR decompositions.
fn scores(cx: &Context<'_>, inputs: &[HeadInput]) -> Result<Vec<Tensor>> {
    let model = cx.model();
    let dims = model.dims();
    let kind = if model.kind() == Kind::Double { Kind::Double } else { Kind::Float };
    let earlier = Grams::of(model, |layer| {
        let (v, o) = Circuit::Ov.of_layer_in(model, layer, kind)?.into_factors();
        Ok((o.f_transpose(1, 2)?, v.f_transpose(1, 2)?))
    })?;
    let later = inputs.iter().map(|input| {
        Grams::of(model, |layer| Ok(input.first(input.circuit().of_layer_in(model, layer, kind)?)?.into_factors()))
    });
    let later = later.collect::<Result<Vec<_>>>()?;

    let (heads, d_model) = ((dims.n_layers * dims.n_heads) as i64, dims.d_model as i64);
    let column_bytes = (heads * d_model * kind.elt_size_in_bytes() as i64) as u64;
    let width = ((cx.memory_limit().unwrap_or(BLOCK_BYTES) / (2 * column_bytes)) as i64).clamp(1, d_model);
    let zeros = || Tensor::f_zeros([heads, heads], (kind, model.device()));
    let mut squares = later.iter().map(|_| zeros()).collect::<Result<Vec<_>, _>>()?;
    for start in (0..d_model).step_by(width as usize) {
        cx.progress(start as u64, d_model as u64)?;
        let len = width.min(d_model - start);
        let columns = earlier.columns(start, len)?;
        let of_later = later.iter().map(|later| later.columns(start, len)).collect::<Result<Vec<_>>>()?;
        let below = (start + len, d_model - start - len);
        for (rows, times) in [((start, len), 1.0), (below, 2.0)] {
            if rows.1 == 0 {
                continue;
            }
            let block = earlier.block(rows, &columns.f_mul_scalar(times)?)?;
            for ((squares, later), columns) in squares.iter_mut().zip(&later).zip(&of_later) {
                let _ = squares.f_addmm_(&block, &later.block(rows, columns)?.f_transpose(0, 1)?)?;
            }
        }
    }

    let shape = [dims.n_layers, dims.n_heads, dims.n_layers, dims.n_heads].map(|len| len as i64);
    let layers = Tensor::f_arange(shape[0], (Kind::Int64, model.device()))?;
    let unordered = layers.f_view([-1, 1, 1, 1])?.f_ge_tensor(&layers.f_view([-1, 1])?)?;
    let earlier = earlier.squared_norms()?.f_unsqueeze(1)?;
    let finish = |(squares, later): (Tensor, Grams)| -> Result<Tensor> {
        let share = squares.f_div(&earlier.f_mul(&later.squared_norms()?)?)?;
        // Rounding may take what is nearly 0 below it.
        Ok(share.f_clamp_min(0)?.f_sqrt()?.f_view(shape)?.f_masked_fill(&unordered, 0.0)?)
    };
    squares.into_iter().zip(later).map(finish).collect()
}

/// A score computed from the product itself, in double.
fn dense_score(model: &dyn Model, input: HeadInput, [earlier, later]: [HeadPlace; 2]) -> Result<f64> {
    let a = Circuit::Ov.of_head(model, earlier)?.dense()?;
    let b = input.first(input.circuit().of_head(model, later)?)?.dense()?;
    let norm = |matrix: &Tensor| -> Result<f64> { Ok(matrix.f_norm()?.f_double_value(&[])?) };
    Ok(norm(&a.f_matmul(&b)?)? / (norm(&a)? * norm(&b)?))
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

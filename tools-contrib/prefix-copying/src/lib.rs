//! Prefix-matching and copying scores: the two halves of an induction head, each measured on its own.

use std::cell::RefCell;

use arrakis_core::{
    Answer, Axis, Context, Error, Grid, ModelExt, PosSlice, Result, Site, Tokens, Tool, Weight, answer, edit,
    register_tools,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

/// Scores every head for prefix matching and for copying.
///
/// Prefix matching: random sequences are given twice, and the score is the mean attention from the second half to the
/// token after the earlier occurrence of the same token. Copying: of the eigenvalues of the map from a token read to the
/// logits written (embedding, values, output, unembedding), their sum over the sum of their absolute values: 1 where
/// every token raises itself, -1 where every token lowers itself. An induction head is high in both.
/// Identities: `row_gap` is the greatest distance of a pattern row's sum from 1, and `trace_gap` the greatest distance of
/// the eigenvalues' sum from the trace of the map, as a share of the sum of their absolute values.
/// Source: Olsson et al., "In-context learning and induction heads" (2022); Elhage et al., "A mathematical framework for
/// transformer circuits" (2021).
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PrefixCopying {
    /// Random tokens of a sequence, before they are given again.
    #[serde(default = "twenty_five")]
    pub length: usize,
    /// Random sequences to average over.
    #[serde(default = "four")]
    pub batch: usize,
}

const fn twenty_five() -> usize {
    25
}

const fn four() -> usize {
    4
}

impl Default for PrefixCopying {
    fn default() -> Self {
        Self { length: twenty_five(), batch: four() }
    }
}

/// The answer of [`PrefixCopying`].
#[derive(Debug, Clone)]
pub struct Scores {
    /// Mean attention to what followed the same token: `[layer, head]`.
    pub prefix_matching: Grid,
    /// The eigenvalue score: `[layer, head]`.
    pub copying: Grid,
    /// Greatest absolute difference of a pattern row's sum from 1.
    pub row_gap: f64,
    /// Greatest distance of the eigenvalues' sum from the trace.
    pub trace_gap: f64,
}

impl From<Scores> for Answer {
    fn from(scores: Scores) -> Self {
        Self::new()
            .with("prefix_matching", scores.prefix_matching)
            .with("copying", scores.copying)
            .with("row_gap", scores.row_gap)
            .with("trace_gap", scores.trace_gap)
    }
}

impl Tool for PrefixCopying {
    const NAME: &'static str = "contrib.prefix_copying";
    type Output = Scores;

    fn run(&self, cx: &Context<'_>) -> Result<Scores> {
        let dims = cx.model().dims();
        let heads = || (Axis::indices("layer", dims.n_layers), Axis::indices("head", dims.n_heads));
        let (matching, row_gap) = self.prefix_matching(cx)?;
        let (copying, trace_gap) = copying(cx)?;
        let (layers, columns) = heads();
        let prefix_matching = Grid::new("prefix matching", "attention", layers, columns, matching)?;
        let (layers, columns) = heads();
        let copying = Grid::new("copying", "eigenvalue score", layers, columns, copying)?.diverging();
        Ok(Scores { prefix_matching, copying, row_gap, trace_gap })
    }
}

impl PrefixCopying {
    /// Every sequence, given twice.
    fn tokens(&self, cx: &Context<'_>) -> Result<Tokens> {
        let (vocab, context) = (cx.model().dims().vocab, cx.model().dims().context);
        let invalid = |what: String, why: String| Err(Error::Invalid { what, why });
        if self.length < 2 || self.length > vocab || 2 * self.length > context {
            let most = vocab.min(context / 2);
            return invalid(format!("length {}", self.length), format!("give a number in 2..={most}"));
        }
        if self.batch == 0 {
            return invalid("batch 0".into(), "give at least one random sequence".into());
        }
        let mut stream = cx.stream(Self::NAME);
        let row = |_| {
            // Without repetition, so that every token has one earlier occurrence.
            let half: Vec<i64> =
                stream.permutation(vocab).into_iter().take(self.length).map(|token| token as i64).collect();
            [half.clone(), half].concat()
        };
        Tokens::from_rows(&(0..self.batch).map(row).collect::<Vec<_>>())
    }

    /// The scores, layer by layer and head by head, and the greatest distance of a row's sum from 1.
    fn prefix_matching(&self, cx: &Context<'_>) -> Result<(Vec<f64>, f64)> {
        let model = cx.model();
        if let Some(layer) = (0..model.dims().n_layers).find(|layer| model.scores(*layer) == arrakis_core::Scores::None)
        {
            let why = "it is made without scores, so its rows are no shares of attention".into();
            return Err(Error::Invalid { what: format!("the pattern of layer {layer}"), why });
        }
        let (tokens, length) = (self.tokens(cx)?, self.length as i64);
        let layers = model.dims().n_layers as u64;
        let found = RefCell::new((Vec::new(), Vec::new()));
        let measure = edit::with(|pattern| {
            let (scores, gaps) = &mut *found.borrow_mut();
            cx.progress(scores.len() as u64, layers)?;
            let double = pattern.f_to_kind(Kind::Double)?;
            // The token after the earlier occurrence lies `length - 1` before the query.
            let diagonal = double.f_diagonal(1 - length, -2, -1)?;
            let of_second_half = diagonal.f_narrow(-1, 1, length)?;
            scores.push(of_second_half.f_mean_dim(&[0_i64, 2][..], false, Kind::Double)?);
            let sums = double.f_sum_dim_intlist(-1, false, Kind::Double)?;
            gaps.push(sums.f_sub(&sums.f_ones_like()?)?.f_abs()?.f_max()?);
            Ok(pattern.shallow_clone())
        });
        model.trace(&tokens).edit(Site::PATTERN, measure).logits(PosSlice::None).run()?;
        let (scores, gaps) = found.into_inner();
        let gap = answer::numbers(&Tensor::f_stack(&gaps, 0)?.f_max()?)?[0];
        Ok((answer::numbers(&Tensor::f_stack(&scores, 0)?)?, gap))
    }
}

/// The scores, layer by layer and head by head, and the greatest distance of a sum of eigenvalues from the trace.
fn copying(cx: &Context<'_>) -> Result<(Vec<f64>, f64)> {
    let model = cx.model();
    let (dims, double) = (model.dims(), |weight: Tensor| weight.f_to_kind(Kind::Double));
    let embed = double(model.weight(Weight::E.global())?)?;
    // What a unit along each direction of the stream becomes as a direction again: `[d_model, d_model]`.
    let across = double(model.weight(Weight::U.global())?)?.f_matmul(&embed)?;
    let (mut scores, mut gap) = (Vec::with_capacity(dims.n_layers * dims.n_heads), 0.0_f64);
    for layer in 0..dims.n_layers {
        cx.progress(layer as u64, dims.n_layers as u64)?;
        let values = double(model.weight(Weight::V.at(layer))?)?;
        let output = double(model.weight(Weight::O.at(layer))?)?;
        for head in 0..dims.n_heads {
            let kv_head = head * dims.n_kv_heads / dims.n_heads;
            let (values, output) = (values.f_get(kv_head as i64)?, output.f_get(head as i64)?);
            // The map over the vocabulary has the eigenvalues of this small one, and zeros.
            let map = output.f_matmul(&across)?.f_matmul(&values)?;
            let eigenvalues = map.f_linalg_eigvals()?;
            let sum = answer::numbers(&eigenvalues.f_real()?.f_sum(Kind::Double)?)?[0];
            let size = answer::numbers(&eigenvalues.f_abs()?.f_sum(Kind::Double)?)?[0];
            let trace = answer::numbers(&map.f_trace()?)?[0];
            // A head that writes nothing copies nothing.
            scores.push(if size > 0.0 { sum / size } else { 0.0 });
            gap = gap.max(if size > 0.0 { (sum - trace).abs() / size } else { 0.0 });
        }
    }
    Ok((scores, gap))
}

register_tools!(PrefixCopying);

#[cfg(feature = "plugin")]
arrakis_core::export_plugin!();

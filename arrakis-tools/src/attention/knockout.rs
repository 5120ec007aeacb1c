//! What is lost when queries may not attend to keys.

use arrakis_core::{
    Answer, Axis, Context, Error, Grid, HookPoint, Metric, Model, ModelExt, PosSlice, Prompt, Result, Series, Site,
    Stack, Tokens, Tool, edit, register_tools,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use super::rerun::Rerun;
use crate::{gap, index, lags, measured, reduce};

/// Measures what is lost when some positions may not attend to others.
///
/// The scores from every query in `queries` to every key in `keys` are set to minus infinity, in the chosen heads of the
/// chosen layers: in all of them at once (`after`), in a window of layers around each (`layers`), and one head at a time
/// (`heads`). The rest of a query's attention is renormalised. Where scores compare queries and keys of earlier positions
/// too, a token whose position may not be attended to still has its part in the scores of the positions after it.
/// Identities: rows of the changed patterns sum to 1 (`row_gap`), and in the first chosen layer they are the rows as they
/// were, without the edges, divided by their sum (`renormalised_gap`).
/// Source: Geva et al., "Dissecting recall of factual associations in auto-regressive language models" (2023).
///
/// ```
/// # use arrakis_core::{Context, Metric, Prompt, Tool};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/golden/gpt2");
/// # let model = arrakis_models::load(folder, &arrakis_models::LoadOptions::default())?;
/// let asked = arrakis_tools::AttentionKnockout::new(Prompt::Ids(vec![9, 3, 17]), Metric::Logit(5.into()), vec![0]);
/// let found = asked.run(&Context::new(&model))?;
/// println!("from {} to {}", found.before, found.after);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AttentionKnockout {
    /// What to read.
    pub prompt: Prompt,
    /// What is measured, as a mean over the rows.
    pub metric: Metric,
    /// Positions that may not be attended to.
    pub keys: Vec<i64>,
    /// Positions that may not attend to them; each row's last one if absent, which a loss does not see.
    #[serde(default)]
    pub queries: Option<Vec<i64>>,
    /// Layers with the edges knocked out; all of them if absent.
    #[serde(default)]
    pub layers: Option<Vec<usize>>,
    /// Heads with the edges knocked out, in each layer; all of them if absent.
    #[serde(default)]
    pub heads: Option<Vec<usize>>,
    /// How many layers the window holds in which all chosen heads lose the edges, for the sweep by layer.
    #[serde(default = "one")]
    pub window: usize,
}

const fn one() -> usize {
    1
}

impl AttentionKnockout {
    /// The last position may not attend to `keys`, in any head of any layer.
    pub fn new(prompt: impl Into<Prompt>, metric: Metric, keys: Vec<i64>) -> Self {
        Self { prompt: prompt.into(), metric, keys, queries: None, layers: None, heads: None, window: one() }
    }
}

/// The metric without some edges of attention.
#[derive(Debug, Clone)]
pub struct Knockout {
    /// The metric with every edge.
    pub before: f64,
    /// The metric without the edges in every chosen head.
    pub after: f64,
    /// The change of the metric without the edges of one head: `[layer, head]`.
    pub heads: Grid,
    /// The change of the metric without the edges in the chosen heads of a window of layers around each.
    pub layers: Series,
    /// Attention on the edges before, a mean over rows and queries: `[layer, head]`.
    pub attention: Grid,
    /// The logits of each row's last token without the edges in every chosen head: `[row, token]`.
    pub logits: Stack,
    /// Greatest absolute difference of a changed pattern row's sum from 1.
    pub row_gap: f64,
    /// Greatest absolute difference of the first changed patterns from the old ones renormalised.
    pub renormalised_gap: f64,
}

impl From<Knockout> for Answer {
    fn from(found: Knockout) -> Self {
        Self::new()
            .with("before", found.before)
            .with("after", found.after)
            .with("layers", found.layers)
            .with("heads", found.heads)
            .with("attention", found.attention)
            .with("logits", found.logits)
            .with("row_gap", found.row_gap)
            .with("renormalised_gap", found.renormalised_gap)
    }
}

impl Tool for AttentionKnockout {
    const NAME: &'static str = "attention.knockout";
    type Output = Knockout;

    fn run(&self, cx: &Context<'_>) -> Result<Knockout> {
        let model = cx.model();
        let dims = model.dims();
        let layers = index::chosen("layer", self.layers.as_deref(), dims.n_layers)?;
        let heads = index::chosen("head", self.heads.as_deref(), dims.n_heads)?;
        lags::shares(model, &layers)?;
        if self.window == 0 {
            return Err(Error::Invalid { what: "window 0".into(), why: "give one layer at least".into() });
        }
        if self.queries.is_none() && self.metric == Metric::Loss {
            let why = "nothing follows the last position, so the loss does not see what it attends to; name others";
            return Err(Error::Invalid { what: "queries".into(), why: why.into() });
        }
        let tokens = self.prompt.tokens(model)?;
        let edges = self.edges(&tokens)?.f_to_device(model.device())?;
        let chosen = one_hot(&heads, dims.n_heads)?.f_any_dim(0, false)?.f_to_device(model.device())?;
        // `[row, head, query, key]`
        let cut = edges.f_unsqueeze(1)?.f_logical_and(&chosen.f_view([1, -1, 1, 1])?)?;
        let places: Vec<i64> = heads.iter().map(|head| *head as i64).collect();
        let places = Tensor::f_from_slice(&places)?.f_to_device(model.device())?;
        let queries = edges.f_any_dim(-1, false)?.f_sum(Kind::Double)?.f_double_value(&[])?;

        let points: Vec<HookPoint> = layers.iter().map(|layer| Site::PATTERN.at(*layer)).collect();
        let first = points.iter().copied().min_by_key(|point| point.layer);
        let expected = std::cell::RefCell::new(None);
        let (_, carried) = reduce::reduce(model, &tokens, PosSlice::None, &points, |point, pattern| {
            let pattern = pattern.f_to_kind(Kind::Double)?;
            let left = pattern.f_masked_fill(&cut, 0.0)?;
            let sums = left.f_sum_dim_intlist(-1, true, Kind::Double)?;
            if sums.f_min()?.f_double_value(&[])? <= 0.0 {
                let why = "a query would have nothing left to attend to; leave it at least one key that it attends to";
                return Err(Error::Invalid { what: format!("keys, at `{point}`"), why: why.into() });
            }
            if Some(point) == first {
                *expected.borrow_mut() = Some(left.f_div(&sums)?);
            }
            let edges = pattern.f_sub(&left)?.f_sum_dim_intlist(&[0_i64, 2, 3][..], false, Kind::Double)?;
            Ok(edges.f_index_select(0, &places)?.f_div_scalar(queries)?)
        })?;
        let carried = points.iter().map(|point| carried.get(*point)).collect::<Result<Vec<_>>>()?;

        let rerun = Rerun::of(cx, &tokens, &self.metric, &layers)?;
        let mut values = Vec::with_capacity(layers.len() * heads.len());
        for (step, layer) in layers.iter().enumerate() {
            cx.progress(step as u64, layers.len() as u64)?;
            let after = rerun.changed(cx, Site::ATTN_SCORES.at(*layer), *layer, heads.len(), |numbers, scores| {
                let heads: Vec<usize> = numbers.iter().map(|number| heads[*number]).collect();
                let own = one_hot(&heads, dims.n_heads)?.f_to_device(scores.device())?;
                let own = own.f_unsqueeze(1)?.f_unsqueeze(-1)?.f_unsqueeze(-1)?;
                let cut = cut.f_unsqueeze(0)?.f_logical_and(&own)?;
                Ok(scores.f_masked_fill(&cut, f64::NEG_INFINITY)?)
            })?;
            values.extend(after.into_iter().map(|after| after - rerun.before));
        }
        let mut by_layer = Vec::with_capacity(layers.len());
        for layer in &layers {
            // As many before the layer as after it, the odd one after.
            let from = layer.saturating_sub((self.window - 1) / 2);
            let near: Vec<usize> =
                layers.iter().copied().filter(|near| (from..=layer + self.window / 2).contains(near)).collect();
            let after = rerun.changed_in(cx, Site::ATTN_SCORES, &near, |scores| {
                Ok(scores.f_masked_fill(&cut, f64::NEG_INFINITY)?)
            })?;
            by_layer.push(after - rerun.before);
        }
        let whole = self.whole(cx, &tokens, &layers, &cut, expected.into_inner().as_ref())?;

        let (rows, columns) = (Axis::new("layer", index::labels(&layers)), Axis::new("head", index::labels(&heads)));
        let change = format!("change of {}", self.metric.label());
        let lines = [(format!("window of {}", self.window), by_layer)];
        let layers = Series::new("edges knocked out around a layer", change.clone(), rows.clone(), lines)?;
        let heads = Grid::new("edges knocked out in one head", change, rows.clone(), columns.clone(), values)?;
        let carried = Tensor::f_stack(&carried, 0)?;
        let attention = Grid::from_tensor("attention on the edges", "attention", rows, columns, &carried)?;
        let Whole { after, logits, row_gap, renormalised_gap } = whole;
        let heads = heads.diverging();
        Ok(Knockout { before: rerun.before, after, heads, layers, attention, logits, row_gap, renormalised_gap })
    }

    fn measured(&self, model: &dyn Model) -> Result<Option<String>> {
        self.metric.described(model).map(Some)
    }
}

impl AttentionKnockout {
    /// The edges: `[row, query, key]`, booleans.
    fn edges(&self, tokens: &Tokens) -> Result<Tensor> {
        let last = vec![-1];
        let queries = self.queries.as_ref().unwrap_or(&last);
        if self.keys.is_empty() || queries.is_empty() {
            let why = "the list is empty; give one position at least".into();
            return Err(Error::Invalid { what: if queries.is_empty() { "queries" } else { "keys" }.into(), why });
        }
        let len = tokens.positions();
        let mut cells = vec![false; tokens.batch() * len * len];
        for row in 0..tokens.batch() {
            let own = tokens.row(row)?.len();
            for query in queries {
                let query = index::position(*query, own)? as usize;
                for key in &self.keys {
                    let key = index::position(*key, own)? as usize;
                    if key > query {
                        let why = format!("position {query} does not see it; give keys up to each query");
                        return Err(Error::Invalid { what: format!("key {key} in row {row}"), why });
                    }
                    cells[(row * len + query) * len + key] = true;
                }
            }
        }
        Ok(Tensor::f_from_slice(&cells)?.f_view([tokens.batch() as i64, len as i64, len as i64])?)
    }

    /// The run without the edges in every chosen head; the first changed patterns should be the `expected` ones.
    fn whole(
        &self,
        cx: &Context<'_>,
        tokens: &Tokens,
        layers: &[usize],
        cut: &Tensor,
        expected: Option<&Tensor>,
    ) -> Result<Whole> {
        let measure = self.metric.prepare(cx.model(), tokens)?;
        let gaps = std::cell::Cell::new((0.0, None));
        let look = |pattern: &Tensor| {
            let pattern = pattern.f_to_kind(Kind::Double)?;
            let sums = pattern.f_sum_dim_intlist(-1, false, Kind::Double)?;
            let (rows, first) = gaps.get();
            let first = match (first, expected) {
                (None, Some(expected)) => gap::gap(&pattern, expected)?,
                (first, _) => first.unwrap_or(f64::NAN),
            };
            gaps.set((gap::worse(rows, gap::gap(&sums, &sums.f_ones_like()?)?), Some(first)));
            Ok(())
        };
        let mut trace = cx.model().trace(tokens).logits(measure.wanted());
        for layer in layers {
            let block = edit::with(|scores| Ok(scores.f_masked_fill(cut, f64::NEG_INFINITY)?));
            let seen = edit::with(|pattern: &Tensor| look(pattern).map(|()| pattern.shallow_clone()));
            trace = trace.edit(Site::ATTN_SCORES.at(*layer), block).edit(Site::PATTERN.at(*layer), seen);
        }
        let run = trace.run()?;
        let logits = run.logits()?;
        let after = measured::mean(&measure, logits)?;
        let last = match measure.wanted() {
            PosSlice::All => PosSlice::Last.of(logits, 1, tokens.mask())?.f_select(1, 0)?,
            _ => logits.f_select(1, -1)?,
        };
        let axes = vec![Axis::indices("row", tokens.batch()), Axis::indices("token", cx.model().dims().vocab)];
        let (row_gap, renormalised_gap) = gaps.get();
        let logits = Stack::new("logits without the edges", "logit", axes, last)?;
        Ok(Whole { after, logits, row_gap, renormalised_gap: renormalised_gap.unwrap_or(f64::NAN) })
    }
}

/// The run without the edges in every chosen head.
struct Whole {
    after: f64,
    logits: Stack,
    row_gap: f64,
    renormalised_gap: f64,
}

/// For each of `heads`, a row that is true at its place: `[len, head]`.
fn one_hot(heads: &[usize], count: usize) -> Result<Tensor> {
    let cells: Vec<bool> = heads.iter().flat_map(|head| (0..count).map(move |place| place == *head)).collect();
    Ok(Tensor::f_from_slice(&cells)?.f_view([heads.len() as i64, count as i64])?)
}

register_tools!(AttentionKnockout);

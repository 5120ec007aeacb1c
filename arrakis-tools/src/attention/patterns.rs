//! Questions about where heads look.

use arrakis_core::{
    Answer, Axis, Context, Error, Grid, HookPoint, Model, PosSlice, Prompt, Ranking, Result, Site, Stack, Tokens, Tool,
    answer, register_tools,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use crate::{gap, index, reduce};

/// Shows which positions each head attends to.
///
/// The pattern of a head is the softmax of its scores: each row says how a query spreads its attention over the keys
/// up to itself. Where a pattern is made without scores, by the kernels of an involution, it is their weights: they may
/// be negative, and their sum is anything.
/// Identity: every row sums to 1, or to what its kernel sums to up to the first position, and `row_gap` is the greatest
/// absolute difference from it.
/// Source: Vaswani et al., "Attention is all you need" (2017), section 3.2.
///
/// ```
/// # use arrakis_core::{Context, Tool, Prompt};
/// # use arrakis_tools::AttentionPatterns;
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/golden/llama");
/// let model = arrakis_models::load(folder, &arrakis_models::LoadOptions::default())?;
/// let found = AttentionPatterns::new(Prompt::Ids(vec![9, 3, 17])).run(&Context::new(&model))?;
/// assert!(found.rows[0].row_gap < 1e-5);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AttentionPatterns {
    /// What to read.
    pub prompt: Prompt,
    /// Layers to show; all of them if absent.
    #[serde(default)]
    pub layers: Option<Vec<usize>>,
    /// Heads to show in each layer; all of them if absent.
    #[serde(default)]
    pub heads: Option<Vec<usize>>,
    /// Position of the query whose most attended tokens are listed; the last one if absent.
    #[serde(default)]
    pub position: Option<i64>,
    /// How many of the most attended tokens are listed for each head.
    #[serde(default = "three")]
    pub top: usize,
}

const fn three() -> usize {
    3
}

impl AttentionPatterns {
    /// The patterns of every head over `prompt`, with the defaults of everything else.
    pub fn new(prompt: impl Into<Prompt>) -> Self {
        Self { prompt: prompt.into(), layers: None, heads: None, position: None, top: three() }
    }
}

/// Attention patterns, row by row.
#[derive(Debug, Clone)]
pub struct Patterns {
    /// The patterns over each row of the prompt.
    pub rows: Vec<RowPatterns>,
}

/// The attention patterns over one row.
#[derive(Debug, Clone)]
pub struct RowPatterns {
    /// Attention from each query to each key: `[layer, head, query, key]`.
    pub patterns: Stack,
    /// The most attended tokens of the chosen query, with their text: `[head, rank]`.
    pub attended: Grid,
    /// Mean attention that each key gets from the queries that see it: `[head, key]`.
    pub received: Grid,
    /// The strongest single connections of the chosen query.
    pub strongest: Ranking,
    /// Greatest absolute difference of a row's sum from 1, or from the kernel's.
    pub row_gap: f64,
}

impl From<Patterns> for Answer {
    fn from(patterns: Patterns) -> Self {
        let count = patterns.rows.len();
        patterns.rows.into_iter().enumerate().fold(Self::new(), |answer, (row, patterns)| {
            let name = |name: &str| index::row_part(row, count, name);
            answer
                .with(name("patterns"), patterns.patterns)
                .with(name("attended"), patterns.attended)
                .with(name("strongest"), patterns.strongest)
                .with(name("received"), patterns.received)
                .with(name("row_gap"), patterns.row_gap)
        })
    }
}

impl Tool for AttentionPatterns {
    const NAME: &'static str = "attention.patterns";
    type Output = Patterns;

    fn run(&self, cx: &Context<'_>) -> Result<Patterns> {
        let dims = cx.model().dims();
        let layers = index::chosen("layer", self.layers.as_deref(), dims.n_layers)?;
        let heads = index::chosen("head", self.heads.as_deref(), dims.n_heads)?;
        let tokens = self.prompt.tokens(cx.model())?;
        let rows = (0..tokens.batch()).map(|row| {
            cx.progress(row as u64, tokens.batch() as u64)?;
            self.row(cx, &tokens.row(row)?, &layers, &heads)
        });
        Ok(Patterns { rows: rows.collect::<Result<_>>()? })
    }
}

impl AttentionPatterns {
    fn row(&self, cx: &Context<'_>, ids: &[i64], layers: &[usize], heads: &[usize]) -> Result<RowPatterns> {
        let model = cx.model();
        let query = index::position(self.position.unwrap_or(-1), ids.len())?;
        let top = index::count("top", self.top.min(query as usize + 1), ids.len())?;
        let bytes = layers.len() * heads.len() * ids.len() * ids.len() * model.kind().elt_size_in_bytes();
        if let Some(limit) = cx.memory_limit().filter(|limit| bytes as u64 > *limit) {
            let why = format!("{bytes} bytes where {limit} are allowed; choose fewer `layers` or `heads`");
            return Err(Error::Invalid { what: "the patterns".into(), why });
        }
        let chosen: Vec<i64> = heads.iter().map(|head| *head as i64).collect();
        let chosen = Tensor::f_from_slice(&chosen)?.f_to_device(model.device())?;
        let points: Vec<HookPoint> = layers.iter().map(|layer| Site::PATTERN.at(*layer)).collect();
        let kernels = points.iter().filter_map(|point| kernel(model, point.layer?));
        let seen: Vec<HookPoint> = points.iter().copied().chain(kernels).collect();
        let (_, kept) = reduce::reduce(model, &Tokens::from_ids(ids)?, PosSlice::None, &seen, |point, value| {
            let value = value.f_select(0, 0)?;
            if point.site == Site::KERNEL {
                kernel_sums(&value, &chosen)
            } else {
                Ok(value.f_index_select(0, &chosen)?)
            }
        })?;
        let patterns = points.iter().map(|point| kept.get(*point)).collect::<Result<Vec<_>>>()?;
        let patterns = Tensor::f_stack(&patterns, 0)?;

        let sums = patterns.f_sum_dim_intlist(-1, false, Kind::Double)?;
        let expected =
            points.iter().zip(0..).map(|(point, place)| match point.layer.and_then(|layer| kernel(model, layer)) {
                Some(kernel) => Ok(kept.get(kernel)?.shallow_clone()),
                None => Ok(sums.f_get(place)?.f_ones_like()?),
            });
        let row_gap = gap::gap(&sums, &Tensor::f_stack(&expected.collect::<Result<Vec<Tensor>>>()?, 0)?)?;
        let texts: Vec<String> = ids.iter().map(|id| model.token(*id)).collect();
        let names: Vec<String> =
            layers.iter().flat_map(|layer| heads.iter().map(|head| index::head_label(*layer, *head))).collect();
        let names = Axis::new("head", names);
        let flat = patterns.f_flatten(0, 1)?;

        let (weights, keys) = flat.f_select(1, query)?.f_topk(top as i64, -1, true, true)?;
        let keys: Vec<i64> = Vec::try_from(keys.f_to_device(tch::Device::Cpu)?.f_contiguous()?.f_reshape([-1])?)?;
        let cells: Vec<String> = keys.iter().map(|key| texts[*key as usize].clone()).collect();
        let connections = keys.iter().zip(answer::numbers(&weights)?).enumerate().map(|(place, (key, weight))| {
            let head = &names.labels[place / top];
            (format!("{head}: {:?} at {key}", texts[*key as usize]), weight)
        });
        let strongest = Ranking::new(format!("attended from position {query}"), "attention", connections);
        let ranks = Axis::new("rank", (1..=top).map(|rank| rank.to_string()));
        let title = format!("most attended from position {query}");
        let attended = Grid::from_tensor(title, "attention", names.clone(), ranks, &weights)?.with_cells(cells)?;

        let len = ids.len() as i64;
        let seen_by = Tensor::f_arange(len, (Kind::Double, flat.device()))?.f_neg()?.f_add_scalar(len)?;
        let received = flat.f_sum_dim_intlist(1, false, Kind::Double)?.f_div(&seen_by)?;
        let keys = Axis::new("key", texts.clone());
        let received = Grid::from_tensor("mean attention received", "attention", names, keys.clone(), &received)?;
        let axes = vec![
            Axis::new("layer", index::labels(layers)),
            Axis::new("head", index::labels(heads)),
            Axis::new("query", texts),
            keys,
        ];
        Ok(RowPatterns {
            patterns: Stack::new("attention patterns", "attention", axes, patterns)?,
            attended,
            received,
            strongest: strongest.sorted().top(STRONGEST),
            row_gap,
        })
    }
}

/// Where a layer shows the kernels that its pattern is made of, if it is.
fn kernel(model: &dyn Model, layer: usize) -> Option<HookPoint> {
    let point = Site::KERNEL.at(layer);
    model.points().contains(&point).then_some(point)
}

/// What kernels (`[pos, head, kernel]`, the present position first) sum to over the positions there are: `[head, pos]`.
fn kernel_sums(kernels: &Tensor, heads: &Tensor) -> Result<Tensor> {
    let (pos, span) = (kernels.size()[0], kernels.size()[2]);
    let sums = kernels.f_to_kind(Kind::Double)?.f_cumsum(2, Kind::Double)?.f_index_select(1, heads)?;
    let last = Tensor::f_arange(pos, (Kind::Int64, kernels.device()))?.f_clamp_max(span - 1)?;
    let last = last.f_view([pos, 1, 1])?.f_expand([pos, sums.size()[1], 1], false)?;
    Ok(sums.f_gather(2, &last, false)?.f_squeeze_dim(2)?.f_transpose(0, 1)?)
}

/// How many of the strongest connections are listed.
const STRONGEST: usize = 10;

register_tools!(AttentionPatterns);

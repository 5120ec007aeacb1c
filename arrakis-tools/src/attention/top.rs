//! Which tokens each head attends to most, from every query.

use arrakis_core::{
    Answer, Axis, Context, Error, Grid, HookPoint, PosSlice, Prompt, Result, Site, Stack, Tokens, Tool, answer,
    register_tools,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor};

use crate::{gap, index, lags, reduce};

/// Lists the tokens that each head attends to most from each query.
///
/// For a head and a query, the keys are sorted by the attention that they get; the first `top` are listed with their
/// positions, and `rest` is what goes to all others. Patterns made without scores are refused. Identity: what is listed and
/// the rest sum to 1, and `rest_gap` is the greatest absolute difference from it.
/// Source: Clark et al., "What does BERT look at? An analysis of BERT's attention" (2019).
///
/// ```
/// # use arrakis_core::{Context, Prompt, Tool};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/golden/gpt2");
/// # let model = arrakis_models::load(folder, &arrakis_models::LoadOptions::default())?;
/// let top = arrakis_tools::AttentionTop::new(Prompt::Ids(vec![9, 3, 17])).run(&Context::new(&model))?;
/// let most = &top.rows[0].attended;
/// println!("{} {} attends to {}", most.rows.labels[0], most.columns.labels[2], most.cells.as_ref().unwrap()[2]);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AttentionTop {
    /// What to read.
    pub prompt: Prompt,
    /// Layers to list; all of them if absent.
    #[serde(default)]
    pub layers: Option<Vec<usize>>,
    /// Heads to list in each layer; all of them if absent.
    #[serde(default)]
    pub heads: Option<Vec<usize>>,
    /// Positions of the queries; all of them if absent.
    #[serde(default)]
    pub positions: Option<Vec<i64>>,
    /// How many keys are listed for each query.
    #[serde(default = "three")]
    pub top: usize,
}

const fn three() -> usize {
    3
}

impl AttentionTop {
    /// The keys that every head attends to most over `prompt`, with the defaults of everything else.
    pub fn new(prompt: impl Into<Prompt>) -> Self {
        Self { prompt: prompt.into(), layers: None, heads: None, positions: None, top: three() }
    }
}

/// The most attended tokens, row by row.
#[derive(Debug, Clone)]
pub struct TopAttended {
    /// Those of each row of the prompt.
    pub rows: Vec<RowTop>,
}

/// The most attended tokens in one row.
#[derive(Debug, Clone)]
pub struct RowTop {
    /// Attention to the most attended key, with its token: `[head, query]`.
    pub attended: Grid,
    /// Attention to the listed keys, greatest first: `[layer, head, query, rank]`.
    pub attention: Stack,
    /// Their positions, whole numbers; -1 where nothing more is attended to: `[layer, head, query, rank]`.
    pub keys: Stack,
    /// Attention to the keys that are not listed: `[head, query]`.
    pub rest: Grid,
    /// Greatest absolute difference of the listed attention and the rest from 1.
    pub rest_gap: f64,
}

impl From<TopAttended> for Answer {
    fn from(found: TopAttended) -> Self {
        let count = found.rows.len();
        found.rows.into_iter().enumerate().fold(Self::new(), |answer, (row, found)| {
            let name = |name: &str| index::row_part(row, count, name);
            answer
                .with(name("attended"), found.attended)
                .with(name("attention"), found.attention)
                .with(name("keys"), found.keys)
                .with(name("rest"), found.rest)
                .with(name("rest_gap"), found.rest_gap)
        })
    }
}

impl Tool for AttentionTop {
    const NAME: &'static str = "attention.top";
    type Output = TopAttended;

    fn run(&self, cx: &Context<'_>) -> Result<TopAttended> {
        let dims = cx.model().dims();
        let layers = index::chosen("layer", self.layers.as_deref(), dims.n_layers)?;
        let heads = index::chosen("head", self.heads.as_deref(), dims.n_heads)?;
        lags::shares(cx.model(), &layers)?;
        let tokens = self.prompt.tokens(cx.model())?;
        let rows = (0..tokens.batch()).map(|row| {
            cx.progress(row as u64, tokens.batch() as u64)?;
            self.row(cx, &tokens.row(row)?, &layers, &heads)
        });
        Ok(TopAttended { rows: rows.collect::<Result<_>>()? })
    }
}

impl AttentionTop {
    fn row(&self, cx: &Context<'_>, ids: &[i64], layers: &[usize], heads: &[usize]) -> Result<RowTop> {
        let model = cx.model();
        let queries: Vec<i64> = match &self.positions {
            None => (0..ids.len() as i64).collect(),
            Some(list) if list.is_empty() => {
                let why = "the list is empty; leave it out for all".into();
                return Err(Error::Invalid { what: "positions".into(), why });
            }
            Some(list) => list.iter().map(|place| index::position(*place, ids.len())).collect::<Result<_>>()?,
        };
        let top = index::count("top", self.top.min(ids.len()), ids.len())? as i64;
        // Attention and keys are kept in double.
        let bytes = (8 * layers.len() * heads.len() * queries.len() * (2 * top as usize + 1)) as u64;
        if let Some(limit) = cx.memory_limit().filter(|limit| bytes > *limit) {
            let why = format!("{bytes} bytes where {limit} are allowed; choose fewer `layers`, `heads` or `positions`");
            return Err(Error::Invalid { what: "the most attended tokens".into(), why });
        }
        let device = model.device();
        let chosen: Vec<i64> = heads.iter().map(|head| *head as i64).collect();
        let chosen = Tensor::f_from_slice(&chosen)?.f_to_device(device)?;
        let at = Tensor::f_from_slice(&queries)?.f_to_device(device)?;
        let points: Vec<HookPoint> = layers.iter().map(|layer| Site::PATTERN.at(*layer)).collect();
        // Of each pattern: attention to the listed keys, their positions, and the rest, one beside the other.
        let (_, kept) = reduce::reduce(model, &Tokens::from_ids(ids)?, PosSlice::None, &points, |_, pattern| {
            let pattern = pattern.f_select(0, 0)?.f_index_select(0, &chosen)?.f_index_select(1, &at)?;
            let (weights, keys) = pattern.f_to_kind(Kind::Double)?.f_sort(-1, true)?;
            let (listed, len) = (weights.f_narrow(-1, 0, top)?, weights.size()[2]);
            let rest = weights.f_narrow(-1, top, len - top)?.f_sum_dim_intlist(-1, true, Kind::Double)?;
            let keys = keys.f_narrow(-1, 0, top)?.f_to_kind(Kind::Double)?;
            let keys = keys.f_masked_fill(&listed.f_eq(0.0)?, -1.0)?;
            Ok(Tensor::f_cat(&[listed, keys, rest], -1)?)
        })?;
        let kept = points.iter().map(|point| kept.get(*point)).collect::<Result<Vec<_>>>()?;
        let kept = Tensor::f_stack(&kept, 0)?.f_to_device(Device::Cpu)?;
        let (weights, keys) = (kept.f_narrow(-1, 0, top)?, kept.f_narrow(-1, top, top)?);
        let rest = kept.f_select(-1, 2 * top)?;
        let sums = weights.f_sum_dim_intlist(-1, false, Kind::Double)?.f_add(&rest)?;

        let text = |place: i64| model.token(ids[place as usize]);
        let names: Vec<String> =
            layers.iter().flat_map(|layer| heads.iter().map(|head| index::head_label(*layer, *head))).collect();
        let names = Axis::new("head", names);
        let queries = Axis::new("query", queries.iter().map(|query| text(*query)));
        let first: Vec<f64> = answer::numbers(&keys.f_select(-1, 0)?)?;
        let flat = |values: &Tensor| values.f_flatten(0, 1);
        let most = flat(&weights.f_select(-1, 0)?)?;
        let attended = Grid::from_tensor("most attended token", "attention", names.clone(), queries.clone(), &most)?
            .with_cells(first.iter().map(|key| text(*key as i64)).collect())?;
        let rest_title = "attention to all other tokens";
        let axes = vec![
            Axis::new("layer", index::labels(layers)),
            Axis::new("head", index::labels(heads)),
            queries.clone(),
            Axis::new("rank", (1..=top).map(|rank| rank.to_string())),
        ];
        Ok(RowTop {
            attended,
            attention: Stack::new("most attended tokens", "attention", axes.clone(), weights.f_contiguous()?)?,
            keys: Stack::new("most attended tokens", "position", axes, keys.f_to_kind(Kind::Int64)?)?,
            rest: Grid::from_tensor(rest_title, "attention", names, queries, &flat(&rest)?)?,
            rest_gap: gap::gap(&sums, &sums.f_ones_like()?)?,
        })
    }
}

register_tools!(AttentionTop);

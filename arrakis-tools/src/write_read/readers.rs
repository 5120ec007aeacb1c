//! Who reads a direction.

use arrakis_core::{
    Answer, Axis, Context, Grid, HookPoint, PosSlice, Prompt, Ranking, Result, Series, Site, Tokens, Tool, Weight,
    answer, register_tools,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use super::maps::{self, Gain};
use super::places::Places;
use crate::{Direction, gap, index, lags, reduce};

/// Finds the heads and MLPs that read a direction of the residual stream, by their weights and in a text.
///
/// The gain is the length of the direction through `W_Q`, `W_K`, `W_V`, `W_in` or `W_gate`, the norm's weight folded in,
/// over its root mean square over all directions: 1 is chance, the greatest is the root of `d_model`. In a text, the
/// share is what the stream's part along the direction brings of a head's query, key or value at a position, projected
/// on the whole of it (without biases): 1 if it is all of it, and the rest of the stream brings what is missing to 1.
/// Queries and keys are those of their own position, before they are rotated or made to lag.
/// Keys and values are those of key-value heads, which a group of heads shares. Identities: the squares along and across
/// the direction sum to the whole (`weight_gap`, as a share of it), and the reading with its biases is the model's
/// query, key and value (`read_gap`).
/// Source: Elhage et al., "A mathematical framework for transformer circuits" (2021).
///
/// ```
/// # use arrakis_core::{Context, Tool};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/golden/llama");
/// # let model = arrakis_models::load(folder, &arrakis_models::LoadOptions::default())?;
/// use arrakis_tools::{Direction, WriteReadReaders};
/// let asked = WriteReadReaders::new(Direction::Token(4.into()));
/// println!("{:?}", asked.run(&Context::new(&model))?.strongest.entries[0]);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WriteReadReaders {
    /// The direction.
    pub direction: Direction,
    /// What to read; if absent, weights alone are asked.
    #[serde(default)]
    pub prompt: Option<Prompt>,
    /// Position where the reading is looked at; each row's last one if absent.
    #[serde(default)]
    pub position: Option<i64>,
    /// How many readers are ranked.
    #[serde(default = "ten")]
    pub top: usize,
}

const fn ten() -> usize {
    10
}

impl WriteReadReaders {
    /// Who reads `direction`, by weights.
    #[must_use]
    pub fn new(direction: Direction) -> Self {
        Self { direction, prompt: None, position: None, top: ten() }
    }
}

/// Who reads a direction.
#[derive(Debug, Clone)]
pub struct Readers {
    /// The gain of queries, keys and values: `[layer, head]`, `[layer, kv_head]` twice.
    pub gains: [Grid; 3],
    /// The gain of the MLPs' `W_in`, and `W_gate` where there is one.
    pub mlp_gain: Series,
    /// The heads' inputs with the greatest gain.
    pub strongest: Ranking,
    /// The share of queries, keys and values in the text, means over the rows, and the residual of its identity.
    pub shares: Option<([Grid; 3], f64)>,
    /// Greatest difference of the squares along and across the direction from the whole, as a share of it.
    pub weight_gap: f64,
}

impl From<Readers> for Answer {
    fn from(found: Readers) -> Self {
        let named = |answer: Self, prefix: &str, grids: [Grid; 3]| {
            let names = ["query", "key", "value"].into_iter().zip(grids);
            names.fold(answer, |answer, (name, grid)| answer.with(format!("{name}_{prefix}"), grid))
        };
        let answer = Self::new().with("strongest", found.strongest);
        let mut answer = named(answer, "gain", found.gains).with("mlp_gain", found.mlp_gain);
        if let Some((shares, read_gap)) = found.shares {
            answer = named(answer, "share", shares).with("read_gap", read_gap);
        }
        answer.with("weight_gap", found.weight_gap)
    }
}

/// What heads read by: the input's name, its weight, its bias, the point where it is met.
const INPUTS: [(&str, Weight, Weight, Site); 3] = [
    ("query", Weight::Q, Weight::Q_B, Site::Q),
    ("key", Weight::K, Weight::K_B, Site::K),
    ("value", Weight::V, Weight::V_B, Site::V),
];

impl Tool for WriteReadReaders {
    const NAME: &'static str = "write_read.readers";
    type Output = Readers;

    fn run(&self, cx: &Context<'_>) -> Result<Readers> {
        let model = cx.model();
        let dims = model.dims();
        let top =
            index::count("top", self.top.min(3 * dims.n_layers * dims.n_heads), 3 * dims.n_layers * dims.n_heads)?;
        let direction = self.direction.unit(model)?;
        let tokens = self.prompt.as_ref().map(|prompt| prompt.tokens(model)).transpose()?;
        let places = tokens.as_ref().map(|tokens| Places::of(model, tokens, self.position)).transpose()?;

        let (mut gains, mut weight_gap, mut entries) = ([const { Vec::new() }; 3], 0.0, Vec::new());
        let mut lines: [(&str, Weight, Vec<f64>); 2] =
            [("W_in", Weight::IN, Vec::new()), ("W_gate", Weight::GATE, Vec::new())];
        for layer in 0..dims.n_layers {
            cx.progress(layer as u64, dims.n_layers as u64)?;
            lags::check(model, layer)?;
            for (input, (name, weight, ..)) in INPUTS.into_iter().enumerate() {
                let gain = Gain::reading(&maps::heads_read(model, weight, layer)?, &direction)?;
                weight_gap = gap::worse(weight_gap, gain.gap);
                let values = answer::numbers(&gain.values)?;
                let label = |head: usize| match name {
                    "query" => format!("{} query", index::head_label(layer, head)),
                    _ if dims.n_heads == dims.n_kv_heads => format!("{} {name}", index::head_label(layer, head)),
                    _ => format!("L{layer} kv_head {head} {name}"),
                };
                entries.extend(values.iter().enumerate().map(|(head, gain)| (label(head), *gain)));
                gains[input].extend(values);
            }
            for (_, weight, line) in &mut lines {
                if model.weights().contains(&weight.at(layer)) {
                    let gain = Gain::reading(&maps::neurons_read(model, *weight, layer)?, &direction)?;
                    weight_gap = gap::worse(weight_gap, gain.gap);
                    line.extend(answer::numbers(&gain.values)?);
                }
            }
        }
        let shares = match (&tokens, &places) {
            (Some(tokens), Some(places)) => Some(shares(cx, tokens, places, &direction)?),
            _ => None,
        };
        let gain = "gain over the root mean square";
        let lines = lines.into_iter().filter(|(_, _, line)| !line.is_empty()).map(|(name, _, line)| (name, line));
        Ok(Readers {
            gains: grids(cx, "gain", gain, gains)?,
            mlp_gain: Series::new("gain of MLPs", gain, Axis::indices("layer", dims.n_layers), lines)?,
            strongest: Ranking::new("strongest readers", gain, entries).sorted().top(top),
            shares,
            weight_gap,
        })
    }
}

/// The shares of queries, keys and values that a direction brings, and how far the whole reading is from the model's.
fn shares(cx: &Context<'_>, tokens: &Tokens, places: &Places, direction: &Tensor) -> Result<([Grid; 3], f64)> {
    let model = cx.model();
    let sites = [Site::RESID_PRE, Site::LN1_SCALE, Site::Q, Site::K, Site::V];
    let layers = 0..model.dims().n_layers;
    let points: Vec<HookPoint> = layers.clone().flat_map(|layer| sites.map(|site| site.at(layer))).collect();
    let (_, kept) = reduce::reduce(model, tokens, PosSlice::None, &points, |_, value| places.pick(value))?;
    let (mut values, mut read_gap) = ([const { Vec::new() }; 3], 0.0);
    for layer in layers {
        cx.cancelled()?;
        let (stream, scale) = (kept.get(Site::RESID_PRE.at(layer))?, kept.get(Site::LN1_SCALE.at(layer))?);
        let along = stream.f_matmul(direction)?.f_unsqueeze(-1)?.f_mul(direction)?.f_div(scale)?;
        let norm_bias = model.weight_if_any(Weight::LN1_B.at(layer))?;
        for (input, (_, weight, bias, site)) in INPUTS.into_iter().enumerate() {
            let map = maps::heads_read(model, weight, layer)?;
            let read = |from: &Tensor| Tensor::f_einsum("rm,hmd->rhd", &[from, &map], None::<&[i64]>);
            let (whole, part) = (read(&stream.f_div(scale)?)?, read(&along)?);
            let mut expected = whole.shallow_clone();
            if let Some(norm_bias) = &norm_bias {
                let (plain, norm_bias) = (model.weight(weight.at(layer))?, norm_bias.f_to_kind(Kind::Double)?);
                let plain = plain.f_to_kind(Kind::Double)?;
                expected = expected.f_add(&norm_bias.f_unsqueeze(0)?.f_matmul(&plain)?.f_squeeze_dim(1)?)?;
            }
            if let Some(bias) = model.weight_if_any(bias.at(layer))? {
                expected = expected.f_add(&bias.f_to_kind(Kind::Double)?)?;
            }
            read_gap = gap::worse(read_gap, gap::gap(&expected, kept.get(site.at(layer))?)?);
            let dot = |a: &Tensor| a.f_mul(&whole)?.f_sum_dim_intlist(-1, false, Kind::Double);
            let share = dot(&part)?.f_div(&dot(&whole)?)?;
            values[input].extend(answer::numbers(&share.f_mean_dim(0, false, Kind::Double)?)?);
        }
    }
    Ok((grids(cx, "share", "share", values)?, read_gap))
}

/// The numbers of queries, keys and values, by layer and head.
fn grids(cx: &Context<'_>, what: &str, value: &str, numbers: [Vec<f64>; 3]) -> Result<[Grid; 3]> {
    let dims = cx.model().dims();
    let [query, key, values] = numbers;
    let grid = |name: &str, heads: &str, count: usize, numbers: Vec<f64>| {
        let (rows, columns) = (Axis::indices("layer", dims.n_layers), Axis::indices(heads, count));
        Grid::new(format!("{what} of {name}"), value, rows, columns, numbers)
    };
    Ok([
        grid("queries", "head", dims.n_heads, query)?,
        grid("keys", "kv_head", dims.n_kv_heads, key)?,
        grid("values", "kv_head", dims.n_kv_heads, values)?,
    ])
}

register_tools!(WriteReadReaders);

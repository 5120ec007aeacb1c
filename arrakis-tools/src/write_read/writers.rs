//! Who writes along a direction.

use arrakis_core::{
    Answer, Axis, Context, Error, Grid, HookPoint, PosSlice, Prompt, Ranking, Result, Series, Site, Tool, Weight,
    answer, register_tools,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use super::maps::{self, Gain};
use super::places::Places;
use crate::{Direction, gap, index, reduce};

/// Finds the heads and MLPs that write along a direction of the residual stream, in a text and by their weights.
///
/// In the text, what each component writes at a position is projected on the direction, a vector of length 1; the unit is
/// that of the stream, and numbers are means over the rows. Only layers before the one that reads the direction count
/// (all of them for a logit or a vector). By weights, the gain is the length of `W_V W_O` (or `W_out`) times the
/// direction, over its root mean square over all directions: 1 is chance, the greatest is the root of `d_model`.
/// Identities: the projections sum to that of the stream (`sum_gap`), heads and bias to their layer's (`head_gap`), and
/// the squares of the gain along and across the direction to the whole (`weight_gap`, as a share of it).
/// Source: Elhage et al., "A mathematical framework for transformer circuits" (2021).
///
/// ```
/// # use arrakis_core::{Context, Prompt, Tool};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/golden/llama");
/// # let model = arrakis_models::load(folder, &arrakis_models::LoadOptions::default())?;
/// use arrakis_tools::{Direction, WriteReadWriters};
/// let asked = WriteReadWriters::new(Prompt::Ids(vec![9, 3, 17]), Direction::Token(4.into()));
/// println!("{:?}", asked.run(&Context::new(&model))?.strongest.entries[0]);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WriteReadWriters {
    /// What to read.
    pub prompt: Prompt,
    /// The direction.
    pub direction: Direction,
    /// Position where the writing is looked at; each row's last one if absent.
    #[serde(default)]
    pub position: Option<i64>,
    /// How many components are ranked.
    #[serde(default = "ten")]
    pub top: usize,
}

const fn ten() -> usize {
    10
}

impl WriteReadWriters {
    /// Who writes along `direction` at the last token of `prompt`.
    pub fn new(prompt: impl Into<Prompt>, direction: Direction) -> Self {
        Self { prompt: prompt.into(), direction, position: None, top: ten() }
    }
}

/// Who writes along a direction; numbers are means over the rows.
#[derive(Debug, Clone)]
pub struct Writers {
    /// The projection of the stream where the direction is read.
    pub stream: f64,
    /// What each head writes along the direction: `[layer, head]`.
    pub heads: Grid,
    /// What attention and MLP write along it, by layer.
    pub layers: Series,
    /// The components that write most along it, by absolute value.
    pub strongest: Ranking,
    /// The gain of each head's `W_V W_O`: `[layer, head]`.
    pub head_gain: Grid,
    /// The gain of each MLP's `W_out`.
    pub mlp_gain: Series,
    /// Greatest absolute difference of the parts' sum from the stream, over the rows.
    pub sum_gap: f64,
    /// Greatest absolute difference of heads and bias from their layer's attention, over rows and layers.
    pub head_gap: f64,
    /// Greatest difference of the squares along and across the direction from the whole, as a share of it.
    pub weight_gap: f64,
}

impl From<Writers> for Answer {
    fn from(found: Writers) -> Self {
        Self::new()
            .with("stream", found.stream)
            .with("strongest", found.strongest)
            .with("heads", found.heads)
            .with("layers", found.layers)
            .with("head_gain", found.head_gain)
            .with("mlp_gain", found.mlp_gain)
            .with("sum_gap", found.sum_gap)
            .with("head_gap", found.head_gap)
            .with("weight_gap", found.weight_gap)
    }
}

impl Tool for WriteReadWriters {
    const NAME: &'static str = "write_read.writers";
    type Output = Writers;

    fn run(&self, cx: &Context<'_>) -> Result<Writers> {
        let model = cx.model();
        let dims = model.dims();
        if self.top == 0 {
            return Err(Error::Invalid { what: "top 0".into(), why: "give one at least".into() });
        }
        let vector = self.direction.unit(model)?;
        // A head reads before its layer, a logit after all of them.
        let before = match self.direction {
            Direction::Head { head: [layer, _], .. } => layer,
            _ => dims.n_layers,
        };
        if before == 0 {
            let why = "layer 0 reads it, before which only the embedding writes; give a later head".into();
            return Err(Error::Invalid { what: "direction".into(), why });
        }
        let tokens = self.prompt.tokens(model)?;
        let places = Places::of(model, &tokens, self.position)?;
        let along = |written: &Tensor| -> Result<Tensor> { Ok(written.f_matmul(&vector)?) };

        let embeds = [Site::EMBED, Site::POS_EMBED].map(Site::global);
        let embeds: Vec<HookPoint> = embeds.into_iter().filter(|point| model.points().contains(point)).collect();
        let blocks = |site: Site| (0..before).map(move |layer| site.at(layer));
        let stream = Site::RESID_POST.at(before - 1);
        let wholes = embeds.iter().copied().chain(blocks(Site::ATTN_OUT)).chain(blocks(Site::MLP_OUT));
        let points: Vec<HookPoint> = wholes.chain(blocks(Site::Z)).chain([stream]).collect();
        // The projections of every component, and of the heads of a layer: `[row]`, `[row, head]`.
        let (_, kept) = reduce::reduce(model, &tokens, PosSlice::None, &points, |point, value| {
            let value = places.pick(value)?;
            let Some(layer) = point.layer.filter(|_| point.site == Site::Z) else { return along(&value) };
            let writes = along(&model.weight(Weight::O.at(layer))?.f_to_kind(Kind::Double)?)?;
            Ok(value.f_mul(&writes)?.f_sum_dim_intlist(-1, false, Kind::Double)?)
        })?;
        cx.progress(1, 2)?;

        let mean = |value: &Tensor| -> Result<f64> { Ok(value.f_mean(Kind::Double)?.f_double_value(&[])?) };
        let stream = kept.get(stream)?;
        let mut sum = stream.f_zeros_like()?;
        let mut entries = Vec::new();
        for point in embeds {
            sum = sum.f_add(kept.get(point)?)?;
            entries.push((point.site.name().trim_start_matches("hook_").to_owned(), mean(kept.get(point)?)?));
        }
        let (mut by_head, mut attention, mut mlps) = (Vec::new(), Vec::new(), Vec::new());
        let (mut head_gain, mut mlp_gain) = (Vec::new(), Vec::new());
        let (mut head_gap, mut weight_gap) = (0.0, 0.0);
        for layer in 0..before {
            let (attn, mlp) = (kept.get(Site::ATTN_OUT.at(layer))?, kept.get(Site::MLP_OUT.at(layer))?);
            sum = sum.f_add(attn)?.f_add(mlp)?;
            let heads = kept.get(Site::Z.at(layer))?;
            let mut together = heads.f_sum_dim_intlist(-1, false, Kind::Double)?;
            if let Some(bias) = model.weight_if_any(Weight::O_B.at(layer))? {
                let bias = along(&bias.f_to_kind(Kind::Double)?)?;
                together = together.f_add(&bias)?;
                entries.push((format!("{layer}_attn_bias"), mean(&bias)?));
            }
            head_gap = gap::worse(head_gap, gap::gap(&together, attn)?);
            let heads = answer::numbers(&heads.f_mean_dim(0, false, Kind::Double)?)?;
            entries.extend(heads.iter().enumerate().map(|(head, value)| (index::head_label(layer, head), *value)));
            entries.push((format!("{layer}_mlp_out"), mean(mlp)?));
            by_head.extend(heads);
            attention.push(mean(attn)?);
            mlps.push(mean(mlp)?);

            let values = maps::ungrouped(model, &maps::heads_read(model, Weight::V, layer)?)?;
            let writes = model.weight(Weight::O.at(layer))?.f_to_kind(Kind::Double)?;
            let gain = Gain::writing(&values, &writes, &vector)?;
            let out = model.weight(Weight::OUT.at(layer))?.f_to_kind(Kind::Double)?;
            let of_mlp = Gain::reading(&out.f_transpose(0, 1)?, &vector)?;
            weight_gap = gap::worse(weight_gap, gap::worse(gain.gap, of_mlp.gap));
            head_gain.extend(answer::numbers(&gain.values)?);
            mlp_gain.extend(answer::numbers(&of_mlp.values)?);
        }
        entries.sort_by(|a, b| b.1.abs().total_cmp(&a.1.abs()));
        entries.truncate(self.top);

        let (rows, columns) = (Axis::indices("layer", before), Axis::indices("head", dims.n_heads));
        let (unit, gain) = ("projection on the direction", "gain over the root mean square");
        let heads = Grid::new("written by heads", unit, rows.clone(), columns.clone(), by_head)?.diverging();
        let lines = [("attention", attention), ("MLP", mlps)];
        Ok(Writers {
            stream: mean(stream)?,
            heads,
            layers: Series::new("written by layers", unit, rows.clone(), lines)?,
            strongest: Ranking::new("strongest writers", unit, entries),
            head_gain: Grid::new("gain of W_V W_O", gain, rows.clone(), columns, head_gain)?,
            mlp_gain: Series::new("gain of W_out", gain, rows, [("W_out", mlp_gain)])?,
            sum_gap: gap::gap(&sum, stream)?,
            head_gap,
            weight_gap,
        })
    }
}

register_tools!(WriteReadWriters);

//! What each layer's write says through the lens.

use arrakis_core::{
    Answer, Axis, Context, Grid, HookPoint, Model, PosSlice, Prompt, Result, Series, Site, TokenChoice, Tokens, Tool,
    Weight, answer, register_tools,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use crate::work_kind::work_kind;
use crate::{gap, index, reduce};

/// Reads what each layer writes through the final norm and the unembedding: the tokens it raises and lowers.
///
/// A layer's write (attention and MLP together) is normed with the scale held that the whole stream had, so its logits
/// are what it adds to the model's. Of each target, `direct` is that part, and `change` the difference of the lens (with
/// each stream's own scale) after and before the layer. Identity: the logits of the embedding, all writes and the biases
/// of norm and unembedding sum to the model's own, over the whole vocabulary; `sum_gap` is the greatest absolute difference.
/// Source: nostalgebraist, "interpreting GPT: the logit lens" (2020); Elhage et al., "A mathematical framework for
/// transformer circuits" (2021).
///
/// ```
/// # use arrakis_core::{Context, Prompt, Tool};
/// # use arrakis_tools::LayerAttribution;
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/golden/llama");
/// # let model = arrakis_models::load(folder, &arrakis_models::LoadOptions::default())?;
/// let found = LayerAttribution::new(Prompt::Ids(vec![9, 3, 17])).run(&Context::new(&model))?;
/// assert_eq!(found.rows[0].raised.rows.labels[..2], ["embed", "0"]);
/// assert!(found.rows[0].sum_gap < 1e-4);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LayerAttribution {
    /// What to read.
    pub prompt: Prompt,
    /// Position that is read; each row's last one if absent.
    #[serde(default)]
    pub position: Option<i64>,
    /// Tokens whose logit is followed; the model's likeliest one if there are none.
    #[serde(default)]
    pub targets: Vec<TokenChoice>,
    /// How many tokens are shown of each layer.
    #[serde(default = "five")]
    pub top: usize,
}

const fn five() -> usize {
    5
}

impl LayerAttribution {
    /// The writes at the last position of `prompt`, with the likeliest token followed.
    pub fn new(prompt: impl Into<Prompt>) -> Self {
        Self { prompt: prompt.into(), position: None, targets: Vec::new(), top: five() }
    }
}

/// Writes through the lens, row by row.
#[derive(Debug, Clone)]
pub struct LayerWrites {
    /// The writes in each row of the prompt.
    pub rows: Vec<RowWrites>,
}

/// The writes of one row through the lens.
#[derive(Debug, Clone)]
pub struct RowWrites {
    /// The tokens that each layer raises most, by their logits: `[layer, rank]`, the embedding first.
    pub raised: Grid,
    /// The tokens that each layer lowers most: `[layer, rank]`, the embedding first.
    pub lowered: Grid,
    /// What each layer adds to each target's logit, the embedding first.
    pub direct: Series,
    /// By how much the lens' logit of each target changes over each layer.
    pub change: Series,
    /// Greatest absolute difference of the sum of all parts from the model's logits.
    pub sum_gap: f64,
}

impl From<LayerWrites> for Answer {
    fn from(found: LayerWrites) -> Self {
        let count = found.rows.len();
        found.rows.into_iter().enumerate().fold(Self::new(), |answer, (row, found)| {
            let name = |name: &str| index::row_part(row, count, name);
            answer
                .with(name("raised"), found.raised)
                .with(name("lowered"), found.lowered)
                .with(name("direct"), found.direct)
                .with(name("change"), found.change)
                .with(name("sum_gap"), found.sum_gap)
        })
    }
}

impl Tool for LayerAttribution {
    const NAME: &'static str = "logit_lens.layers";
    type Output = LayerWrites;

    fn run(&self, cx: &Context<'_>) -> Result<LayerWrites> {
        let model = cx.model();
        let top = index::count("top", self.top, model.dims().vocab)?;
        let targets: Vec<i64> = self.targets.iter().map(|token| token.id(model)).collect::<Result<_>>()?;
        let tokens = self.prompt.tokens(model)?;
        let rows = (0..tokens.batch()).map(|row| {
            cx.progress(row as u64, tokens.batch() as u64)?;
            self.row(cx, &tokens.row(row)?, top, &targets)
        });
        Ok(LayerWrites { rows: rows.collect::<Result<_>>()? })
    }
}

impl LayerAttribution {
    fn row(&self, cx: &Context<'_>, ids: &[i64], top: usize, targets: &[i64]) -> Result<RowWrites> {
        let model = cx.model();
        let layers = model.dims().n_layers;
        let position = index::position(self.position.unwrap_or(-1), ids.len())?;
        let scale = Site::LN_FINAL_SCALE.global();
        let places = [Site::RESID_PRE.at(0)].into_iter().chain((0..layers).map(|layer| Site::RESID_POST.at(layer)));
        let places: Vec<HookPoint> = places.collect();
        let points = [&places[..], &[scale]].concat();
        let wanted = PosSlice::At(vec![position]);
        let (run, kept) = reduce::reduce(model, &Tokens::from_ids(ids)?, wanted.clone(), &points, |_, value| {
            // A copy: a view would hold the values of every position.
            Ok(wanted.of(value, 1, None)?.f_reshape([-1])?)
        })?;
        let stream = places.iter().map(|point| kept.get(*point)).collect::<Result<Vec<_>>>()?;
        let stream = Tensor::f_stack(&stream, 0)?;
        let double = stream.f_to_kind(Kind::Double)?;
        let steps = double.f_narrow(0, 1, layers as i64)?.f_sub(&double.f_narrow(0, 0, layers as i64)?)?;
        let writes = Tensor::f_cat(&[&double.f_narrow(0, 0, 1)?, &steps], 0)?;
        let normed = model.final_norm_with_scale(&writes, &kept.get(scale)?.f_to_kind(Kind::Double)?)?;
        let kind = work_kind(model);
        let unembed = model.weight(Weight::U.global())?.f_to_kind(kind)?;
        let logits = normed.f_to_kind(kind)?.f_matmul(&unembed)?;
        let output = run.logits()?.f_select(0, 0)?.f_select(0, 0)?.f_to_kind(Kind::Double)?;
        let mut sum = logits.f_sum_dim_intlist(0, false, Kind::Double)?;
        if let Some(bias) = model.weight_if_any(Weight::LN_FINAL_B.global())? {
            sum = sum.f_add(&bias.f_to_kind(kind)?.f_matmul(&unembed)?)?;
        }
        if let Some(bias) = model.weight_if_any(Weight::U_B.global())? {
            sum = sum.f_add(&bias.f_to_kind(Kind::Double)?)?;
        }

        let likeliest = [output.f_argmax(0, false)?.f_int64_value(&[])?];
        let targets = if targets.is_empty() { &likeliest[..] } else { targets };
        let lens = model.unembed(&stream)?.f_to_kind(Kind::Double)?;
        let names = (0..layers).map(|layer| layer.to_string());
        let with_embed = Axis::new("layer", ["embed".to_owned()].into_iter().chain(names));
        let series = |title: &str, axis: &Axis, values: &Tensor| {
            let line = |id: &i64| Ok((model.token(*id), answer::numbers(&values.f_select(-1, *id)?)?));
            let lines = targets.iter().map(line).collect::<Result<Vec<_>>>()?;
            Series::new(title, "logit", axis.clone(), lines)
        };
        let moved = lens.f_narrow(0, 1, layers as i64)?.f_sub(&lens.f_narrow(0, 0, layers as i64)?)?;
        Ok(RowWrites {
            raised: tokens(model, "tokens raised by each layer", &with_embed, &logits, top, true)?,
            lowered: tokens(model, "tokens lowered by each layer", &with_embed, &logits, top, false)?,
            direct: series("direct part of each layer", &with_embed, &logits)?,
            change: series("change of the lens over each layer", &Axis::indices("layer", layers), &moved)?,
            sum_gap: gap::gap(&sum, &output)?,
        })
    }
}

/// The greatest or least logits (`[layer, vocab]`) of each layer, with their tokens.
fn tokens(model: &dyn Model, title: &str, layers: &Axis, logits: &Tensor, top: usize, greatest: bool) -> Result<Grid> {
    let (values, ids) = logits.f_topk(top as i64, -1, greatest, true)?;
    let ids: Vec<i64> = Vec::try_from(ids.f_to_device(tch::Device::Cpu)?.f_contiguous()?.f_reshape([-1])?)?;
    let cells = ids.into_iter().map(|id| model.token(id)).collect();
    let ranks = Axis::new("rank", (1..=top).map(|rank| rank.to_string()));
    Ok(Grid::from_tensor(title, "logit", layers.clone(), ranks, &values)?.with_cells(cells)?.diverging())
}

register_tools!(LayerAttribution);

//! Questions about which part of the model wrote a logit.

mod circulation;
mod neurons;
pub(crate) mod rows;

use arrakis_core::{
    Answer, Axis, Context, Error, Grid, Model, Prompt, Ranking, Residual, Result, RowTokens, Series, Stack, Tool,
    answer, register_tools,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::Tensor;

use crate::written::Written;
use crate::{answer_and_wrong, index};

pub use circulation::{Circulation, RowCirculation, TokenCirculation};
pub use neurons::{NeuronAttribution, NeuronParts};

/// Splits a logit difference into what each head, MLP and embedding wrote of it.
///
/// Every component's write to the residual stream goes through the final norm with the scale held fixed that the whole
/// stream had, and is projected on the unembedding of `answer` minus that of `wrong`. The residual stream is a sum, so
/// the parts sum to the logit difference: `sum_gap` is the greatest absolute difference over the rows, and `head_gap`
/// that of the heads' parts (with the attention bias) from the part of their layer.
/// Source: Elhage et al., "A mathematical framework for transformer circuits" (2021).
///
/// ```
/// # use arrakis_core::{Context, Prompt, Tool};
/// # use arrakis_tools::DirectAttribution;
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/golden/llama");
/// # let model = arrakis_models::load(folder, &arrakis_models::LoadOptions::default())?;
/// let parts = DirectAttribution::new(Prompt::Ids(vec![9, 3, 17]), 4, 8).run(&Context::new(&model))?;
/// assert!((parts.sum_of_parts - parts.logit_difference).abs() < 1e-4);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DirectAttribution {
    /// What to read.
    pub prompt: Prompt,
    /// The token whose logit is split, one for all rows or one for each.
    pub answer: RowTokens,
    /// The token it is compared with; if absent, the logit of `answer` alone is split.
    #[serde(default)]
    pub wrong: Option<RowTokens>,
    /// Position of the logits; each row's last one if absent.
    #[serde(default)]
    pub position: Option<i64>,
    /// How many components are ranked.
    #[serde(default = "ten")]
    pub top: usize,
}

const fn ten() -> usize {
    10
}

impl DirectAttribution {
    /// The attribution of `answer` against `wrong` after `prompt`.
    pub fn new(prompt: impl Into<Prompt>, answer: impl Into<RowTokens>, wrong: impl Into<RowTokens>) -> Self {
        let (prompt, answer, wrong) = (prompt.into(), answer.into(), Some(wrong.into()));
        Self { prompt, answer, wrong, position: None, top: ten() }
    }
}

/// A logit difference in parts; numbers are means over the rows where nothing else is said.
#[derive(Debug, Clone)]
pub struct Attribution {
    /// The model's logit difference.
    pub logit_difference: f64,
    /// The sum of `parts`.
    pub sum_of_parts: f64,
    /// Greatest absolute difference, over the rows, of the parts' sum from the logit difference.
    pub sum_gap: f64,
    /// Greatest absolute difference, over rows and layers, of the heads' sum from their layer's part.
    pub head_gap: f64,
    /// Every part, in the order of writing: embeddings, attention and MLP of each layer, biases of norm and unembedding.
    pub parts: Ranking,
    /// The parts of each row: `[part, row]`.
    pub parts_by_row: Stack,
    /// Each head's part: `[layer, head]`.
    pub heads: Grid,
    /// The heads' parts of each row: `[layer, head, row]`.
    pub heads_by_row: Stack,
    /// The components with the greatest absolute parts: heads, MLPs, embeddings, biases.
    pub top: Ranking,
    /// The parts of attention and MLP by layer.
    pub layers: Series,
    /// What the stream holds of the logit difference at each place, without the biases of norm and unembedding.
    pub accumulated: Series,
}

impl From<Attribution> for Answer {
    fn from(found: Attribution) -> Self {
        Self::new()
            .with("logit_difference", found.logit_difference)
            .with("sum_of_parts", found.sum_of_parts)
            .with("top", found.top)
            .with("heads", found.heads)
            .with("layers", found.layers)
            .with("accumulated", found.accumulated)
            .with("parts", found.parts)
            .with("parts_by_row", found.parts_by_row)
            .with("heads_by_row", found.heads_by_row)
            .with("sum_gap", found.sum_gap)
            .with("head_gap", found.head_gap)
    }
}

impl Tool for DirectAttribution {
    const NAME: &'static str = "logit_attribution.direct";
    type Output = Attribution;

    fn run(&self, cx: &Context<'_>) -> Result<Attribution> {
        let model = cx.model();
        let dims = model.dims();
        if self.top == 0 {
            return Err(Error::Invalid { what: "top 0".into(), why: "give one at least".into() });
        }
        let tokens = self.prompt.tokens(model)?;
        let (answer, wrong) = answer_and_wrong::ids(&self.answer, self.wrong.as_ref(), model, tokens.batch())?;
        let written = Written::of(model, &tokens, self.position, &answer, wrong.as_ref())?;

        let mean = |values: &Tensor| -> Result<Vec<f64>> {
            answer::numbers(&values.f_mean_dim(-1, false, tch::Kind::Double)?)
        };
        let values = mean(&written.parts)?;
        let title = if self.wrong.is_some() { "logit difference" } else { "logit" };
        let tokens_in_title = answer_and_wrong::title(&self.answer, self.wrong.as_ref(), model)?;
        let of = |what: &str| format!("{what} of {tokens_in_title}");
        let by_name = |name: &str| written.names.iter().position(|known| known == name);
        let layer_values = |suffix: &str| -> Vec<f64> {
            let place = |layer| by_name(&format!("{layer}_{suffix}"));
            (0..dims.n_layers).filter_map(place).map(|place| values[place]).collect()
        };
        let layers = Series::new(
            of("direct attribution by layer"),
            title,
            Axis::indices("layer", dims.n_layers),
            [("attention", layer_values("attn_out")), ("MLP", layer_values("mlp_out"))],
        )?;
        let heads = Grid::new(
            of("direct attribution by head"),
            title,
            Axis::indices("layer", dims.n_layers),
            Axis::indices("head", dims.n_heads),
            mean(&written.heads)?,
        )?
        .diverging();
        let rows = Axis::indices("row", tokens.batch());
        let parts_by_row = Stack::new(
            of("direct attribution by row"),
            title,
            vec![Axis::new("component", written.names.clone()), rows.clone()],
            written.parts.shallow_clone(),
        )?;
        let heads_by_row = Stack::new(
            of("direct attribution by head and row"),
            title,
            vec![heads.rows.clone(), heads.columns.clone(), rows],
            written.heads.shallow_clone(),
        )?;
        let difference = mean(&written.difference)?;
        Ok(Attribution {
            logit_difference: difference[0],
            sum_of_parts: values.iter().sum(),
            sum_gap: written.sum_gap()?,
            head_gap: written.head_gap()?,
            top: self.top(&written, &values, &heads, &mean(&written.attention_bias)?, title, of("greatest components")),
            accumulated: accumulated(dims.residual, &written.names, &values, title, of("attribution of the stream"))?,
            parts: Ranking::new(of("direct attribution"), title, written.names.into_iter().zip(values)),
            parts_by_row,
            heads,
            heads_by_row,
            layers,
        })
    }

    fn measured(&self, model: &dyn Model) -> Result<Option<String>> {
        answer_and_wrong::measured(&self.answer, self.wrong.as_ref(), model).map(Some)
    }
}

impl DirectAttribution {
    /// The greatest components, attention in its heads and its bias.
    fn top(&self, written: &Written, values: &[f64], heads: &Grid, bias: &[f64], value: &str, name: String) -> Ranking {
        let whole = written.names.iter().cloned().zip(values.iter().copied());
        let whole = whole.filter(|(name, _)| !name.ends_with("_attn_out"));
        let width = heads.columns.len();
        let split = heads.values.iter().enumerate();
        let split = split.map(|(place, value)| (index::head_label(place / width, place % width), *value));
        let biases = bias.iter().enumerate().map(|(layer, value)| (format!("{layer}_attn_bias"), *value));
        let biases = biases.filter(|(_, value)| *value != 0.0);
        let mut entries: Vec<(String, f64)> = whole.chain(split).chain(biases).collect();
        // NaN is greater than anything here, so that it is seen.
        entries.sort_by(|a, b| b.1.abs().total_cmp(&a.1.abs()));
        entries.truncate(self.top);
        Ranking::new(name, value, entries)
    }
}

/// The running sum of the parts, under TransformerLens' names of the places in between.
fn accumulated(residual: Residual, names: &[String], values: &[f64], value: &str, title: String) -> Result<Series> {
    let (mut places, mut sums, mut sum) = (Vec::new(), Vec::new(), 0.0);
    for (name, part) in names.iter().zip(values) {
        let place = match name.split_once('_') {
            Some((layer, "attn_out")) => Some((format!("{layer}_pre"), sum)),
            Some((layer, "mlp_out")) if residual == Residual::Serial => Some((format!("{layer}_mid"), sum)),
            _ => None,
        };
        if let Some((place, sum)) = place {
            places.push(place);
            sums.push(sum);
        }
        if !name.ends_with("_bias") {
            sum += part;
        }
    }
    places.push("final_post".into());
    sums.push(sum);
    Series::new(title, value, Axis::new("place", places), [("accumulated", sums)])
}

register_tools!(DirectAttribution);

//! Which neurons wrote a logit.

use arrakis_core::{
    Answer, Axis, Context, Error, Grid, HookPoint, Model, Prompt, Ranking, Result, RowTokens, Series, Site, Tool,
    Weight, answer, register_tools,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use super::rows::{ReadRows, difference, direction};
use crate::residual_decomposition::neuron_label;
use crate::{answer_and_wrong, gap, index, reduce};

/// Ranks the neurons that wrote most of a logit difference, over the whole model and in each layer.
///
/// A neuron writes its activation times its row of `W_out`; that goes through the final norm with the scale held fixed
/// that the whole stream had, and is projected on the unembedding of `answer` minus that of `wrong`. Numbers are logits,
/// as means over the rows. Identity: the neurons of a layer and its output bias sum to what its MLP wrote; `mlp_gap` is
/// the greatest absolute difference over rows and layers.
/// Source: Geva et al., "Transformer feed-forward layers build predictions by promoting concepts in the vocabulary
/// space" (2022).
///
/// ```
/// # use arrakis_core::{Context, Prompt, Tool};
/// # use arrakis_tools::NeuronAttribution;
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/golden/llama");
/// # let model = arrakis_models::load(folder, &arrakis_models::LoadOptions::default())?;
/// let found = NeuronAttribution::new(Prompt::Ids(vec![9, 3, 17]), 4, 8).run(&Context::new(&model))?;
/// assert_eq!(found.top.entries.len(), 10);
/// assert!(found.mlp_gap < 1e-4);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NeuronAttribution {
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
    /// How many neurons are ranked, over the model and in each layer.
    #[serde(default = "ten")]
    pub top: usize,
}

const fn ten() -> usize {
    10
}

impl NeuronAttribution {
    /// The attribution of `answer` against `wrong` after `prompt`.
    pub fn new(prompt: impl Into<Prompt>, answer: impl Into<RowTokens>, wrong: impl Into<RowTokens>) -> Self {
        let (prompt, answer, wrong) = (prompt.into(), answer.into(), Some(wrong.into()));
        Self { prompt, answer, wrong, position: None, top: ten() }
    }
}

/// The neurons' parts of a logit difference, means over the rows.
#[derive(Debug, Clone)]
pub struct NeuronParts {
    /// The model's logit difference.
    pub logit_difference: f64,
    /// The neurons with the greatest absolute parts.
    pub top: Ranking,
    /// The greatest in each layer, with their names: `[layer, rank]`.
    pub by_layer: Grid,
    /// By layer: lines `neurons`, `bias`, `raising`, `lowering` (the sums over neurons with positive and negative parts).
    pub layers: Series,
    /// Every neuron's part: `[layer, neuron]`.
    pub neurons: Grid,
    /// Greatest absolute difference, over rows and layers, of neurons and bias from the MLP's part.
    pub mlp_gap: f64,
}

impl From<NeuronParts> for Answer {
    fn from(found: NeuronParts) -> Self {
        Self::new()
            .with("logit_difference", found.logit_difference)
            .with("top", found.top)
            .with("by_layer", found.by_layer)
            .with("layers", found.layers)
            .with("neurons", found.neurons)
            .with("mlp_gap", found.mlp_gap)
    }
}

impl Tool for NeuronAttribution {
    const NAME: &'static str = "logit_attribution.neurons";
    type Output = NeuronParts;

    fn run(&self, cx: &Context<'_>) -> Result<NeuronParts> {
        let model = cx.model();
        let dims = model.dims();
        let top = index::count("top", self.top.min(dims.d_mlp), dims.d_mlp)?;
        let tokens = self.prompt.tokens(model)?;
        let (answer_ids, wrong) = answer_and_wrong::ids(&self.answer, self.wrong.as_ref(), model, tokens.batch())?;
        let read = ReadRows::of(model, &tokens, self.position)?;
        let blocks = (0..dims.n_layers).flat_map(|layer| [Site::MLP_POST.at(layer), Site::MLP_OUT.at(layer)]);
        let scale = Site::LN_FINAL_SCALE.global();
        let points: Vec<HookPoint> = blocks.chain([scale]).collect();
        let (run, kept) = reduce::reduce(model, &tokens, read.wanted(), &points, |_, value| read.at(value))?;
        let direction = direction(model, &answer_ids, wrong.as_ref())?;
        let scale = kept.get(scale)?;
        let part = |written: &Tensor| -> Result<Tensor> {
            let normed = model.final_norm_with_scale(written, scale)?;
            Ok(normed.f_mul(&direction)?.f_sum_dim_intlist(-1, false, Kind::Double)?)
        };
        // The norm with its scale held is linear: each neuron's row is normed once, and the activations are scaled.
        let one = Tensor::f_ones([1], (Kind::Double, model.device()))?;
        let (mut by_neuron, mut biases, mut mlp_gap) = (Vec::new(), Vec::new(), 0.0);
        for layer in 0..dims.n_layers {
            cx.progress(layer as u64, dims.n_layers as u64)?;
            let rows = model.weight(Weight::OUT.at(layer))?.f_to_kind(Kind::Double)?;
            let worth = direction.f_matmul(&model.final_norm_with_scale(&rows, &one)?.f_transpose(0, 1)?)?;
            let neurons = kept.get(Site::MLP_POST.at(layer))?.f_mul(&worth)?.f_div(scale)?;
            let bias = match model.weight_if_any(Weight::OUT_B.at(layer))? {
                Some(bias) => part(&bias.f_to_kind(Kind::Double)?.f_unsqueeze(0)?)?,
                None => Tensor::f_zeros([tokens.batch() as i64], (Kind::Double, model.device()))?,
            };
            let sum = neurons.f_sum_dim_intlist(-1, false, Kind::Double)?.f_add(&bias)?;
            mlp_gap = gap::worse(mlp_gap, gap::gap(&sum, &part(kept.get(Site::MLP_OUT.at(layer))?)?)?);
            by_neuron.push(neurons.f_mean_dim(0, false, Kind::Double)?);
            biases.push(bias.f_mean(Kind::Double)?);
        }
        let (by_neuron, biases) = (Tensor::f_stack(&by_neuron, 0)?, Tensor::f_stack(&biases, 0)?);
        let value = if wrong.is_some() { "logit difference" } else { "logit" };
        let logits = difference(&read.logits(run.logits()?)?, &answer_ids, wrong.as_ref())?;
        let tokens = answer_and_wrong::title(&self.answer, self.wrong.as_ref(), model)?;
        let logit_difference = logits.f_mean(Kind::Double)?.f_double_value(&[])?;
        shown(&by_neuron, &biases, top, (&tokens, value), logit_difference, mlp_gap)
    }

    fn measured(&self, model: &dyn Model) -> Result<Option<String>> {
        answer_and_wrong::measured(&self.answer, self.wrong.as_ref(), model).map(Some)
    }
}

/// The parts (`[layer, neuron]`) in labelled shapes.
fn shown(
    by_neuron: &Tensor,
    biases: &Tensor,
    top: usize,
    (tokens, value): (&str, &str),
    logit_difference: f64,
    mlp_gap: f64,
) -> Result<NeuronParts> {
    let of = |what: &str| format!("{what} of {tokens}");
    let (layers, neurons) = (by_neuron.size()[0] as usize, by_neuron.size()[1] as usize);
    let axis = Axis::indices("layer", layers);
    let values = answer::numbers(by_neuron)?;
    // NaN would not be seen among the greatest.
    if values.iter().any(|value| value.is_nan()) {
        return Err(Error::Invalid { what: "the neurons' parts".into(), why: "one is not a number".into() });
    }
    let entries = values.iter().enumerate();
    let mut entries: Vec<(String, f64)> =
        entries.map(|(place, value)| (neuron_label(place / neurons, place % neurons), *value)).collect();
    entries.sort_by(|a, b| b.1.abs().total_cmp(&a.1.abs()));
    entries.truncate(top);
    let (_, ids) = by_neuron.f_abs()?.f_topk(top as i64, -1, true, true)?;
    let greatest = by_neuron.f_gather(-1, &ids, false)?;
    let ids: Vec<i64> = Vec::try_from(ids.f_to_device(tch::Device::Cpu)?.f_contiguous()?.f_reshape([-1])?)?;
    let cells = ids.iter().enumerate().map(|(place, neuron)| neuron_label(place / top, *neuron as usize)).collect();
    let ranks = Axis::new("rank", (1..=top).map(|rank| rank.to_string()));
    let sum = |values: &Tensor| answer::numbers(&values.f_sum_dim_intlist(-1, false, Kind::Double)?);
    Ok(NeuronParts {
        logit_difference,
        top: Ranking::new(of("greatest neurons"), value, entries),
        by_layer: Grid::from_tensor(of("greatest neurons by layer"), value, axis.clone(), ranks, &greatest)?
            .with_cells(cells)?
            .diverging(),
        layers: Series::new(
            of("attribution of the MLPs by layer"),
            value,
            axis.clone(),
            [
                ("neurons", sum(by_neuron)?),
                ("bias", answer::numbers(biases)?),
                ("raising", sum(&by_neuron.f_clamp_min(0)?)?),
                ("lowering", sum(&by_neuron.f_clamp_max(0)?)?),
            ],
        )?,
        neurons: Grid::new(of("attribution by neuron"), value, axis, Axis::indices("neuron", neurons), values)?
            .diverging(),
        mlp_gap,
    })
}

register_tools!(NeuronAttribution);

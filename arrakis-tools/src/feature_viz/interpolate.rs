//! What lies between two neurons.

use arrakis_core::{
    Answer, Axis, Cache, Context, Error, Grid, HookPoint, Model, Prompt, Result, Site, Tokens, Tool, Weight,
    register_tools,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use crate::feature::inside;
use crate::map_inputs::MapInputs;
use crate::token_effects::{self, Chosen};
use crate::{gap, index, token_vectors};

/// Which weights of the neurons are interpolated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum NeuronWeights {
    /// What they write: rows of `W_out`.
    #[default]
    Output,
    /// What they read: columns of `W_in`, or of `W_gate` where the MLP is gated.
    Input,
}

/// Walks from one neuron to another of its layer, and shows at each step where in a text it is active and what it promotes.
///
/// The direction at step `α` is `(1 - α) w_a + α w_b` of the neurons' weights. With output weights, the activation at a
/// token is what the MLP writes along it, `mlp_out · w`, and tokens are ranked by the direction's effect on their logits
/// (final norm's weight folded). With input weights, it is what a neuron with the interpolated weights and bias would
/// have before its activation function, and tokens are ranked by the cosine of their embedding with the direction.
/// Identities: with output weights, the neurons' own writes and the bias sum to the MLP's along each direction
/// (`write_gap`); with input weights, both ends are the neurons' own values before the activation function (`pre_gap`).
/// Each is the greatest absolute difference. Rows of the prompt are answered one by one.
/// Source: Geva et al., "Transformer feed-forward layers are key-value memories" (2021), for both sides of a neuron; Olah
/// et al., "Feature visualization" (2017), for interpolation between neurons.
///
/// ```
/// # use arrakis_core::{Context, Prompt, Tool};
/// # use arrakis_tools::InterpolateNeurons;
/// # let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/golden/llama");
/// # let model = arrakis_models::load(folder, &arrakis_models::LoadOptions::default()).unwrap();
/// let asked = InterpolateNeurons::new(Prompt::Ids(vec![9, 3, 17]), 1, 7, 8);
/// let found = asked.run(&Context::new(&model)).unwrap();
/// assert!(found.gap < 1e-4);
/// ```
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct InterpolateNeurons {
    /// What to read.
    pub prompt: Prompt,
    /// The layer of both neurons.
    pub layer: usize,
    /// The neuron at the first step.
    pub from: usize,
    /// The neuron at the last step.
    pub to: usize,
    /// Which weights are interpolated.
    #[serde(default)]
    pub weights: NeuronWeights,
    /// Steps from one neuron to the other, both ends counted.
    #[serde(default = "five")]
    pub steps: usize,
    /// How many tokens are shown at each step.
    #[serde(default = "ten")]
    pub top: usize,
}

const fn five() -> usize {
    5
}

const fn ten() -> usize {
    10
}

impl InterpolateNeurons {
    /// Five steps between the output weights of two neurons.
    pub fn new(prompt: impl Into<Prompt>, layer: usize, from: usize, to: usize) -> Self {
        Self { prompt: prompt.into(), layer, from, to, weights: NeuronWeights::default(), steps: five(), top: ten() }
    }
}

/// What lies between two neurons.
#[derive(Debug, Clone)]
pub struct BetweenNeurons {
    /// The tokens that each step promotes, or reads: `[step, rank]`.
    pub tokens: Grid,
    /// The activations in each row of the prompt.
    pub rows: Vec<RowBetweenNeurons>,
    /// `write_gap` with output weights, `pre_gap` with input weights.
    pub gap: f64,
    weights: NeuronWeights,
}

/// The activations of the steps in one text.
#[derive(Debug, Clone)]
pub struct RowBetweenNeurons {
    /// The activation along each step's direction: `[step, position]`.
    pub activation: Grid,
}

impl From<BetweenNeurons> for Answer {
    fn from(found: BetweenNeurons) -> Self {
        let count = found.rows.len();
        let answer = found.rows.into_iter().enumerate().fold(Self::new(), |answer, (row, found)| {
            answer.with(index::row_part(row, count, "activation"), found.activation)
        });
        let name = match found.weights {
            NeuronWeights::Output => "write_gap",
            NeuronWeights::Input => "pre_gap",
        };
        answer.with("tokens", found.tokens).with(name, found.gap)
    }
}

impl Tool for InterpolateNeurons {
    const NAME: &'static str = "feature_viz.interpolate";
    type Output = BetweenNeurons;

    fn run(&self, cx: &Context<'_>) -> Result<BetweenNeurons> {
        let model = cx.model();
        let dims = model.dims();
        inside("layer", self.layer, dims.n_layers)?;
        inside("neuron", self.from, dims.d_mlp)?;
        inside("neuron", self.to, dims.d_mlp)?;
        let top = index::count("top", self.top, dims.vocab)?;
        if self.steps < 2 {
            let why = "both ends are counted; give two at least".into();
            return Err(Error::Invalid { what: format!("steps {}", self.steps), why });
        }
        let steps: Vec<f64> = (0..self.steps).map(|step| step as f64 / (self.steps - 1) as f64).collect();
        let mixed = self.mixed(model, &steps)?;
        let axis = Axis::new("step", steps.iter().map(|step| format!("{step:.3}")));
        let tokens = self.prompt.tokens(model)?;
        let (mut rows, mut worst) = (Vec::new(), 0.0);
        for row in 0..tokens.batch() {
            cx.progress(row as u64, tokens.batch() as u64)?;
            let ids = tokens.row(row)?;
            let (activation, gap) = self.row(model, &ids, &mixed)?;
            worst = gap::worse(worst, gap);
            let positions = Axis::new("position", ids.iter().map(|id| model.token(*id)));
            let grid = Grid::from_tensor("activation on the way", "activation", axis.clone(), positions, &activation)?;
            rows.push(RowBetweenNeurons { activation: grid.diverging() });
        }
        let (by_token, title, value) = match self.weights {
            NeuronWeights::Output => {
                (token_effects::of(model, &mixed.directions)?, "tokens promoted on the way", "logit per unit")
            }
            NeuronWeights::Input => {
                let embeddings = token_effects::embeddings(model)?;
                (token_effects::cosines(&mixed.directions, &embeddings)?, "tokens read on the way", "cosine")
            }
        };
        let tokens = Chosen::of(&by_token, top, true)?.grid(model, title, value, axis)?.diverging();
        Ok(BetweenNeurons { tokens, rows, gap: worst, weights: self.weights })
    }
}

/// Interpolated weights.
struct Mixed {
    /// `[step, d_model]`, in double.
    directions: Tensor,
    /// With input weights, the interpolated biases: `[step, 1]`.
    bias: Option<Tensor>,
}

impl InterpolateNeurons {
    fn mixed(&self, model: &dyn Model, steps: &[f64]) -> Result<Mixed> {
        let alpha = Tensor::f_from_slice(steps)?.f_to_device(model.device())?.f_unsqueeze(1)?;
        let mix = |both: &Tensor| -> Result<Tensor> {
            let (a, b) = (both.f_narrow(0, 0, 1)?, both.f_narrow(0, 1, 1)?);
            Ok(a.f_mul(&alpha.f_neg()?.f_add_scalar(1.0)?)?.f_add(&b.f_mul(&alpha)?)?)
        };
        let pair = Tensor::f_from_slice(&[self.from as i64, self.to as i64])?.f_to_device(model.device())?;
        let chosen = |weight: &Tensor, side: i64| -> Result<Tensor> {
            Ok(weight.f_index_select(side, &pair)?.f_to_kind(Kind::Double)?)
        };
        match self.weights {
            NeuronWeights::Output => {
                let out = chosen(&model.weight(Weight::OUT.at(self.layer))?, 0)?;
                Ok(Mixed { directions: mix(&out)?, bias: None })
            }
            NeuronWeights::Input => {
                let gated = model.weight_if_any(Weight::GATE.at(self.layer))?;
                let (weight, bias) = match gated {
                    Some(gate) => (gate, Weight::GATE_B),
                    None => (model.weight(Weight::IN.at(self.layer))?, Weight::IN_B),
                };
                let bias = match model.weight_if_any(bias.at(self.layer))? {
                    Some(bias) => mix(&chosen(&bias, 0)?.f_unsqueeze(1)?)?,
                    None => Tensor::f_zeros([steps.len() as i64, 1], (Kind::Double, model.device()))?,
                };
                Ok(Mixed { directions: mix(&chosen(&weight, 1)?.f_transpose(0, 1)?)?, bias: Some(bias) })
            }
        }
    }

    /// The activation along each direction in one text (`[step, position]`), and how far its identity is off.
    fn row(&self, model: &dyn Model, ids: &[i64], mixed: &Mixed) -> Result<(Tensor, f64)> {
        let tokens = Tokens::from_ids(ids)?;
        let places = Tensor::f_arange(ids.len() as i64, (Kind::Int64, tch::Device::Cpu))?;
        let read = |points: [HookPoint; 2]| -> Result<Cache> {
            let mut found = Cache::new();
            token_vectors::read_places(model, &tokens, &places, &points, |point, vectors| {
                found.insert(point, vectors.f_transpose(0, 1)?);
                Ok(())
            })?;
            Ok(found)
        };
        let Some(bias) = &mixed.bias else {
            let (post, written) = (Site::MLP_POST.at(self.layer), Site::MLP_OUT.at(self.layer));
            let found = read([post, written])?;
            let along = mixed.directions.f_matmul(found.get(written)?)?;
            let out = model.weight(Weight::OUT.at(self.layer))?.f_to_kind(Kind::Double)?;
            let each = mixed.directions.f_matmul(&out.f_transpose(0, 1)?)?;
            let mut sum = each.f_matmul(found.get(post)?)?;
            if let Some(bias) = model.weight_if_any(Weight::OUT_B.at(self.layer))? {
                sum = sum.f_add(&mixed.directions.f_mv(&bias.f_to_kind(Kind::Double)?)?.f_unsqueeze(1)?)?;
            }
            let gap = gap::gap(&sum, &along)?;
            return Ok((along, gap));
        };
        let (inputs, pre) = (MapInputs::mlp(model, self.layer), Site::MLP_PRE.at(self.layer));
        let found = read([inputs.point, pre])?;
        let read = inputs.of(model, &found.get(inputs.point)?.f_transpose(0, 1)?)?;
        let along = mixed.directions.f_matmul(&read.f_transpose(0, 1)?)?.f_add(bias)?;
        let pre = found.get(pre)?;
        let last = along.size()[0] - 1;
        let end =
            |step: i64, neuron: usize| -> Result<f64> { gap::gap(&along.f_get(step)?, &pre.f_get(neuron as i64)?) };
        let gap = gap::worse(end(0, self.from)?, end(last, self.to)?);
        Ok((along, gap))
    }
}

register_tools!(InterpolateNeurons);

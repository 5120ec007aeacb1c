//! A feature: one number that is read from the activations of every token.

use arrakis_core::{Error, HookPoint, Model, Result, Site, Weight};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use crate::{Direction, token_vectors};

/// What is read at every token: one number.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Feature {
    /// A neuron, after its activation function.
    Neuron {
        /// The layer.
        layer: usize,
        /// The neuron.
        neuron: usize,
    },
    /// What a head writes along a direction of the residual stream: `z W_O · direction`.
    Head {
        /// The layer.
        layer: usize,
        /// The head.
        head: usize,
        /// The direction, not scaled.
        direction: Direction,
    },
    /// The dot product of the value at a hook point with a direction.
    Direction {
        /// The hook point, by its printed name; heads are laid side by side.
        point: String,
        /// The direction, not scaled.
        direction: Direction,
    },
    /// One entry of the value at a hook point.
    Entry {
        /// The hook point, by its printed name; heads are laid side by side.
        point: String,
        /// The entry.
        index: usize,
    },
}

/// A feature of a model, ready to be read.
pub(crate) struct Readout {
    /// Where it is read.
    pub(crate) point: HookPoint,
    /// Its name.
    pub(crate) label: String,
    /// `[width]`, in double.
    weights: Tensor,
}

impl Feature {
    /// The feature of a model; an error if it has none such.
    pub(crate) fn readout(&self, model: &dyn Model) -> Result<Readout> {
        let dims = model.dims();
        match self {
            Self::Neuron { layer, neuron } => {
                inside("layer", *layer, dims.n_layers)?;
                inside("neuron", *neuron, dims.d_mlp)?;
                let weights = unit(dims.d_mlp, *neuron, model)?;
                Ok(Readout { point: Site::MLP_POST.at(*layer), label: format!("L{layer}N{neuron}"), weights })
            }
            Self::Head { layer, head, direction } => {
                inside("layer", *layer, dims.n_layers)?;
                inside("head", *head, dims.n_heads)?;
                let direction = direction.numbers(model, dims.d_model)?;
                let out = model.weight(Weight::O.at(*layer))?.f_to_kind(Kind::Double)?;
                let own = out.f_get(*head as i64)?.f_mv(&direction)?;
                let all = Tensor::f_zeros([dims.n_heads as i64, dims.d_head as i64], (Kind::Double, model.device()))?;
                let weights = all.f_select_scatter(&own, 0, *head as i64)?.f_reshape([-1])?;
                Ok(Readout { point: Site::Z.at(*layer), label: crate::index::head_label(*layer, *head), weights })
            }
            Self::Direction { point, direction } => {
                let point = token_vectors::point(model, point)?;
                let weights = direction.numbers(model, token_vectors::width(model, point)?)?;
                Ok(Readout { point, label: format!("direction at {point}"), weights })
            }
            Self::Entry { point, index } => {
                let point = token_vectors::point(model, point)?;
                let width = token_vectors::width(model, point)?;
                inside("entry", *index, width)?;
                Ok(Readout { point, label: format!("{point}[{index}]"), weights: unit(width, *index, model)? })
            }
        }
    }
}

impl Readout {
    /// The feature of each vector (`[token, width]`): `[token]`, in double.
    pub(crate) fn of(&self, vectors: &Tensor) -> Result<Tensor> {
        Ok(vectors.f_mv(&self.weights)?)
    }
}

/// An error unless `index` is below `len`.
pub(crate) fn inside(what: &str, index: usize, len: usize) -> Result<()> {
    if index < len {
        return Ok(());
    }
    Err(Error::OutOfRange { what: what.into(), index: index as i64, len: len as i64 })
}

/// A one among zeros.
fn unit(width: usize, place: usize, model: &dyn Model) -> Result<Tensor> {
    let mut numbers = vec![0.0; width];
    numbers[place] = 1.0;
    Ok(Tensor::f_from_slice(&numbers)?.f_to_device(model.device())?)
}

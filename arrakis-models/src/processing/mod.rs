//! Weight processing: steps that rewrite weights and leave what the model says as it is.
//!
//! Each step takes any [`Model`] through core's waist and returns a new one that shares what the step does not edit, so
//! steps compose in any order:
//!
//! ```no_run
//! use arrakis_models::{LoadOptions, load, processing};
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let model = load("gpt2", &LoadOptions::default())?;
//! let folded = processing::fold_layer_norm(&model)?;
//! let centred = processing::centre_writing_weights(&*folded)?;
//! # Ok(())
//! # }
//! ```
//!
//! The steps and their order are those of `HookedTransformer.from_pretrained` in TransformerLens 3.9, and so are the
//! weights that come out. Log-probabilities stay as they were; logits may all move by one number at a position. Hook
//! points stay, with other values at some of them.
//!
//! Float64 and float32 weights are processed in their own kind. Those of half-precision models are processed in float32
//! and rounded to the model's kind, once in each step: a folded weight or bias is then off by up to 2⁻⁸ (bfloat16) or
//! 2⁻¹¹ (float16) of itself, which the unprocessed model was not, and log-probabilities are only as near as such rounding
//! lets them be. Process in float32 where that matters.

mod factored;
mod layer_norm;
mod unembedding;
mod value_biases;
mod writing_weights;

use arrakis_core::{Error, Model, NormKind, Result, WeightPoint};
use tch::Tensor;

use crate::architecture::wide;
use crate::weights;

pub use factored::refactor_factored_attention;
pub use layer_norm::fold_layer_norm;
pub use unembedding::centre_unembedding;
pub use value_biases::fold_value_biases;
pub use writing_weights::centre_writing_weights;

/// The model as TransformerLens' `from_pretrained` makes it by default.
///
/// [`fold_layer_norm`], then [`centre_writing_weights`] (in layer-norm families; passed over in RMS ones, as there),
/// [`centre_unembedding`] and [`fold_value_biases`].
///
/// # Errors
/// Those of the steps.
pub fn processed(model: &dyn Model) -> Result<Box<dyn Model>> {
    let mut processed = fold_layer_norm(model)?;
    if model.dims().norm == NormKind::Layer {
        processed = centre_writing_weights(&*processed)?;
    }
    fold_value_biases(&*centre_unembedding(&*processed)?)
}

/// A model on its way through a step.
struct Step<'a> {
    model: &'a dyn Model,
    edits: Vec<(WeightPoint, Tensor)>,
}

impl<'a> Step<'a> {
    /// Begins a step; a weight of another crate's model might read or write what the step moves, and is refused.
    fn new(name: &str, model: &'a dyn Model) -> Result<Self> {
        if let Some(strange) = model.weights().into_iter().find(|weight| !weights::is_known(weight.weight)) {
            let why = format!("it is not known what `{strange}` does, so the model may not stay the function it is");
            return Err(Error::Invalid { what: name.into(), why });
        }
        Ok(Self { model, edits: Vec::new() })
    }

    /// A weight, in 32 bits at least.
    fn weight(&self, weight: WeightPoint) -> Result<Tensor> {
        let value = self.model.weight(weight)?;
        Ok(value.f_to_kind(wide(value.kind()))?)
    }

    /// A weight that the model may lack, in 32 bits at least.
    fn weight_if_any(&self, weight: WeightPoint) -> Result<Option<Tensor>> {
        let value = self.model.weight_if_any(weight)?;
        Ok(value.map(|value| value.f_to_kind(wide(value.kind()))).transpose()?)
    }

    fn set(&mut self, weight: WeightPoint, value: Tensor) {
        self.edits.push((weight, value));
    }

    /// Adds to a bias, which need not be there.
    fn add(&mut self, bias: WeightPoint, more: Tensor) -> Result<()> {
        let sum = match self.weight_if_any(bias)? {
            Some(bias) => bias.f_add(&more)?,
            None => more,
        };
        self.set(bias, sum);
        Ok(())
    }

    fn end(self) -> Result<Box<dyn Model>> {
        self.model.with_weights(self.edits)
    }
}

/// `value` less its mean over a dimension.
fn centred(value: &Tensor, dimension: i64) -> Result<Tensor> {
    Ok(value.f_sub(&value.f_mean_dim(dimension, true, None::<tch::Kind>)?)?)
}

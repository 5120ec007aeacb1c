//! The MLP half of a block, plain or gated.

use arrakis_core::{Result, Site, Tap};
use tch::Tensor;

use crate::architecture::Activation;
use crate::linear::Linear;

/// The MLP half of a block; with a gate where there is one.
#[derive(Debug, Clone)]
pub(crate) struct Mlp {
    pub(crate) gate: Option<Linear>,
    pub(crate) input: Linear,
    pub(crate) output: Linear,
    pub(crate) activation: Activation,
}

impl Mlp {
    /// What the MLP writes for its normalised input: `[batch, pos, d_model]`.
    pub(crate) fn apply(&self, x: &Tensor, tap: &mut Tap<'_>) -> Result<Tensor> {
        let activated = self.gate.as_ref().unwrap_or(&self.input);
        let pre = tap.at(Site::MLP_PRE, activated.apply(x)?)?;
        let linear = match &self.gate {
            Some(_) => Some(tap.at(Site::MLP_PRE_LINEAR, self.input.apply(x)?)?),
            None => None,
        };
        let mut post = self.activation.apply(&pre)?;
        if let Some(linear) = linear {
            post = post.f_mul(&linear)?;
        }
        self.output.apply(&tap.at(Site::MLP_POST, post)?)
    }
}

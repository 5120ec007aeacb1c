//! An unembedding without a mean.

use arrakis_core::{Model, Result, Weight};

use super::{Step, centred};

/// Takes the mean over the vocabulary out of the unembedding and of its bias.
///
/// All logits of a position move by one number, which softmax does not see: log-probabilities and differences of logits
/// stay, and the logits sum to 0 over the vocabulary. A tied embedding stays as it is.
///
/// # Errors
/// A weight that is unknown to this library.
///
/// # Source
/// `center_unembed` of TransformerLens 3.9.
pub fn centre_unembedding(model: &dyn Model) -> Result<Box<dyn Model>> {
    let mut step = Step::new("centring of the unembedding", model)?;
    let (weight, bias) = (Weight::U.global(), Weight::U_B.global());
    step.set(weight, centred(&step.weight(weight)?, -1)?);
    if let Some(value) = step.weight_if_any(bias)? {
        step.set(bias, centred(&value, -1)?);
    }
    step.end()
}

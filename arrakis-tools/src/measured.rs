//! A metric of a whole batch, as one number.

use arrakis_core::{Measure, Result, answer};
use tch::Tensor;

/// The mean of a metric over the rows of the wanted logits.
pub(crate) fn mean(measure: &Measure, logits: &Tensor) -> Result<f64> {
    let values = answer::numbers(&measure.of(logits)?)?;
    Ok(values.iter().sum::<f64>() / values.len() as f64)
}

//! Value biases moved to where they arrive.

use arrakis_core::{Model, Result, Weight};

use super::Step;

/// Folds the biases of the values into the bias of the attention output.
///
/// The rows of a pattern sum to 1, so a bias on the values reaches the output whole, whatever is attended to: `b_V` of
/// each head goes through its `W_O` into `b_O`, which may stand where there was none, and becomes 0. Under grouped-query
/// attention every query head passes on the bias of the values that it shares.
///
/// An edited pattern whose rows no longer sum to 1, and an edit of values or of `z` (a head set to zero, say), mean
/// something else afterwards, as the bias is no longer part of them.
///
/// # Errors
/// A weight that is unknown to this library.
///
/// # Source
/// `fold_value_biases` of TransformerLens 3.9.
pub fn fold_value_biases(model: &dyn Model) -> Result<Box<dyn Model>> {
    let mut step = Step::new("folding of value biases", model)?;
    let group = (model.dims().n_heads / model.dims().n_kv_heads.max(1)) as i64;
    for layer in 0..model.dims().n_layers {
        let Some(bias) = step.weight_if_any(Weight::V_B.at(layer))? else { continue };
        let by_head = bias.f_repeat_interleave_self_int(group, 0, None)?.f_flatten(0, 1)?;
        step.add(Weight::O_B.at(layer), by_head.f_matmul(&step.weight(Weight::O.at(layer))?.f_flatten(0, 1)?)?)?;
        step.set(Weight::V_B.at(layer), bias.f_zeros_like()?);
    }
    step.end()
}

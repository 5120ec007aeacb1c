//! The waist of a model, called layer by layer in any order.

use arrakis_core::{Model, ModelExt, PosSlice, Result, Tokens};
use tch::Tensor;

/// The residual stream before the first layer: `[row, pos, d_model]`.
pub(super) fn embedded(model: &dyn Model, tokens: &Tokens) -> Result<Tensor> {
    Ok(model.trace(tokens).stop_at(0).run()?.residual)
}

/// The stream after a layer that reads `stream`.
pub(super) fn layer(model: &dyn Model, tokens: &Tokens, layer: usize, stream: &Tensor) -> Result<Tensor> {
    Ok(model.trace(tokens).start_at(layer, stream).stop_at(layer + 1).run()?.residual)
}

/// The wanted logits of a run that reads `stream` before `layer` and goes on from there.
pub(super) fn rest(
    model: &dyn Model,
    tokens: &Tokens,
    layer: usize,
    stream: &Tensor,
    wanted: PosSlice,
) -> Result<Tensor> {
    let run = model.trace(tokens).start_at(layer, stream).logits(wanted).run()?;
    Ok(run.logits()?.shallow_clone())
}

//! A run that keeps, of each watched point, only what a tool needs of it.

use std::cell::RefCell;

use arrakis_core::{Cache, HookPoint, Model, ModelExt, PosSlice, Result, Run, Tokens, edit};
use tch::Tensor;

/// Runs over `tokens` and keeps `reduction` of the value at each of `points`.
pub(crate) fn reduce(
    model: &dyn Model,
    tokens: &Tokens,
    logits: PosSlice,
    points: &[HookPoint],
    reduction: impl Fn(HookPoint, &Tensor) -> Result<Tensor>,
) -> Result<(Run, Cache)> {
    let kept = RefCell::new(Cache::new());
    let look = |point: HookPoint, value: &Tensor| {
        kept.borrow_mut().insert(point, reduction(point, value)?);
        Ok(value.shallow_clone())
    };
    let trace = model.trace(tokens).logits(logits);
    let run = points.iter().fold(trace, |trace, point| trace.edit(*point, edit::at_point(&look))).run()?;
    Ok((run, kept.into_inner()))
}

//! Edits: what a run changes at a hook point. They compose, and none works in place.

use tch::Tensor;

use crate::{AxisKind, Error, HookPoint, Result};

type Change<'a> = Box<dyn FnMut(HookPoint, &Tensor) -> Result<Tensor> + 'a>;

/// A change of the value at a hook point, which keeps its shape, kind and device.
pub struct Edit<'a>(Change<'a>);

impl<'a> Edit<'a> {
    /// The edited value.
    pub fn apply(&mut self, point: HookPoint, value: &Tensor) -> Result<Tensor> {
        let edited = (self.0)(point, value)?;
        let (before, after) = (describe(value), describe(&edited));
        if before == after { Ok(edited) } else { Err(Error::EditChanged { point, before, after }) }
    }

    /// This edit, then `next` on what it gives.
    #[must_use]
    pub fn then(mut self, mut next: Edit<'a>) -> Self {
        Self(Box::new(move |point, value| next.apply(point, &self.apply(point, value)?)))
    }
}

fn describe(value: &Tensor) -> String {
    format!("{:?} {:?} on {:?}", value.size(), value.kind(), value.device())
}

/// Any change: `edit::with(|value| Ok(value * 2.0))`.
pub fn with<'a>(mut change: impl FnMut(&Tensor) -> Result<Tensor> + 'a) -> Edit<'a> {
    Edit(Box::new(move |_, value| change(value)))
}

/// Any change that also depends on the point.
pub fn at_point<'a>(change: impl FnMut(HookPoint, &Tensor) -> Result<Tensor> + 'a) -> Edit<'a> {
    Edit(Box::new(change))
}

/// The value as it is.
#[must_use]
pub fn identity<'a>() -> Edit<'a> {
    with(|value| Ok(value.shallow_clone()))
}

/// Zeros.
#[must_use]
pub fn zero<'a>() -> Edit<'a> {
    with(|value| Ok(value.f_zeros_like()?))
}

/// The value times a factor.
#[must_use]
pub fn scale<'a>(factor: f64) -> Edit<'a> {
    with(move |value| Ok(value.f_mul_scalar(factor)?))
}

/// The value plus a tensor that broadcasts to it (a steering vector, say), in the value's kind.
#[must_use]
pub fn add<'a>(term: &Tensor) -> Edit<'a> {
    let term = term.shallow_clone();
    with(move |value| Ok(value.f_add(&term.f_to_kind(value.kind())?)?))
}

/// A tensor that broadcasts to the value, in its place.
#[must_use]
pub fn set<'a>(replacement: &Tensor) -> Edit<'a> {
    let replacement = replacement.shallow_clone();
    with(move |value| Ok(replacement.f_to_kind(value.kind())?.f_expand_as(value)?.f_contiguous()?))
}

/// The mean over batch and positions, in the place of every entry (mean ablation).
#[must_use]
pub fn mean<'a>() -> Edit<'a> {
    at_point(|point, value| {
        let over: Vec<i64> = [Some(0), point.site.pos_dimension()].into_iter().flatten().map(|d| d as i64).collect();
        Ok(value.f_mean_dim(&over[..], true, value.kind())?.f_expand_as(value)?.f_contiguous()?)
    })
}

/// `edit` on one head only; an error where the point has no heads or not that many.
#[must_use]
pub fn head(head: usize, edit: Edit<'_>) -> Edit<'_> {
    on_slice("head", head as i64, edit, |point| point.site.head_dimension())
}

/// `edit` on one position only (for scores and patterns: one query); negative positions count from the end.
#[must_use]
pub fn position(position: i64, edit: Edit<'_>) -> Edit<'_> {
    on_slice("position", position, edit, |point| point.site.pos_dimension())
}

/// `edit` on one key position only, of scores and patterns; negative positions count from the end.
#[must_use]
pub fn key(key: i64, edit: Edit<'_>) -> Edit<'_> {
    on_slice("key", key, edit, |point| point.site.dimension(AxisKind::Key))
}

/// `edit` on one neuron only.
#[must_use]
pub fn neuron(neuron: usize, edit: Edit<'_>) -> Edit<'_> {
    on_slice("neuron", neuron as i64, edit, |point| point.site.dimension(AxisKind::DMlp))
}

/// `edit` on one row of the batch only.
#[must_use]
pub fn row(row: usize, edit: Edit<'_>) -> Edit<'_> {
    on_slice("row", row as i64, edit, |_| Some(0))
}

/// `edit` on the slice at `index` of a dimension, which keeps its length 1 there; the rest flows on as it is.
fn on_slice<'a>(
    what: &'static str,
    index: i64,
    mut edit: Edit<'a>,
    dimension: impl Fn(HookPoint) -> Option<usize> + 'a,
) -> Edit<'a> {
    at_point(move |point, value| {
        let dimension =
            dimension(point).ok_or_else(|| Error::Edit { point, why: format!("wants a {what}, and there is none") })?;
        let len = value.size()[dimension];
        let place = if index < 0 { index + len } else { index };
        if !(0..len).contains(&place) {
            return Err(Error::OutOfRange { what: format!("{what} of `{point}`:"), index, len });
        }
        let dimension = dimension as i64;
        let edited = edit.apply(point, &value.f_narrow(dimension, place, 1)?)?;
        Ok(value.f_slice_scatter(&edited, dimension, place, place + 1, 1)?)
    })
}

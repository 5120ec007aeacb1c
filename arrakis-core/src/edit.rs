//! Edits: what a run changes at a hook point. They compose, and none works in place.

use std::cell::{Cell, RefCell};

use tch::Tensor;

use crate::{AxisKind, Error, HookPoint, Result};

type Change<'a> = Box<dyn FnMut(&Moment<'_>, &Tensor) -> Result<Tensor> + 'a>;

/// The text that a pass is a part of: what the positions of edits count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Text {
    /// The pass sees it whole.
    #[default]
    Whole,
    /// The pass sees it from position `first` to its end at `len`.
    End {
        /// The place of the pass' first position in the text.
        first: i64,
        /// Positions of the text.
        len: i64,
    },
    /// The pass sees a part from position `first` on, and more will follow.
    Growing {
        /// The place of the pass' first position in the text.
        first: i64,
    },
}

impl Text {
    const fn first(self) -> i64 {
        match self {
            Self::Whole => 0,
            Self::End { first, .. } | Self::Growing { first } => first,
        }
    }
}

/// When and where an edit is made: a hook point, the text, and the slice that outer edits have chosen.
pub struct Moment<'m> {
    point: HookPoint,
    text: Text,
    /// Where dimensions that are cut begin, counted in the whole text.
    slices: Vec<(usize, i64)>,
    reached: &'m Cell<bool>,
}

/// A change of the value at a hook point, which keeps its shape, kind and device.
pub struct Edit<'a> {
    change: Change<'a>,
    /// Positions that it changes nothing before; negative ones count from the end.
    from: Vec<i64>,
    /// What it puts in the place of the whole value, where it does not look at that.
    whole: Option<Tensor>,
    reached: bool,
}

impl<'a> Edit<'a> {
    fn new(change: impl FnMut(&Moment<'_>, &Tensor) -> Result<Tensor> + 'a) -> Self {
        Self { change: Box::new(change), from: vec![0], whole: None, reached: false }
    }

    /// The edited value, of a pass that sees the whole text.
    pub fn apply(&mut self, point: HookPoint, value: &Tensor) -> Result<Tensor> {
        self.apply_in(Text::Whole, point, value)
    }

    /// The edited value, of a pass that sees a part of the text.
    pub fn apply_in(&mut self, text: Text, point: HookPoint, value: &Tensor) -> Result<Tensor> {
        let reached = Cell::new(false);
        let edited = self.apply_at(&Moment { point, text, slices: Vec::new(), reached: &reached }, value)?;
        self.reached |= reached.get();
        Ok(edited)
    }

    fn apply_at(&mut self, moment: &Moment<'_>, value: &Tensor) -> Result<Tensor> {
        let edited = (self.change)(moment, value)?;
        let (before, after) = (describe(value), describe(&edited));
        if before == after { Ok(edited) } else { Err(Error::EditChanged { point: moment.point, before, after }) }
    }

    /// This edit, then `next` on what it gives.
    #[must_use]
    pub fn then(mut self, mut next: Edit<'a>) -> Self {
        let from = [&self.from[..], &next.from].concat();
        let change = move |moment: &Moment<'_>, value: &Tensor| {
            let first = self.apply_at(moment, value)?;
            next.apply_at(moment, &first)
        };
        Self { from, ..Self::new(change) }
    }

    /// The first position of a text of `len` positions that this edit may change.
    #[must_use]
    pub fn first_position(&self, len: i64) -> i64 {
        let place = |position: &i64| if *position < 0 { position + len } else { *position };
        self.from.iter().map(place).min().unwrap_or(0).max(0)
    }

    /// What this edit puts in the place of the value whatever comes in, of a pass that sees `text`; none if it looks at that.
    pub(crate) fn replacement(&mut self, text: Text, point: HookPoint) -> Result<Option<Tensor>> {
        let (Some(whole), Some(dimension)) = (&self.whole, point.site.dimension(AxisKind::Pos)) else {
            return Ok(None);
        };
        self.reached = true;
        let first = text.first();
        Ok(Some(whole.f_narrow(dimension as i64, first, whole.size()[dimension] - first)?))
    }

    /// Whether the edit puts something in the place of the value whatever comes in, of a pass that sees `text`.
    pub(crate) fn replaces(&self, text: Text) -> bool {
        self.whole.is_some() && self.from.iter().all(|from| (0..=text.first()).contains(from))
    }

    /// Whether the edit has met what it changes: an edit of one position may lie outside a part of a text.
    #[must_use]
    pub const fn reached(&self) -> bool {
        self.reached
    }
}

fn describe(value: &Tensor) -> String {
    format!("{:?} {:?} on {:?}", value.size(), value.kind(), value.device())
}

/// Any change: `edit::with(|value| Ok(value * 2.0))`.
pub fn with<'a>(mut change: impl FnMut(&Tensor) -> Result<Tensor> + 'a) -> Edit<'a> {
    at_point(move |_, value| change(value))
}

/// Any change that also depends on the point.
pub fn at_point<'a>(mut change: impl FnMut(HookPoint, &Tensor) -> Result<Tensor> + 'a) -> Edit<'a> {
    Edit::new(move |moment, value| {
        moment.reached.set(true);
        change(moment.point, value)
    })
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

/// The value plus what a tensor of the whole text's shape has at the same place: noise that is drawn once, say.
#[must_use]
pub fn add_within<'a>(term: &Tensor) -> Edit<'a> {
    let mut term = patch(term);
    Edit::new(move |moment, value| Ok(value.f_add(&term.apply_at(moment, value)?)?))
}

/// A tensor that broadcasts to the value, in its place.
#[must_use]
pub fn set<'a>(replacement: &Tensor) -> Edit<'a> {
    let replacement = replacement.shallow_clone();
    with(move |value| Ok(replacement.f_to_kind(value.kind())?.f_expand_as(value)?.f_contiguous()?))
}

/// What another run had at the same place (activation patching), in the value's kind.
///
/// `source` is that run's whole value at the point, of the shape that a pass over the whole text has there; within
/// [`head`], [`position`] and their like it is cut as the value is: `edit::head(6, edit::patch(&clean.cache[point]))`.
#[must_use]
pub fn patch<'a>(source: &Tensor) -> Edit<'a> {
    let (source, whole) = (source.shallow_clone(), Some(source.shallow_clone()));
    let change = move |moment: &Moment<'_>, value: &Tensor| {
        moment.reached.set(true);
        let mut replacement = source.shallow_clone();
        let axes = moment.point.site.axes();
        for (dimension, wanted) in value.size().into_iter().enumerate() {
            let there = source.size().get(dimension).copied().unwrap_or(0);
            let sliced = moment.slices.iter().find(|(cut, _)| *cut == dimension).map(|(_, place)| *place);
            let runs_over_pos = matches!(axes.get(dimension), Some(AxisKind::Pos | AxisKind::Query));
            let start = sliced.unwrap_or(if runs_over_pos { moment.text.first() } else { 0 });
            let whole = sliced.is_some() || runs_over_pos || there == wanted;
            if !whole || start + wanted > there || source.dim() != value.dim() {
                let why = format!(
                    "takes values from a run of shape {:?}, which has none for {:?}",
                    source.size(),
                    value.size()
                );
                return Err(Error::Edit { point: moment.point, why });
            }
            replacement = replacement.f_narrow(dimension as i64, start, wanted)?;
        }
        Ok(replacement.f_to_kind(value.kind())?.f_to_device(value.device())?.f_contiguous()?)
    };
    Edit { whole, ..Edit::new(change) }
}

/// The mean over batch and positions, in the place of every entry (mean ablation).
#[must_use]
pub fn mean<'a>() -> Edit<'a> {
    Edit::new(|moment, value| {
        moment.reached.set(true);
        if moment.text != Text::Whole && moment.text.first() > 0 || matches!(moment.text, Text::Growing { .. }) {
            let why = "is a mean over positions, of which this run sees a part only".into();
            return Err(Error::Edit { point: moment.point, why });
        }
        let dimensions = [Some(0), moment.point.site.pos_dimension()];
        let over: Vec<i64> = dimensions.into_iter().flatten().map(|dimension| dimension as i64).collect();
        Ok(value.f_mean_dim(&over[..], true, value.kind())?.f_expand_as(value)?.f_contiguous()?)
    })
}

/// An edit that is lent to a run, so that the next run can have it too.
#[must_use]
pub fn lent<'a>(edit: &'a RefCell<Edit<'_>>) -> Edit<'a> {
    let from = edit.borrow().from.clone();
    let change = move |moment: &Moment<'_>, value: &Tensor| {
        let mut edit = edit.borrow_mut();
        let edited = edit.apply_at(moment, value)?;
        edit.reached |= moment.reached.get();
        Ok(edited)
    };
    Edit { from, ..Edit::new(change) }
}

/// `edit` on one head only; an error where the point has no heads or not that many.
#[must_use]
pub fn head(head: usize, edit: Edit<'_>) -> Edit<'_> {
    on_slice("head", head as i64, edit, |point| point.site.head_dimension())
}

/// `edit` on one position only (for scores and patterns: one query); negative positions count from the end.
#[must_use]
pub fn position(position: i64, edit: Edit<'_>) -> Edit<'_> {
    let edit = on_slice("position", position, edit, |point| point.site.pos_dimension());
    Edit { from: vec![position], ..edit }
}

/// `edit` on the positions from `position` on only (for scores and patterns: queries); a negative one counts from the end.
#[must_use]
pub fn from_position(position: i64, mut edit: Edit<'_>) -> Edit<'_> {
    let whole = edit.whole.as_ref().map(Tensor::shallow_clone);
    let change = move |moment: &Moment<'_>, value: &Tensor| {
        let point = moment.point;
        let dimension = point.site.pos_dimension();
        let dimension =
            dimension.ok_or_else(|| Error::Edit { point, why: "wants positions, and there are none".into() })?;
        let (first, here) = (moment.text.first(), value.size()[dimension]);
        let whole = if position < 0 {
            place("position", position, moment, dimension, here)?.map_or(position + first + here, |(_, whole)| whole)
        } else {
            position
        };
        let start = (whole - first).max(0);
        if start >= here {
            if moment.text == Text::Whole {
                let what = format!("position of `{point}`:");
                return Err(Error::OutOfRange { what, index: position, len: here });
            }
            return Ok(value.shallow_clone());
        }
        let slices = [&moment.slices[..], &[(dimension, first + start)]].concat();
        let inner = Moment { slices, ..*moment };
        let edited = edit.apply_at(&inner, &value.f_narrow(dimension as i64, start, here - start)?)?;
        Ok(value.f_slice_scatter(&edited, dimension as i64, start, here, 1)?)
    };
    Edit { from: vec![position], whole, ..Edit::new(change) }
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
    let from = edit.from.clone();
    let change = move |moment: &Moment<'_>, value: &Tensor| {
        let point = moment.point;
        let dimension =
            dimension(point).ok_or_else(|| Error::Edit { point, why: format!("wants a {what}, and there is none") })?;
        let Some((place, whole)) = place(what, index, moment, dimension, value.size()[dimension])? else {
            return Ok(value.shallow_clone());
        };
        let slices = [&moment.slices[..], &[(dimension, whole)]].concat();
        let inner = Moment { slices, ..*moment };
        let dimension = dimension as i64;
        let edited = edit.apply_at(&inner, &value.f_narrow(dimension, place, 1)?)?;
        Ok(value.f_slice_scatter(&edited, dimension, place, place + 1, 1)?)
    };
    Edit { from, ..Edit::new(change) }
}

/// The place of an index in the value and in the whole text; none where this part of the text does not have it.
fn place(what: &str, index: i64, moment: &Moment<'_>, dimension: usize, here: i64) -> Result<Option<(i64, i64)>> {
    let axis = moment.point.site.axes().get(dimension);
    let positional = matches!(axis, Some(AxisKind::Pos | AxisKind::Query | AxisKind::Key));
    let first = if matches!(axis, Some(AxisKind::Pos | AxisKind::Query)) { moment.text.first() } else { 0 };
    let len = match moment.text {
        Text::Growing { .. } if positional && index < 0 => {
            let why = format!("counts its {what} from the end, and a growing text has none");
            return Err(Error::Edit { point: moment.point, why });
        }
        Text::Growing { .. } if positional => i64::MAX,
        _ => first + here,
    };
    let whole = if index < 0 { index + len } else { index };
    if !(0..len).contains(&whole) {
        return Err(Error::OutOfRange { what: format!("{what} of `{}`:", moment.point), index, len });
    }
    let place = whole - first;
    Ok((0..here).contains(&place).then_some((place, whole)))
}

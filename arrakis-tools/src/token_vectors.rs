//! Activations as vectors: one for each real token, at points chosen by name.

use std::cell::RefCell;

use arrakis_core::{
    AxisKind, Context, Error, HookPoint, Model, ModelExt, PosSlice, Result, Selector, Site, Tokens, Trace, Window, edit,
};
use tch::{Kind, Tensor};

use crate::corpus_pass::{Batch, CorpusPass};
use crate::index;

/// The points of that printed name, in which `*` stands for anything, each with a vector for every token.
pub(crate) fn points(model: &dyn Model, name: &str) -> Result<Vec<HookPoint>> {
    let points = Selector::from(name).resolve(model.points())?;
    points.iter().try_for_each(|point| width(model, *point).map(drop))?;
    Ok(points)
}

/// The one point of that printed name.
pub(crate) fn point(model: &dyn Model, name: &str) -> Result<HookPoint> {
    let points = points(model, name)?;
    if let [point] = points[..] {
        return Ok(point);
    }
    let why = format!("it names {} points where one is wanted; `{}` is one", points.len(), points[0]);
    Err(Error::Invalid { what: format!("point `{name}`"), why })
}

/// The numbers of a token's vector at a point: heads are laid side by side.
pub(crate) fn width(model: &dyn Model, point: HookPoint) -> Result<usize> {
    let axes = point.site.axes();
    let by_token = axes.len() > 2 && axes[..2] == [AxisKind::Batch, AxisKind::Pos];
    if !by_token {
        let why = "it has no vector for each token; choose a point like `blocks.0.hook_resid_post`".into();
        return Err(Error::Invalid { what: format!("point `{point}`"), why });
    }
    Ok(point.shape(model.dims(), 1, 1).iter().product::<i64>() as usize)
}

/// What a direction at a point writes to the residual stream, if the point is read by one linear map or none.
///
/// `directions` are `[direction, width]` in double; the result is `[direction, d_model]`.
pub(crate) fn written(model: &dyn Model, point: HookPoint, directions: &Tensor) -> Result<Option<Tensor>> {
    use arrakis_core::Weight;
    let out = match (point.site, point.layer) {
        (site, _) if site.axes() == Site::RESID_PRE.axes() => return Ok(Some(directions.shallow_clone())),
        (site, Some(layer)) if site == Site::MLP_POST => model.weight(Weight::OUT.at(layer))?,
        (site, Some(layer)) if site == Site::Z => model.weight(Weight::O.at(layer))?.f_flatten(0, 1)?,
        _ => return Ok(None),
    };
    Ok(Some(directions.f_matmul(&out.f_to_kind(Kind::Double)?)?))
}

/// The vectors of the chosen places of a value `[batch, pos, …]`, in double: `[token, width]`; an error if one is not finite.
pub(crate) fn of_places(point: HookPoint, value: &Tensor, places: &Tensor) -> Result<Tensor> {
    let flat = value.f_flatten(0, 1)?.f_index_select(0, &places.f_to_device(value.device())?)?;
    let vectors = flat.f_flatten(1, -1)?.f_to_kind(Kind::Double)?;
    if vectors.f_isfinite()?.f_all()?.f_int64_value(&[])? == 0 {
        let why = "they hold NaN or infinities; look for the first such layer, and at the weights there".into();
        return Err(Error::Invalid { what: format!("activations at `{point}`"), why });
    }
    Ok(vectors)
}

/// Runs as far as the last of `points` and hands the vectors of the places (`[token, width]`) to `take`, point by point.
pub(crate) fn read_places(
    model: &dyn Model,
    tokens: &Tokens,
    places: &Tensor,
    points: &[HookPoint],
    take: impl FnMut(HookPoint, Tensor) -> Result<()>,
) -> Result<()> {
    let take = RefCell::new(take);
    let look = |point: HookPoint, value: &Tensor| {
        (*take.borrow_mut())(point, of_places(point, value, places)?)?;
        Ok(value.shallow_clone())
    };
    let trace = as_far_as(model, model.trace(tokens).logits(PosSlice::None), points);
    points.iter().fold(trace, |trace, point| trace.edit(*point, edit::at_point(&look))).run()?;
    Ok(())
}

/// As [`read_places`], for every real token of a batch.
pub(crate) fn read(
    model: &dyn Model,
    batch: &Batch<'_>,
    points: &[HookPoint],
    take: impl FnMut(HookPoint, Tensor) -> Result<()>,
) -> Result<()> {
    read_places(model, &batch.tokens, &batch.places, points, take)
}

/// The vectors of a window that is read alone: `[token, width]`.
pub(crate) fn read_alone(model: &dyn Model, window: &Window, point: HookPoint) -> Result<Tensor> {
    let mut found = None;
    read(model, &Batch::of(std::slice::from_ref(window), 0, 0)?, &[point], |_, vectors| {
        found = Some(vectors);
        Ok(())
    })?;
    found.ok_or_else(|| Error::NotKept { point: point.to_string() })
}

/// The vectors at one position of each text, which counts its tokens, at each point: `[text, width]`.
pub(crate) fn at_position(
    cx: &Context<'_>,
    texts: &[Vec<i64>],
    position: Option<i64>,
    points: &[HookPoint],
) -> Result<Vec<Tensor>> {
    by_text(cx, texts, points, |vectors, starts, lengths| {
        let place = |(start, len): (&i64, &i64)| Ok(start + index::position(position.unwrap_or(-1), *len as usize)?);
        let places = starts.iter().zip(lengths).map(place).collect::<Result<Vec<i64>>>()?;
        Ok(vectors.f_index_select(0, &Tensor::f_from_slice(&places)?.f_to_device(vectors.device())?)?)
    })
}

/// The mean of the vectors of each text at each point: `[text, width]`.
pub(crate) fn means(cx: &Context<'_>, texts: &[Vec<i64>], points: &[HookPoint]) -> Result<Vec<Tensor>> {
    by_text(cx, texts, points, |vectors, starts, lengths| {
        let mean = |(start, len): (&i64, &i64)| Ok(vectors.f_narrow(0, *start, *len)?.f_mean_dim(0, false, None)?);
        Ok(Tensor::f_stack(&starts.iter().zip(lengths).map(mean).collect::<Result<Vec<_>>>()?, 0)?)
    })
}

/// One vector of each text at each point, from the vectors of all its tokens: `[text, width]`.
///
/// `pick` gets the vectors of several texts (`[token, width]`), where each begins, and how long it is.
fn by_text(
    cx: &Context<'_>,
    texts: &[Vec<i64>],
    points: &[HookPoint],
    pick: impl Fn(&Tensor, &[i64], &[i64]) -> Result<Tensor>,
) -> Result<Vec<Tensor>> {
    let mut found: Vec<Vec<Tensor>> = points.iter().map(|_| Vec::new()).collect();
    let widths = points.iter().map(|point| width(cx.model(), *point)).collect::<Result<Vec<_>>>()?;
    let pass = CorpusPass::of_texts(cx, texts, 2 * widths.into_iter().max().unwrap_or(1));
    let mut read_as = vec![0_i64; texts.len()];
    let mut done = 0;
    pass.each(cx, |batch| {
        let lengths: Vec<i64> = batch.windows.iter().map(|window| window.ids.len() as i64).collect();
        let starts = lengths.iter().scan(0, |next, len| Some(std::mem::replace(next, *next + len)));
        let starts: Vec<i64> = starts.collect();
        for window in batch.windows {
            read_as[window.document] = done;
            done += 1;
        }
        read(cx.model(), batch, points, |point, vectors| {
            let place = points.iter().position(|known| *known == point).unwrap_or(0);
            found[place].push(pick(&vectors, &starts, &lengths)?);
            Ok(())
        })
    })?;
    // Texts are read by length, and given in their own order.
    let order = Tensor::f_from_slice(&read_as)?.f_to_device(cx.model().device())?;
    found.iter().map(|parts| Ok(Tensor::f_cat(parts, 0)?.f_index_select(0, &order)?)).collect()
}

/// The same trace, ended after the last layer of `points` if none lies behind the blocks.
fn as_far_as<'a>(
    model: &dyn Model,
    trace: Trace<'a, dyn Model + 'a>,
    points: &[HookPoint],
) -> Trace<'a, dyn Model + 'a> {
    let known = model.points();
    let first_block = known.iter().position(|point| point.layer.is_some()).unwrap_or(0);
    let before = |point: &HookPoint| known.iter().position(|known| known == point).is_some_and(|at| at < first_block);
    let ends = points.iter().map(|point| match point.layer {
        Some(layer) => Some(layer + 1),
        None => before(point).then_some(0),
    });
    match ends.collect::<Option<Vec<usize>>>().and_then(|ends| ends.into_iter().max()) {
        Some(end) => trace.stop_at(end),
        None => trace,
    }
}

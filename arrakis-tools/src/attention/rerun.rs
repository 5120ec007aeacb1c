//! A run done again from a layer on with one change at a time, several changes to a pass.

use arrakis_core::{
    Cache, Context, Dims, HookPoint, Measure, Metric, ModelExt, PosSlice, Result, Site, Tokens, Trace, edit,
};
use tch::{Device, Kind, Tensor};

use crate::measured;

/// The bytes of activations of a pass where no bound is given: more than the caches gain nothing on a CPU.
const CPU_BYTES: u64 = 256 << 20;
const GPU_BYTES: u64 = 2 << 30;

/// A run, and the means to do it again.
pub(super) struct Rerun<'a> {
    tokens: &'a Tokens,
    /// The residual stream before each block that a pass may start at.
    stream: Cache,
    measure: Measure,
    /// The metric of the run as it is, a mean over the rows.
    pub(super) before: f64,
}

impl<'a> Rerun<'a> {
    /// Runs `tokens` and keeps the stream before each of `layers`.
    pub(super) fn of(cx: &Context<'_>, tokens: &'a Tokens, metric: &Metric, layers: &[usize]) -> Result<Self> {
        let measure = metric.prepare(cx.model(), tokens)?;
        let trace = cx.model().trace(tokens).logits(measure.wanted());
        let run = layers.iter().map(|layer| Site::RESID_PRE.at(*layer)).fold(trace, Trace::keep).run()?;
        let before = measured::mean(&measure, run.logits()?)?;
        Ok(Self { tokens, stream: run.cache, measure, before })
    }

    /// The metric of `count` runs from `layer` on, in each of which `point` is changed in another way.
    ///
    /// `change` gets the numbers of some runs and the value at the point as it is (`[run, row, …]`), and gives the
    /// changed one.
    pub(super) fn changed(
        &self,
        cx: &Context<'_>,
        point: HookPoint,
        layer: usize,
        count: usize,
        change: impl Fn(&[usize], &Tensor) -> Result<Tensor>,
    ) -> Result<Vec<f64>> {
        let stream = self.stream.get(Site::RESID_PRE.at(layer))?;
        let limit = cx.memory_limit().unwrap_or(match cx.model().device() {
            Device::Cpu => CPU_BYTES,
            _ => GPU_BYTES,
        });
        let pack = (limit / self.bytes(cx.model().dims(), cx.model().kind())).max(1) as usize;
        let rows = self.tokens.batch() as i64;
        let numbers: Vec<usize> = (0..count).collect();
        let mut values = Vec::with_capacity(count);
        for numbers in numbers.chunks(pack) {
            cx.cancelled()?;
            let copies = numbers.len() as i64;
            let edit = edit::with(|value| {
                let whole = value.size();
                let stacked = [&[copies, rows][..], &whole[1..]].concat();
                Ok(change(numbers, &value.f_reshape(&stacked[..])?)?.f_reshape(whole)?)
            });
            let (tokens, stream) = (repeated(self.tokens, copies)?, times(stream, copies)?);
            let trace = cx.model().trace(&tokens).start_at(layer, &stream).edit(point, edit);
            let run = trace.logits(self.measure.wanted()).run()?;
            for copy in 0..copies {
                values.push(measured::mean(&self.measure, &run.logits()?.f_narrow(0, copy * rows, rows)?)?);
            }
        }
        Ok(values)
    }

    /// The metric of one run from the first of `layers` on, in all of which `site` is changed.
    pub(super) fn changed_in(
        &self,
        cx: &Context<'_>,
        site: Site,
        layers: &[usize],
        change: impl Fn(&Tensor) -> Result<Tensor>,
    ) -> Result<f64> {
        cx.cancelled()?;
        let Some(first) = layers.iter().min() else { return Ok(self.before) };
        let stream = self.stream.get(Site::RESID_PRE.at(*first))?;
        let trace = cx.model().trace(self.tokens).start_at(*first, stream).logits(self.measure.wanted());
        let run = layers.iter().fold(trace, |trace, layer| trace.edit(site.at(*layer), edit::with(&change))).run()?;
        measured::mean(&self.measure, run.logits()?)
    }

    /// About how many bytes one run of the rows holds at once in a pass.
    fn bytes(&self, dims: &Dims, kind: Kind) -> u64 {
        let pos = self.tokens.positions();
        let wanted = if self.measure.wanted() == PosSlice::Last { 1 } else { pos };
        let stream = pos * (8 * dims.d_model + 4 * dims.d_mlp + 4 * dims.n_heads * dims.d_head);
        let numbers = stream + 3 * dims.n_heads * pos * pos + 3 * wanted * dims.vocab;
        (self.tokens.batch() * numbers * kind.elt_size_in_bytes()).max(1) as u64
    }
}

/// The rows once for each copy, one copy after the other.
fn repeated(tokens: &Tokens, copies: i64) -> Result<Tokens> {
    let ids = Tokens::from_tensor(&times(tokens.ids(), copies)?)?;
    match tokens.mask() {
        Some(mask) => ids.with_mask(&times(mask, copies)?),
        None => Ok(ids),
    }
}

fn times(value: &Tensor, copies: i64) -> Result<Tensor> {
    let mut repeats = vec![1; value.dim()];
    repeats[0] = copies;
    Ok(value.f_repeat(repeats)?)
}

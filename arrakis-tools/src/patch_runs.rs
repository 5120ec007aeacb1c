//! A corrupted run done again with clean activations, several patches to a pass.

use arrakis_core::{
    Cache, Context, Dims, HookPoint, Measure, Metric, ModelExt, PosSlice, Result, Site, Tokens, Trace, answer, edit,
};
use tch::{Device, Kind, Tensor};

/// The bytes of activations of a pass where no bound is given: more than the caches gain nothing on a CPU.
const CPU_BYTES: u64 = 256 << 20;
const GPU_BYTES: u64 = 2 << 30;

/// One patch of a point: which head and which position; all of them if absent.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Slot {
    pub(crate) head: Option<usize>,
    pub(crate) position: Option<usize>,
}

impl Slot {
    /// The whole activation.
    pub(crate) const EVERY: Self = Self { head: None, position: None };

    fn covers(self, head: usize, position: usize) -> bool {
        self.head.is_none_or(|own| own == head) && self.position.is_none_or(|own| own == position)
    }
}

/// A clean and a corrupted run, and the means to do the corrupted one again.
pub(crate) struct PatchRuns<'a> {
    tokens: &'a Tokens,
    /// Values of the clean run at the points to be patched.
    source: Cache,
    /// Values of the corrupted run at the same points, and before each block that a pass may start at.
    base: Cache,
    measure: Measure,
    /// The metric of the clean run.
    pub(crate) clean: f64,
    /// The metric of the corrupted run.
    pub(crate) corrupted: f64,
}

impl<'a> PatchRuns<'a> {
    /// Runs both prompts and keeps what patches of `sites` in `layers` need.
    pub(crate) fn of(
        cx: &Context<'a>,
        clean: &Tokens,
        corrupted: &'a Tokens,
        metric: &Metric,
        sites: &[Site],
        layers: &[usize],
    ) -> Result<Self> {
        let model = cx.model();
        let measure = metric.prepare(model, clean)?;
        let at = |site: Site| layers.iter().map(move |layer| site.at(*layer));
        let points: Vec<HookPoint> = sites.iter().copied().flat_map(at).chain([Site::RESID_PRE.at(0)]).collect();
        let trace = model.trace(clean).logits(measure.wanted());
        let run = points.iter().copied().fold(trace, Trace::keep).run()?;
        let clean = mean(&measure, run.logits()?)?;
        let source = run.cache;

        let measure = metric.prepare(model, corrupted)?;
        let trace = model.trace(corrupted).logits(measure.wanted());
        let run = points.into_iter().chain(at(Site::RESID_PRE)).fold(trace, Trace::keep).run()?;
        let value = mean(&measure, run.logits()?)?;
        Ok(Self { tokens: corrupted, source, base: run.cache, measure, clean, corrupted: value })
    }

    /// The metric of the corrupted run with each of the `slots` of a point patched, one at a time.
    ///
    /// Where both runs hold the same value, as they do before the first token that differs, nothing is run.
    pub(crate) fn patched(&self, cx: &Context<'_>, site: Site, layer: usize, slots: &[Slot]) -> Result<Vec<f64>> {
        let point = site.at(layer);
        let differing = Differing::of(self.source.get(point)?, self.base.get(point)?)?;
        let places: Vec<usize> = (0..slots.len()).filter(|place| differing.touches(slots[*place])).collect();
        let limit = cx.memory_limit().unwrap_or(match cx.model().device() {
            Device::Cpu => CPU_BYTES,
            _ => GPU_BYTES,
        });
        let pack = (limit / self.bytes(cx.model().dims(), cx.model().kind())).max(1) as usize;
        let mut values = vec![self.corrupted; slots.len()];
        for places in places.chunks(pack) {
            cx.cancelled()?;
            let slots: Vec<Slot> = places.iter().map(|place| slots[*place]).collect();
            for (place, value) in places.iter().zip(self.pass(cx, point, layer, &slots)?) {
                values[*place] = value;
            }
        }
        Ok(values)
    }

    /// One pass: the batch holds the corrupted rows once for each slot, one after the other.
    fn pass(&self, cx: &Context<'_>, point: HookPoint, layer: usize, slots: &[Slot]) -> Result<Vec<f64>> {
        let copies = slots.len() as i64;
        let stream = self.base.get(Site::RESID_PRE.at(layer))?;
        let source = self.source.get(point)?;
        let times = |value: &Tensor| -> Result<Tensor> {
            let mut repeats = vec![1; value.dim()];
            repeats[0] = copies;
            Ok(value.f_repeat(repeats)?)
        };
        let mut tokens = Tokens::from_tensor(&times(self.tokens.ids())?)?;
        if let Some(mask) = self.tokens.mask() {
            tokens = tokens.with_mask(&times(mask)?)?;
        }
        let chosen = chosen(slots, source)?;
        let stacked = [&[copies][..], &source.size()].concat();
        let patch = edit::with(|value| {
            let patched = source.f_unsqueeze(0)?.f_where_self(&chosen, &value.f_view(&stacked[..])?)?;
            Ok(patched.f_reshape(value.size())?)
        });
        let stream = times(stream)?;
        let trace = cx.model().trace(&tokens).start_at(layer, &stream).edit(point, patch);
        let run = trace.logits(self.measure.wanted()).run()?;
        let rows = self.tokens.batch() as i64;
        (0..copies).map(|copy| mean(&self.measure, &run.logits()?.f_narrow(0, copy * rows, rows)?)).collect()
    }

    /// About how many bytes one copy of the rows holds at once in a pass.
    fn bytes(&self, dims: &Dims, kind: Kind) -> u64 {
        let pos = self.tokens.positions();
        let wanted = if self.measure.wanted() == PosSlice::Last { 1 } else { pos };
        let stream = pos * (8 * dims.d_model + 4 * dims.d_mlp + 4 * dims.n_heads * dims.d_head);
        let numbers = stream + 2 * dims.n_heads * pos * pos + 3 * wanted * dims.vocab;
        (self.tokens.batch() * numbers * kind.elt_size_in_bytes()).max(1) as u64
    }
}

/// Where the values of two runs differ in any bit: `[pos, head]`, or `[pos, 1]` for a value without heads.
struct Differing {
    cells: Vec<bool>,
    heads: usize,
}

impl Differing {
    fn of(source: &Tensor, base: &Tensor) -> Result<Self> {
        let differing = source.f_ne_tensor(base)?;
        let heads = if differing.dim() == 4 { differing.size()[2] as usize } else { 1 };
        let cells = differing.f_any_dim(-1, false)?.f_any_dim(0, false)?.f_to_device(Device::Cpu)?;
        Ok(Self { cells: Vec::try_from(cells.f_reshape([-1])?)?, heads })
    }

    fn touches(&self, slot: Slot) -> bool {
        let mut cells = self.cells.iter().enumerate();
        cells.any(|(place, differs)| *differs && slot.covers(place % self.heads, place / self.heads))
    }
}

/// Where each slot takes the clean value: `[slot, 1, pos, 1]`, or `[slot, 1, pos, head, 1]` for a value with heads.
fn chosen(slots: &[Slot], source: &Tensor) -> Result<Tensor> {
    let size = source.size();
    let (positions, heads) = (size[1] as usize, if size.len() == 4 { size[2] as usize } else { 1 });
    let cells = slots.iter().flat_map(|slot| {
        (0..positions).flat_map(move |position| (0..heads).map(move |head| slot.covers(head, position)))
    });
    let cells: Vec<bool> = cells.collect();
    let mut shape = vec![slots.len() as i64, 1];
    shape.extend(&size[1..size.len() - 1]);
    shape.push(1);
    Ok(Tensor::f_from_slice(&cells)?.f_view(&shape[..])?.f_to_device(source.device())?)
}

/// The mean of a metric over the rows.
fn mean(measure: &Measure, logits: &Tensor) -> Result<f64> {
    let values = answer::numbers(&measure.of(logits)?)?;
    Ok(values.iter().sum::<f64>() / values.len() as f64)
}

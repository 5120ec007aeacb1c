//! A described run: what to keep, what to edit, what to differentiate. It watches one pass and ends with it.

mod plan;

use std::collections::HashMap;

use tch::{Device, Tensor};

use crate::edit::{Edit, Text};
use crate::{Cache, Error, HookPoint, Hooks, Input, KeyValues, Model, Pass, PosSlice, Result, Selector, Tokens};

pub use plan::{Plan, PlannedValue};

type MetricFn<'a> = Box<dyn FnOnce(&Tensor) -> Result<Tensor> + 'a>;

enum Step<'a> {
    Keep(Selector, PosSlice),
    KeepBefore(Selector),
    Edit(Selector, Edit<'a>),
}

/// A run being described; [`run`](Trace::run) does it.
#[must_use = "a trace does nothing until it is run"]
pub struct Trace<'a, M: Model + ?Sized> {
    model: &'a M,
    tokens: &'a Tokens,
    steps: Vec<Step<'a>>,
    residual: Option<&'a Tensor>,
    start_at: usize,
    stop_at: Option<usize>,
    positions: Option<&'a Tensor>,
    past: Option<&'a KeyValues>,
    keep_past: bool,
    logits: PosSlice,
    text: Text,
    kept_on: Option<Device>,
    metric: Option<MetricFn<'a>>,
}

/// What a run gives.
#[derive(Debug)]
pub struct Run {
    /// Logits of the wanted positions, unless none were wanted or the run stopped before: `[batch, wanted, vocab]`.
    pub logits: Option<Tensor>,
    /// The residual stream where the run ended, before the final norm: `[batch, pos, d_model]`.
    pub residual: Tensor,
    /// Values that flowed on from the kept points, after the edits there.
    pub cache: Cache,
    /// Values that came in at the points of `keep_before`, before the edits there.
    pub before: Cache,
    /// The metric's gradient with respect to each kept value.
    pub gradients: Cache,
    /// The metric, if there was one.
    pub metric: Option<f64>,
    /// Keys and values of everything seen, if they were asked for.
    pub past: Option<KeyValues>,
}

impl Run {
    /// The logits (`[batch, wanted, vocab]`), or an error that says why there are none.
    pub fn logits(&self) -> Result<&Tensor> {
        self.logits.as_ref().ok_or_else(|| Error::Invalid {
            what: "logits".into(),
            why: "this run has none; it stopped before the end, or asked for `PosSlice::None`".into(),
        })
    }
}

impl<'a, M: Model + ?Sized> Trace<'a, M> {
    /// A run of `model` over `tokens` that keeps and edits nothing yet.
    pub fn new(model: &'a M, tokens: &'a Tokens) -> Self {
        Self {
            model,
            tokens,
            steps: Vec::new(),
            residual: None,
            start_at: 0,
            stop_at: None,
            positions: None,
            past: None,
            keep_past: false,
            logits: PosSlice::All,
            text: Text::Whole,
            kept_on: None,
            metric: None,
        }
    }

    /// Keeps what flows on from the chosen points, after the edits there.
    pub fn keep(self, points: impl Into<Selector>) -> Self {
        self.keep_slice(points, PosSlice::All)
    }

    /// As [`keep`](Trace::keep), at the wanted positions only (of scores and patterns: the queries).
    ///
    /// The rest is freed as the run goes on. Of a point that is chosen more than once, the last choice holds.
    pub fn keep_slice(mut self, points: impl Into<Selector>, wanted: PosSlice) -> Self {
        self.steps.push(Step::Keep(points.into(), wanted));
        self
    }

    /// Moves what is kept to `device` as it comes, so that it leaves the memory of the model's device.
    pub fn keep_on(mut self, device: Device) -> Self {
        self.kept_on = Some(device);
        self
    }

    /// Keeps what comes in at the chosen points, before the edits there.
    pub fn keep_before(mut self, points: impl Into<Selector>) -> Self {
        self.steps.push(Step::KeepBefore(points.into()));
        self
    }

    /// Edits the chosen points; edits of one point follow each other in the order given.
    pub fn edit(mut self, points: impl Into<Selector>, edit: Edit<'a>) -> Self {
        self.steps.push(Step::Edit(points.into(), edit));
        self
    }

    /// Also takes the gradient of `metric`, a single number made of the logits, with respect to every kept value.
    pub fn gradients(mut self, metric: impl FnOnce(&Tensor) -> Result<Tensor> + 'a) -> Self {
        self.metric = Some(Box::new(metric));
        self
    }

    /// Starts from the residual stream before block `layer` (`[batch, pos, d_model]`) in place of the embedding.
    pub fn start_at(mut self, layer: usize, residual: &'a Tensor) -> Self {
        self.start_at = layer;
        self.residual = Some(residual);
        self
    }

    /// Ends before block `layer`; there are no logits then.
    pub fn stop_at(mut self, layer: usize) -> Self {
        self.stop_at = Some(layer);
        self
    }

    /// The position of each token (`[batch, pos]`), in place of counting the real ones.
    pub fn positions(mut self, positions: &'a Tensor) -> Self {
        self.positions = Some(positions);
        self
    }

    /// Goes on after what was already seen.
    pub fn past(mut self, past: &'a KeyValues) -> Self {
        self.past = Some(past);
        self
    }

    /// Gives keys and values back, so that another run can go on from here.
    pub fn keep_past(mut self) -> Self {
        self.keep_past = true;
        self
    }

    /// The positions whose logits are wanted; all of them if nothing is said.
    pub fn logits(mut self, wanted: PosSlice) -> Self {
        self.logits = wanted;
        self
    }

    /// Lets the positions of edits count in the whole text, of which this run sees a part.
    pub fn part_of(mut self, text: Text) -> Self {
        self.text = text;
        self
    }

    /// Runs.
    pub fn run(self) -> Result<Run> {
        let record = self.metric.is_some();
        if record { tch::with_grad(|| self.run_once(record)) } else { self.run_once(record) }
    }

    fn run_once(self, record: bool) -> Result<Run> {
        let (mask, on) = (self.tokens.mask(), self.kept_on);
        let mut watch = Watch { record, mask, on, text: self.text, ..Watch::default() };
        let points = self.visited_points();
        for step in self.steps {
            watch.add(step, &points)?;
        }
        let output = self.model.forward(Pass {
            input: self.residual.map_or(Input::Tokens(self.tokens.ids()), Input::Residual),
            mask: self.tokens.mask(),
            positions: self.positions,
            start_at: self.start_at,
            stop_at: self.stop_at,
            past: self.past,
            keep_past: self.keep_past,
            logits: self.logits,
            hooks: &mut watch,
            record,
        })?;
        watch.all_visited()?;
        let (cache, slices) = (watch.kept, watch.cuts);
        let mut run = Run {
            logits: output.logits,
            residual: output.residual,
            cache,
            before: watch.before,
            gradients: Cache::new(),
            metric: None,
            past: output.past,
        };
        if let Some(metric) = self.metric {
            run.differentiate(metric)?;
            // A gradient wants the value that flowed on, so what is kept is cut only now.
            let cut = |point: HookPoint, value: &Tensor| {
                finish(point, value, slices.get(&point).unwrap_or(&PosSlice::All), mask, on)
            };
            run.cache = mapped(&run.cache, cut)?;
            run.gradients = mapped(&run.gradients, cut)?;
        }
        Ok(run)
    }

    /// The points that a pass from `start_at` to `stop_at` meets.
    fn visited_points(&self) -> Vec<HookPoint> {
        let layers = self.start_at..self.stop_at.unwrap_or(usize::MAX);
        let points = self.model.points();
        let first_block = points.iter().position(|point| point.layer.is_some()).unwrap_or(0);
        let visited = |(place, point): &(usize, &HookPoint)| match point.layer {
            Some(layer) => layers.contains(&layer),
            None if *place < first_block => self.residual.is_none(),
            None => self.stop_at.is_none(),
        };
        points.iter().enumerate().filter(visited).map(|(_, point)| *point).collect()
    }
}

impl Run {
    /// Fills `gradients`, and cuts everything kept from the record.
    fn differentiate(&mut self, metric: MetricFn<'_>) -> Result<()> {
        let value = metric(self.logits()?)?;
        if value.numel() != 1 {
            let why = format!("it has shape {:?} where a single number is wanted", value.size());
            return Err(Error::Invalid { what: "the metric of `.gradients`".into(), why });
        }
        let leaves: Vec<(HookPoint, &Tensor)> = self.cache.iter().filter(|(_, value)| value.requires_grad()).collect();
        if leaves.is_empty() || !value.requires_grad() {
            let why = "no kept point with a gradient leads to it; keep the points whose gradients you want".into();
            return Err(Error::Invalid { what: "the metric of `.gradients`".into(), why });
        }
        let inputs: Vec<&Tensor> = leaves.iter().map(|(_, value)| *value).collect();
        let gradients = Tensor::f_run_backward(&[&value.f_reshape([])?], &inputs, false, false)?;
        let mut found = Cache::new();
        for ((point, value), gradient) in leaves.into_iter().zip(gradients) {
            found.insert(point, if gradient.defined() { gradient } else { value.f_zeros_like()?.f_detach()? });
        }
        self.gradients = found;
        self.metric = Some(value.f_detach()?.f_to_kind(tch::Kind::Double)?.f_double_value(&[])?);
        self.logits = self.logits.take().map(|logits| logits.f_detach()).transpose()?;
        self.residual = self.residual.f_detach()?;
        self.cache = mapped(&self.cache, |_, value| Ok(value.f_detach()?))?;
        self.before = mapped(&self.before, |_, value| Ok(value.f_detach()?))?;
        Ok(())
    }
}

fn mapped(cache: &Cache, map: impl Fn(HookPoint, &Tensor) -> Result<Tensor>) -> Result<Cache> {
    let mut found = Cache::new();
    for (point, value) in cache.iter() {
        found.insert(point, map(point, value)?);
    }
    Ok(found)
}

/// The wanted positions of a value, on the wanted device.
fn finish(
    point: HookPoint,
    value: &Tensor,
    wanted: &PosSlice,
    mask: Option<&Tensor>,
    on: Option<Device>,
) -> Result<Tensor> {
    let cut = match (wanted, point.site.pos_dimension()) {
        (PosSlice::All, _) => value.shallow_clone(),
        (wanted, Some(dimension)) => wanted.of(value, dimension, mask)?,
        (_, None) => {
            let why = "has no positions to choose from; keep it whole".into();
            return Err(Error::Invalid { what: format!("`{point}`"), why });
        }
    };
    Ok(on.map_or_else(|| Ok(cut.shallow_clone()), |device| cut.f_to_device(device))?)
}

#[derive(Default)]
struct Slot {
    keep: Option<PosSlice>,
    keep_before: bool,
    edits: Vec<usize>,
    visited: bool,
}

/// The hooks of one run.
#[derive(Default)]
struct Watch<'a> {
    slots: HashMap<HookPoint, Slot>,
    edits: Vec<Edit<'a>>,
    kept: Cache,
    before: Cache,
    /// What is still to be cut of what is kept, where gradients are taken.
    cuts: HashMap<HookPoint, PosSlice>,
    mask: Option<&'a Tensor>,
    on: Option<Device>,
    text: Text,
    record: bool,
}

impl<'a> Watch<'a> {
    fn add(&mut self, step: Step<'a>, points: &[HookPoint]) -> Result<()> {
        match step {
            Step::Keep(selector, wanted) => {
                for point in selector.resolve(points)? {
                    self.slots.entry(point).or_default().keep = Some(wanted.clone());
                }
            }
            Step::KeepBefore(selector) => {
                for point in selector.resolve(points)? {
                    self.slots.entry(point).or_default().keep_before = true;
                }
            }
            Step::Edit(selector, edit) => {
                for point in selector.resolve(points)? {
                    self.slots.entry(point).or_default().edits.push(self.edits.len());
                }
                self.edits.push(edit);
            }
        }
        Ok(())
    }

    /// A point that was asked for and that the model never showed would be a silent wrong answer.
    fn all_visited(&self) -> Result<()> {
        match self.slots.iter().find(|(_, slot)| !slot.visited) {
            None => Ok(()),
            Some((point, _)) => {
                let why = "the model lists this point and did not visit it in this run".into();
                Err(Error::Invalid { what: format!("`{point}`"), why })
            }
        }
    }
}

impl Hooks for Watch<'_> {
    fn watches(&self, point: HookPoint) -> bool {
        self.slots.contains_key(&point)
    }

    fn visit(&mut self, point: HookPoint, mut value: Tensor) -> Result<Tensor> {
        let Some(slot) = self.slots.get_mut(&point) else { return Ok(value) };
        slot.visited = true;
        if slot.keep_before {
            self.before.insert(point, value.shallow_clone());
        }
        for edit in &slot.edits {
            value = self.edits[*edit].apply_in(self.text, point, &value)?;
        }
        if let Some(wanted) = &slot.keep {
            // What nothing watched leads to has no gradient yet: it becomes a leaf.
            if self.record && !value.requires_grad() && value.is_floating_point() {
                value = value.f_detach()?.f_set_requires_grad(true)?;
            }
            if self.record {
                self.kept.insert(point, value.shallow_clone());
                self.cuts.insert(point, wanted.clone());
            } else {
                self.kept.insert(point, finish(point, &value, wanted, self.mask, self.on)?);
            }
        }
        Ok(value)
    }
}

//! A sweep: the same prompt again and again, each time with other edits, compiled into few passes.
//!
//! Done one by one, a sweep runs the whole model over the whole prompt for every case. Much of that is the same work:
//! blocks before the first edit give what they gave without it, and so do positions before it. A sweep therefore runs the
//! prompt once, keeping the residual stream before each block and the keys and values; then cases join a growing batch
//! where their first edit is, block by block, and leave out the positions before it.

mod plan;
mod rows;

use std::cell::RefCell;

use tch::Tensor;

use crate::edit::{self, Edit, Text};
use crate::{Cache, Context, Error, HookPoint, Input, ModelExt, Pass, PosSlice, Result, Run, Site, Tokens};

pub use plan::SweepPlan;
use plan::{Batch, Start};
use rows::Rows;

/// One case of a sweep: the edits that it makes together.
#[derive(Default)]
pub struct Case<'a> {
    edits: Vec<(HookPoint, Edit<'a>)>,
}

impl<'a> Case<'a> {
    /// A case that changes nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The same case with one more edit; edits of one point follow each other in the order given.
    ///
    /// Positions count in the whole prompt. Within [`crate::edit::position`] and [`crate::edit::from_position`] a case
    /// leaves out the positions before.
    #[must_use]
    pub fn edit(mut self, point: HookPoint, edit: Edit<'a>) -> Self {
        self.edits.push((point, edit));
        self
    }
}

/// What one case gave.
#[derive(Debug)]
pub struct Found {
    /// Logits of the wanted positions: `[batch, wanted, vocab]`; none if the sweep stops before.
    pub logits: Option<Tensor>,
    /// The residual stream where the case ended, before the final norm, at the positions that were run: the last ones of
    /// the prompt, `[batch, pos, d_model]`.
    pub residual: Tensor,
    /// The kept points.
    pub cache: Cache,
}

impl Found {
    /// The logits (`[batch, wanted, vocab]`), or an error that says why there are none.
    pub fn logits(&self) -> Result<&Tensor> {
        self.logits.as_ref().ok_or_else(|| Error::Invalid {
            what: "logits".into(),
            why: "this sweep has none; it stops before the end, or asked for `PosSlice::None`".into(),
        })
    }
}

/// A sweep being described; [`run`](Sweep::run) does it.
#[must_use = "a sweep does nothing until it is run"]
pub struct Sweep<'a> {
    cx: Context<'a>,
    tokens: &'a Tokens,
    /// Edits that hold in every case, and in the run that cases start from.
    under: Vec<(HookPoint, RefCell<Edit<'a>>)>,
    cases: Vec<Case<'a>>,
    logits: PosSlice,
    keep: Vec<HookPoint>,
    stop_at: Option<usize>,
}

impl<'a> Sweep<'a> {
    /// A sweep over `tokens` without cases.
    pub fn new(cx: &Context<'a>, tokens: &'a Tokens) -> Self {
        let (under, cases, keep) = (Vec::new(), Vec::new(), Vec::new());
        Self { cx: *cx, tokens, under, cases, logits: PosSlice::All, keep, stop_at: None }
    }

    /// Lets an edit hold in every case, before the case's own edits of that point: noise that cases take back, say.
    ///
    /// The work that cases share is done under it.
    pub fn under(mut self, point: HookPoint, edit: Edit<'a>) -> Self {
        self.under.push((point, RefCell::new(edit)));
        self
    }

    /// Adds a case; cases are counted from 0.
    pub fn case(mut self, case: Case<'a>) -> Self {
        self.cases.push(case);
        self
    }

    /// Adds cases.
    pub fn cases(mut self, cases: impl IntoIterator<Item = Case<'a>>) -> Self {
        self.cases.extend(cases);
        self
    }

    /// The positions whose logits are wanted; all of them if nothing is said.
    pub fn logits(mut self, wanted: PosSlice) -> Self {
        self.logits = wanted;
        self
    }

    /// Keeps what flows on from a point in every case.
    pub fn keep(mut self, point: HookPoint) -> Self {
        self.keep.push(point);
        self
    }

    /// Ends before block `layer`; there are no logits then.
    pub fn stop_at(mut self, layer: usize) -> Self {
        self.stop_at = Some(layer);
        self
    }

    /// Runs; `each` gets every case once, in an order of the sweep's own.
    ///
    /// What it gets differs from a run of the case alone by rounding only.
    pub fn run(mut self, mut each: impl FnMut(usize, Found) -> Result<()>) -> Result<()> {
        let plan = self.plan()?;
        if self.cx.dry_run() {
            return Err(Error::Planned(Box::new(plan)));
        }
        if self.cases.is_empty() {
            return Ok(());
        }
        let batches = self.batches()?;
        let base = self.base(&batches)?;
        let (mut done, total) = (0, self.cases.len() as u64);
        for batch in &batches {
            self.cx.progress(done, total)?;
            self.run_batch(batch, &base, &mut each)?;
            done += batch.cases.len() as u64;
        }
        let unreached = self.cases.iter().flat_map(|case| &case.edits).find(|(_, edit)| !edit.reached());
        if let Some((point, _)) = unreached {
            let why = "lies outside what this sweep runs".into();
            return Err(Error::Edit { point: *point, why });
        }
        self.cx.progress(total, total)
    }

    /// The prompt without edits: what cases start from.
    fn base(&self, batches: &[Batch]) -> Result<Run> {
        let n_layers = self.cx.model().dims().n_layers;
        let with_past = batches.iter().any(|batch| batch.first > 0);
        let starts: Vec<usize> =
            batches.iter().flat_map(|batch| &batch.starts).map(|(start, _)| start.block()).collect();
        let last = starts.iter().copied().max().unwrap_or(0);
        let before = with_past && self.logits == PosSlice::All && self.stop_at.is_none();
        let stop = if last == n_layers || with_past { n_layers } else { last };
        let met = |point: &HookPoint| {
            point.layer.map_or_else(|| self.before_blocks(*point) || stop == n_layers, |layer| layer < stop)
        };
        let mut trace = self.cx.model().trace(self.tokens);
        for (point, edit) in self.under.iter().filter(|(point, _)| met(point)) {
            trace = trace.edit(*point, edit::lent(edit));
        }
        trace = trace.logits(if before { PosSlice::All } else { PosSlice::None });
        for layer in (0..n_layers).filter(|layer| *layer < last && starts.contains(layer)) {
            trace = trace.keep(Site::RESID_PRE.at(layer));
        }
        if with_past {
            if last < n_layers {
                trace = trace.keep(Site::RESID_PRE.at(last));
            }
            return trace.keep_past().run();
        }
        if last == n_layers { trace.run() } else { trace.stop_at(last).run() }
    }

    fn run_batch(
        &mut self,
        batch: &Batch,
        base: &Run,
        each: &mut impl FnMut(usize, Found) -> Result<()>,
    ) -> Result<()> {
        let (model, len) = (self.cx.model(), self.tokens.positions() as i64);
        let (n_layers, rows) = (model.dims().n_layers, self.tokens.batch() as i64);
        let end = self.stop_at.unwrap_or(n_layers);
        let window = len - batch.first;
        let text = if batch.first == 0 { Text::Whole } else { Text::End { first: batch.first, len } };
        let past = base.past.as_ref().filter(|_| batch.first > 0).map(|past| past.before(batch.first)).transpose()?;
        let wanted = self.logits_within(batch.first);
        let mut active: Vec<usize> = Vec::new();
        let mut stream: Option<Tensor> = None;
        let mut logits = None;
        let mut kept = Cache::new();
        for (place, (start, cases)) in batch.starts.iter().enumerate() {
            self.cx.cancelled()?;
            active.extend(cases);
            let next = batch.starts.get(place + 1).map(|(next, _)| next.block());
            let whole = |value: &Tensor, copies: usize| {
                crate::pass::repeated(&value.f_narrow(1, batch.first, window)?, copies as i64)
            };
            let copied = |copies: usize| past.as_ref().map(|past| past.copies(copies as i64)).transpose();
            let joining = if *start == Start::Text {
                let mask = self.window_mask(batch.first, cases.len())?;
                let mut hooks = Rows::new((&self.under, &mut self.cases), cases, rows, text, &self.keep);
                let ids = whole(self.tokens.ids(), cases.len())?;
                let past = copied(cases.len())?;
                let pass = Pass {
                    mask: mask.as_ref(),
                    past: past.as_ref(),
                    stop_at: Some(0),
                    ..Pass::tokens(&ids, &mut hooks)
                };
                let output = model.forward(pass)?;
                hooks.into_kept(&mut kept)?;
                output.residual
            } else {
                let block = start.block();
                let stream = base.cache.get(Site::RESID_PRE.at(block.min(n_layers - 1)));
                let stream = if block == n_layers || stream.is_err() { &base.residual } else { stream? };
                whole(stream, cases.len())?
            };
            let joined = match &stream {
                Some(stream) => Tensor::f_cat(&[stream, &joining], 0)?,
                None => joining,
            };
            let stop = next.unwrap_or(end);
            let ends = next.is_none() && self.stop_at.is_none();
            let (mask, past) = (self.window_mask(batch.first, active.len())?, copied(active.len())?);
            let mut hooks = Rows::new((&self.under, &mut self.cases), &active, rows, text, &self.keep);
            let output = model.forward(Pass {
                input: Input::Residual(&joined),
                mask: mask.as_ref(),
                past: past.as_ref(),
                stop_at: (!ends).then_some(stop),
                logits: if ends { wanted.clone() } else { PosSlice::None },
                ..Pass::residual(&joined, start.block(), &mut hooks)
            })?;
            hooks.into_kept(&mut kept)?;
            logits = output.logits;
            stream = Some(output.residual);
        }
        let residual =
            stream.ok_or_else(|| Error::Invalid { what: "sweep".into(), why: "a batch has no case".into() })?;
        self.hand_out(batch, &active, base, (logits.as_ref(), &residual, &kept), each)
    }

    /// Whether a pass meets a point before its first block.
    fn before_blocks(&self, point: HookPoint) -> bool {
        let points = self.cx.model().points();
        let first_block = points.iter().position(|point| point.layer.is_some()).unwrap_or(0);
        points.iter().position(|known| *known == point).is_some_and(|place| place < first_block)
    }

    /// Gives each case its rows.
    fn hand_out(
        &self,
        batch: &Batch,
        active: &[usize],
        base: &Run,
        (logits, residual, kept): (Option<&Tensor>, &Tensor, &Cache),
        each: &mut impl FnMut(usize, Found) -> Result<()>,
    ) -> Result<()> {
        let rows = self.tokens.batch() as i64;
        for (place, case) in active.iter().enumerate() {
            let own = |value: &Tensor| value.f_narrow(0, place as i64 * rows, rows);
            let logits = match logits {
                Some(logits) if self.logits == PosSlice::All && batch.first > 0 => {
                    let before = base.logits()?.f_narrow(1, 0, batch.first)?;
                    Some(Tensor::f_cat(&[&before, &own(logits)?], 1)?)
                }
                Some(logits) => Some(own(logits)?),
                None => None,
            };
            let mut cache = Cache::new();
            for (point, value) in kept.iter() {
                cache.insert(point, own(value)?);
            }
            each(*case, Found { logits, residual: own(residual)?, cache })?;
        }
        Ok(())
    }

    /// The wanted logits in a pass that begins at position `first`.
    fn logits_within(&self, first: i64) -> PosSlice {
        match &self.logits {
            PosSlice::At(positions) => {
                let len = self.tokens.positions() as i64;
                let place = |position: &i64| (if *position < 0 { *position + len } else { *position }) - first;
                PosSlice::At(positions.iter().map(place).collect())
            }
            other => other.clone(),
        }
    }

    fn window_mask(&self, first: i64, copies: usize) -> Result<Option<Tensor>> {
        let cut = |mask: &Tensor| {
            let len = self.tokens.positions() as i64;
            crate::pass::repeated(&mask.f_narrow(1, first, len - first)?, copies as i64)
        };
        self.tokens.mask().map(cut).transpose()
    }
}

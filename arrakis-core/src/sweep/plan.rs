//! What a sweep will run: which cases share a batch, where they join it, and what that saves.

use std::fmt;

use serde::{Deserialize, Serialize};
use tch::Device;

use super::Sweep;
use crate::{Error, HookPoint, PosSlice, Result, Weight, nearest_name};

/// The bytes of activations of a pass where no bound is given: more than the caches gain nothing on a CPU.
const CPU_BYTES: u64 = 256 << 20;
const GPU_BYTES: u64 = 2 << 30;

/// What a pass through one block costs beside its tokens, in tokens: weights are read once for all of them.
const BLOCK_TOKENS: i64 = 16;

/// Where a case joins its batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Start {
    /// Before the embedding.
    Text,
    /// Before a block; the number of blocks stands for the final norm.
    Block(usize),
}

impl Start {
    pub(super) const fn block(self) -> usize {
        match self {
            Self::Text => 0,
            Self::Block(block) => block,
        }
    }
}

/// Cases that share their passes.
#[derive(Debug)]
pub(super) struct Batch {
    /// The first position that is run.
    pub(super) first: i64,
    /// The cases, in the order in which they join.
    pub(super) cases: Vec<usize>,
    /// Where they join.
    pub(super) starts: Vec<(Start, Vec<usize>)>,
}

/// What a sweep would run, beside a loop that runs each case alone.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SweepPlan {
    /// Cases.
    pub cases: usize,
    /// Batches that share their passes.
    pub batches: usize,
    /// Passes through parts of the model, the one without edits included.
    pub passes: usize,
    /// Forward passes of the loop.
    pub loop_passes: usize,
    /// Floating-point operations of matrix products, about; attention's scores are left out.
    pub flops: f64,
    /// The same of the loop.
    pub loop_flops: f64,
    /// Bytes of activations that the greatest batch holds at once, about.
    pub bytes: u64,
    /// Bytes that it was to stay below; a single case may need more.
    pub limit: u64,
}

impl fmt::Display for SweepPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let saved = if self.loop_flops > 0.0 { 100.0 * (1.0 - self.flops / self.loop_flops) } else { 0.0 };
        write!(
            f,
            "{} cases in {} batches: {} passes through parts of the model in place of {} whole ones, {:.3e} \
             floating-point operations in place of {:.3e} ({saved:.0} % saved), at most about {} bytes of activations \
             at once (bound {})",
            self.cases,
            self.batches,
            self.passes,
            self.loop_passes,
            self.flops,
            self.loop_flops,
            self.bytes,
            self.limit
        )
    }
}

/// A case as the plan sees it.
struct Placed {
    case: usize,
    start: Start,
    first: i64,
}

impl Sweep<'_> {
    /// What this sweep would run.
    pub fn plan(&self) -> Result<SweepPlan> {
        let batches = self.batches()?;
        let model = self.cx.model();
        let (dims, len, rows) = (model.dims(), self.tokens.positions() as i64, self.tokens.batch() as i64);
        let end = self.stop_at.unwrap_or(dims.n_layers);
        let gated = model.weights().contains(&Weight::GATE.at(0));
        let heads = dims.d_head * (2 * dims.n_heads + 2 * dims.n_kv_heads);
        let block = 2.0 * dims.d_model as f64 * (heads + dims.d_mlp * if gated { 3 } else { 2 }) as f64;
        let wanted = if self.stop_at.is_some() { 0 } else { self.logits.count(len) };
        let unembed = 2.0 * (dims.d_model * dims.vocab) as f64 * wanted as f64 * rows as f64;
        let text = (len * rows) as f64;
        let mut flops = text * end as f64 * block;
        let mut passes = 1;
        for batch in &batches {
            passes += batch.starts.len();
            for (start, cases) in &batch.starts {
                let blocks = end.saturating_sub(start.block()) as f64;
                flops += cases.len() as f64 * (((len - batch.first) * rows) as f64 * blocks * block + unembed);
            }
        }
        Ok(SweepPlan {
            cases: self.cases.len(),
            batches: batches.len(),
            passes,
            loop_passes: self.cases.len(),
            flops,
            loop_flops: self.cases.len() as f64 * (text * end as f64 * block + unembed),
            bytes: batches
                .iter()
                .map(|batch| self.bytes_of_case(batch.first) * batch.cases.len() as u64)
                .max()
                .unwrap_or(0),
            limit: self.limit(),
        })
    }

    /// The cases in batches: those whose first positions lie close together share one, as far as memory allows.
    pub(super) fn batches(&self) -> Result<Vec<Batch>> {
        let mut placed = self.placed()?;
        placed.sort_by_key(|case| (case.first, case.start));
        let mut firsts: Vec<i64> = placed.iter().map(|case| case.first).collect();
        firsts.dedup();
        let mut batches = Vec::new();
        for (from, to) in self.groups(&placed, &firsts) {
            let first = firsts[from];
            let mut group: Vec<&Placed> =
                placed.iter().filter(|case| (first..=firsts[to]).contains(&case.first)).collect();
            group.sort_by_key(|case| (case.start, case.case));
            for chunk in group.chunks(self.cases_of_batch(first)) {
                let mut starts: Vec<(Start, Vec<usize>)> = Vec::new();
                for case in chunk {
                    match starts.last_mut() {
                        Some((start, cases)) if *start == case.start => cases.push(case.case),
                        _ => starts.push((case.start, vec![case.case])),
                    }
                }
                batches.push(Batch { first, cases: chunk.iter().map(|case| case.case).collect(), starts });
            }
        }
        Ok(batches)
    }

    /// Ranges of `firsts` that share a first position, so that the cost of all is least.
    fn groups(&self, placed: &[Placed], firsts: &[i64]) -> Vec<(usize, usize)> {
        let (len, rows) = (self.tokens.positions() as i64, self.tokens.batch() as i64);
        let end = self.stop_at.unwrap_or(self.cx.model().dims().n_layers);
        // By first position: blocks of all its cases, cases, and the first block.
        let mut sums = vec![(0_i64, 0_i64, end); firsts.len()];
        for case in placed {
            let place = firsts.partition_point(|first| *first < case.first);
            let (blocks, cases, start) = &mut sums[place];
            *blocks += end.saturating_sub(case.start.block()) as i64;
            *cases += 1;
            *start = (*start).min(case.start.block());
        }
        let mut best = vec![(0_i64, 0_usize); firsts.len() + 1];
        for to in 0..firsts.len() {
            let (mut blocks, mut cases, mut start) = (0, 0, end);
            best[to + 1] = (i64::MAX, 0);
            for from in (0..=to).rev() {
                let (own, count, begins) = sums[from];
                (blocks, cases, start) = (blocks + own, cases + count, start.min(begins));
                let batches = (cases as usize).div_ceil(self.cases_of_batch(firsts[from])) as i64;
                let weights = BLOCK_TOKENS * end.saturating_sub(start) as i64 * batches;
                let cost = best[from].0 + blocks * (len - firsts[from]) * rows + weights;
                if cost < best[to + 1].0 {
                    best[to + 1] = (cost, from);
                }
            }
        }
        let (mut groups, mut to) = (Vec::new(), firsts.len());
        while to > 0 {
            let from = best[to].1;
            groups.push((from, to - 1));
            to = from;
        }
        groups.reverse();
        groups
    }

    fn placed(&self) -> Result<Vec<Placed>> {
        let model = self.cx.model();
        let (points, len) = (model.points(), self.tokens.positions() as i64);
        let n_layers = model.dims().n_layers;
        if self.stop_at.is_some_and(|stop| stop > n_layers) {
            let index = self.stop_at.unwrap_or(0) as i64;
            return Err(Error::OutOfRange { what: "stop_at layer".into(), index, len: n_layers as i64 });
        }
        let first_block = points.iter().position(|point| point.layer.is_some()).unwrap_or(0);
        // All positions are run where logits or kept values of all are wanted by place, or rows end at other places.
        let least = match &self.logits {
            _ if !self.keep.is_empty() || self.tokens.mask().is_some() => 0,
            PosSlice::At(positions) => {
                let place = |position: &i64| if *position < 0 { position + len } else { *position };
                positions.iter().map(place).min().unwrap_or(len - 1)
            }
            _ => len - 1,
        };
        let end = self.stop_at.unwrap_or(n_layers);
        let start_of = |what: &dyn Fn() -> String, point: &HookPoint| -> Result<Start> {
            let Some(place) = points.iter().position(|known| known == point) else {
                let name = point.to_string();
                let known: Vec<String> = points.iter().map(ToString::to_string).collect();
                return Err(Error::UnknownPoint {
                    nearest: nearest_name(&name, known.iter().map(String::as_str)),
                    name,
                });
            };
            let (start, met) = match point.layer {
                Some(layer) => (Start::Block(layer), layer < end),
                None if place < first_block => (Start::Text, true),
                None => (Start::Block(n_layers), self.stop_at.is_none()),
            };
            let why = || format!("`{point}` lies behind block {end}, where the sweep stops");
            if met { Ok(start) } else { Err(Error::Invalid { what: what(), why: why() }) }
        };
        if let Some((point, _)) = self.under.iter().find(|(point, _)| !points.contains(point)) {
            start_of(&|| "an edit of every case".into(), point)?;
        }
        // What is kept must be kept of every case: all of them join before the first kept point.
        let mut latest = Start::Block(end);
        for point in &self.keep {
            latest = latest.min(start_of(&|| "a kept point".into(), point)?);
        }
        let place = |(case, edits): (usize, &super::Case<'_>)| {
            let (mut start, mut first) = (latest, least);
            for (point, edit) in &edits.edits {
                start = start.min(start_of(&|| format!("case {case}"), point)?);
                first = first.min(edit.first_position(len));
            }
            Ok(Placed { case, start, first: first.clamp(0, len - 1) })
        };
        self.cases.iter().enumerate().map(place).collect()
    }

    fn limit(&self) -> u64 {
        self.cx.memory_limit().unwrap_or(match self.cx.model().device() {
            Device::Cpu => CPU_BYTES,
            _ => GPU_BYTES,
        })
    }

    fn cases_of_batch(&self, first: i64) -> usize {
        (self.limit() / self.bytes_of_case(first)).max(1) as usize
    }

    /// About how many bytes one case holds at once in a pass that begins at position `first`.
    fn bytes_of_case(&self, first: i64) -> u64 {
        let (dims, len) = (self.cx.model().dims(), self.tokens.positions());
        let pos = len - first as usize;
        let wanted = if self.stop_at.is_some() { 0 } else { self.logits.count(len as i64) as usize };
        let keys = 4 * len * dims.n_kv_heads * dims.d_head;
        let stream = pos * (8 * dims.d_model + 4 * dims.d_mlp + 4 * dims.n_heads * dims.d_head);
        let numbers = stream + keys + 2 * dims.n_heads * pos * len + 3 * wanted * dims.vocab;
        (self.tokens.batch() * numbers * self.cx.model().kind().elt_size_in_bytes()).max(1) as u64
    }
}

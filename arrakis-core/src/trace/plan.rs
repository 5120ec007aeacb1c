//! What a described run would hold in memory, known before anything runs.

use std::collections::HashMap;

use serde::Serialize;
use tch::Kind;

use super::{Step, Trace};
use crate::{AxisKind, Error, HookPoint, KeyValues, Model, PosSlice, Result, Site};

/// What a run would hold when it ends: the values it gives back, without the weights and what passes by on the way.
///
/// Values are counted whole, as a file holds them; in memory those that are views of one another (`hook_resid_post` and
/// the next block's `hook_resid_pre`, the inputs of split heads) share their bytes, so this is the most it can be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Plan {
    /// Rows of the batch.
    pub batch: i64,
    /// Positions of the pass.
    pub pos: i64,
    /// What [`keep`](Trace::keep) chose, in the order in which a pass visits it.
    pub kept: Vec<PlannedValue>,
    /// What [`keep_before`](Trace::keep_before) chose, in that order.
    pub before: Vec<PlannedValue>,
    /// Bytes of the wanted logits.
    pub logits_bytes: u64,
    /// Bytes of the gradients, one for each kept value, if there is a metric.
    pub gradient_bytes: u64,
    /// Bytes of the keys and values given back, if they were asked for.
    pub past_bytes: u64,
}

/// A value that a run would keep.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PlannedValue {
    /// Where it flows.
    pub point: HookPoint,
    /// Its shape.
    pub shape: Vec<i64>,
    /// Its bytes.
    pub bytes: u64,
}

impl Plan {
    /// Bytes of the kept values alone, logits and gradients left out.
    #[must_use]
    pub fn kept_bytes(&self) -> u64 {
        self.kept.iter().chain(&self.before).fold(0, |sum, value| sum.saturating_add(value.bytes))
    }

    /// Bytes of everything that the run would hold.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        let others = [self.logits_bytes, self.gradient_bytes, self.past_bytes];
        others.into_iter().fold(self.kept_bytes(), u64::saturating_add)
    }

    /// An error with both numbers if the run would hold more than `limit` bytes.
    pub fn check(&self, limit: u64) -> Result<()> {
        let bytes = self.bytes();
        if bytes > limit { Err(Error::TooMuchMemory { bytes, limit }) } else { Ok(()) }
    }
}

impl<M: Model + ?Sized> Trace<'_, M> {
    /// What this run would hold, without running it.
    ///
    /// Scores of models in half precision are counted as float32, which some families compute them in.
    /// A selector that chooses nothing is the error that it is in [`run`](Trace::run).
    pub fn plan(&self) -> Result<Plan> {
        let input = self.residual.unwrap_or(self.tokens.ids()).size();
        let [batch, pos, ..] = input[..] else {
            let why = format!("shape {input:?} where [batch, pos, …] is wanted");
            return Err(Error::Invalid { what: "input of the run".into(), why });
        };
        let (dims, kind) = (self.model.dims(), self.model.kind());
        let seen = self.past.map_or(0, KeyValues::len);
        let value = |(point, slice): (HookPoint, &PosSlice)| {
            let sliced = point.site.pos_dimension();
            let axes = point.site.axes().iter().zip(point.shape(dims, batch, pos)).enumerate();
            let len = |(dimension, (axis, len)): (usize, (&AxisKind, i64))| match axis {
                AxisKind::Key => len + seen,
                _ if Some(dimension) == sliced => slice.count(len),
                _ => len,
            };
            let shape: Vec<i64> = axes.map(len).collect();
            PlannedValue { point, bytes: bytes(&shape, kind_at(point.site, kind)), shape }
        };
        let points = self.visited_points();
        let chosen = |before: bool| -> Result<Vec<PlannedValue>> {
            let mut chosen = HashMap::new();
            for step in &self.steps {
                let (selector, slice) = match step {
                    Step::Keep(selector, slice) if !before => (selector, slice),
                    Step::KeepBefore(selector) if before => (selector, &PosSlice::All),
                    Step::Keep(..) | Step::KeepBefore(_) | Step::Edit(..) => continue,
                };
                chosen.extend(selector.resolve(&points)?.into_iter().map(|point| (point, slice)));
            }
            let chosen = |point: HookPoint| Some((point, *chosen.get(&point)?));
            Ok(points.iter().copied().filter_map(chosen).map(value).collect())
        };
        let (kept, before) = (chosen(false)?, chosen(true)?);
        let wanted = if self.stop_at.is_some() { 0 } else { self.logits.count(pos) };
        let differentiable = kept.iter().filter(|value| value.point.site != Site::TOKENS);
        let gradient_bytes = if self.metric.is_some() { differentiable.map(|value| value.bytes).sum() } else { 0 };
        let heads = [dims.n_layers, 2, dims.n_kv_heads, dims.d_head].map(|size| size as i64);
        let past = if self.keep_past { [&heads[..], &[batch, seen + pos]].concat() } else { vec![0] };
        Ok(Plan {
            batch,
            pos,
            kept,
            before,
            logits_bytes: bytes(&[batch, wanted, dims.vocab as i64], kind),
            gradient_bytes,
            past_bytes: bytes(&past, kind),
        })
    }
}

/// The kind of what flows at a site of a model of `kind`, or a wider one.
fn kind_at(site: Site, kind: Kind) -> Kind {
    match site {
        Site::TOKENS => Kind::Int64,
        Site::LN1_SCALE | Site::LN2_SCALE | Site::LN_FINAL_SCALE | Site::ATTN_SCORES
            if kind.elt_size_in_bytes() < Kind::Float.elt_size_in_bytes() =>
        {
            Kind::Float
        }
        _ => kind,
    }
}

fn bytes(shape: &[i64], kind: Kind) -> u64 {
    let numbers = shape.iter().fold(1_u64, |product, len| product.saturating_mul(u64::try_from(*len).unwrap_or(0)));
    numbers.saturating_mul(kind.elt_size_in_bytes() as u64)
}

//! The hooks of a batch in which each case has rows, and edits, of its own.

use std::collections::HashMap;

use tch::Tensor;

use super::Case;
use crate::edit::Text;
use crate::{Cache, Error, HookPoint, Hooks, Result};

/// Watches a batch that holds all rows of the prompt once for each case.
pub(super) struct Rows<'c, 'a> {
    cases: &'c mut [Case<'a>],
    active: &'c [usize],
    height: i64,
    text: Text,
    keep: &'c [HookPoint],
    /// The edits at each point: place in the batch, case, edit of the case.
    edits: HashMap<HookPoint, Vec<(usize, usize, usize)>>,
    kept: Cache,
}

impl<'c, 'a> Rows<'c, 'a> {
    /// Hooks of the `active` cases, in the order of the batch, each of `height` rows.
    pub(super) fn new(
        cases: &'c mut [Case<'a>],
        active: &'c [usize],
        height: i64,
        text: Text,
        keep: &'c [HookPoint],
    ) -> Self {
        let mut edits: HashMap<HookPoint, Vec<(usize, usize, usize)>> = HashMap::new();
        for (place, case) in active.iter().enumerate() {
            for (edit, (point, _)) in cases[*case].edits.iter().enumerate() {
                edits.entry(*point).or_default().push((place, *case, edit));
            }
        }
        Self { cases, active, height, text, keep, edits, kept: Cache::new() }
    }

    /// Adds what was kept to `kept`; cases that joined since have no value there.
    pub(super) fn into_kept(self, kept: &mut Cache) -> Result<()> {
        for (point, value) in self.kept.iter() {
            if value.size()[0] != self.active.len() as i64 * self.height {
                return Err(Error::Invalid {
                    what: format!("`{point}`"),
                    why: "its first dimension is no batch".into(),
                });
            }
            kept.insert(point, value.shallow_clone());
        }
        Ok(())
    }
}

impl Hooks for Rows<'_, '_> {
    fn watches(&self, point: HookPoint) -> bool {
        self.edits.contains_key(&point) || self.keep.contains(&point)
    }

    fn visit(&mut self, point: HookPoint, value: Tensor) -> Result<Tensor> {
        let mut pieces = Vec::new();
        let mut next = 0;
        for (place, case, edit) in self.edits.get(&point).into_iter().flatten() {
            let start = *place as i64 * self.height;
            let change = &mut self.cases[*case].edits[*edit].1;
            if start < next {
                // A further edit of the same case.
                let Some(before) = pieces.pop() else { continue };
                pieces.push(change.apply_in(self.text, point, &before)?);
                continue;
            }
            if start > next {
                pieces.push(value.f_narrow(0, next, start - next)?);
            }
            pieces.push(change.apply_in(self.text, point, &value.f_narrow(0, start, self.height)?)?);
            next = start + self.height;
        }
        let value = if pieces.is_empty() {
            value
        } else {
            let len = value.size()[0];
            if next < len {
                pieces.push(value.f_narrow(0, next, len - next)?);
            }
            Tensor::f_cat(&pieces, 0)?
        };
        if self.keep.contains(&point) {
            self.kept.insert(point, value.shallow_clone());
        }
        Ok(value)
    }

    fn given(&mut self, point: HookPoint) -> Result<Option<Tensor>> {
        let Some(edits) = self.edits.get(&point) else { return Ok(None) };
        let places = edits.iter().map(|(place, ..)| *place);
        let replaced = edits.iter().all(|(_, case, edit)| self.cases[*case].edits[*edit].1.replaces(self.text));
        if self.keep.contains(&point) || !replaced || !places.eq(0..self.active.len()) {
            return Ok(None);
        }
        let mut values = Vec::with_capacity(edits.len());
        for (_, case, edit) in edits {
            let Some(value) = self.cases[*case].edits[*edit].1.replacement(self.text, point)? else { return Ok(None) };
            values.push(value);
        }
        Ok(Some(Tensor::f_cat(&values, 0)?))
    }
}

//! The hooks of a batch in which each case has rows, and edits, of its own.

use std::cell::RefCell;
use std::collections::HashMap;

use tch::Tensor;

use super::Case;
use crate::edit::{Edit, Text};
use crate::{Cache, Error, HookPoint, Hooks, Result};

/// Watches a batch that holds all rows of the prompt once for each case.
pub(super) struct Rows<'c, 'a> {
    under: &'c [(HookPoint, RefCell<Edit<'a>>)],
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
        (under, cases): (&'c [(HookPoint, RefCell<Edit<'a>>)], &'c mut [Case<'a>]),
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
        Self { under, cases, active, height, text, keep, edits, kept: Cache::new() }
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
        self.edits.contains_key(&point)
            || self.keep.contains(&point)
            || self.under.iter().any(|(under, _)| *under == point)
    }

    fn visit(&mut self, point: HookPoint, value: Tensor) -> Result<Tensor> {
        let (mut pieces, mut next) = (Vec::new(), 0);
        let own = self.edits.get(&point).map(Vec::as_slice).unwrap_or_default();
        let shared = self.under.iter().any(|(under, _)| *under == point);
        for (place, _) in self.active.iter().enumerate() {
            let mut edits = own[own.partition_point(|(own, ..)| *own < place)..]
                .iter()
                .take_while(|(own, ..)| *own == place)
                .peekable();
            if !shared && edits.peek().is_none() {
                continue;
            }
            let start = place as i64 * self.height;
            if start > next {
                pieces.push(value.f_narrow(0, next, start - next)?);
            }
            let mut rows = value.f_narrow(0, start, self.height)?;
            for (_, under) in self.under.iter().filter(|(under, _)| *under == point) {
                rows = under.borrow_mut().apply_in(self.text, point, &rows)?;
            }
            for (_, case, edit) in edits {
                rows = self.cases[*case].edits[*edit].1.apply_in(self.text, point, &rows)?;
            }
            pieces.push(rows);
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
        let watched = self.keep.contains(&point) || self.under.iter().any(|(under, _)| *under == point);
        if watched || !replaced || !places.eq(0..self.active.len()) {
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

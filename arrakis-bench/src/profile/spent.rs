//! What parts of runs took, in the order in which they were met.

use std::collections::HashMap;
use std::time::Duration;

use super::process::Memory;

/// What something took.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Spent {
    /// Time on the clock.
    pub wall: Duration,
    /// Processor time of all threads of the process.
    pub cpu: Duration,
    /// Floating-point operations of the matrix products, two for a multiplication with its addition.
    pub flops: u64,
    /// Bytes of the values that flowed.
    pub bytes: u64,
    /// How often it was met.
    pub visits: u64,
    /// Bytes of resident memory above the start of the run, at most.
    pub resident: u64,
}

/// What one component of one layer took.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row {
    /// The layer; `None` before the first and after the last.
    pub layer: Option<usize>,
    /// The component.
    pub component: &'static str,
    /// What it took.
    pub spent: Spent,
}

/// All rows of a profile.
#[derive(Debug, Clone, Default)]
pub(super) struct Ledger {
    rows: Vec<Row>,
    places: HashMap<(Option<usize>, &'static str), usize>,
    pub(super) passes: usize,
    pub(super) failed: usize,
    pub(super) positions: u64,
    /// Resident memory at the start of the run.
    pub(super) floor: u64,
}

impl Spent {
    /// Adds what something else took.
    pub fn add(&mut self, other: Self) {
        self.wall += other.wall;
        self.cpu += other.cpu;
        self.flops = self.flops.saturating_add(other.flops);
        self.bytes = self.bytes.saturating_add(other.bytes);
        self.visits += other.visits;
        self.reach(other.resident);
    }

    /// The same with what something else took.
    #[must_use]
    pub fn with(mut self, other: Self) -> Self {
        self.add(other);
        self
    }

    pub(super) fn reach(&mut self, resident: u64) {
        self.resident = self.resident.max(resident);
    }
}

impl Ledger {
    /// The same ledger, for a run that starts with so much resident memory.
    pub(super) fn above(mut self, floor: u64) -> Self {
        self.floor = floor;
        self
    }

    /// How far the process' memory lies above the start of the run.
    pub(super) fn height(&self, memory: &Memory) -> u64 {
        memory.resident().unwrap_or(0).saturating_sub(self.floor)
    }

    pub(super) fn rows(&self) -> &[Row] {
        &self.rows
    }

    /// Adds what another ledger holds.
    pub(super) fn absorb(&mut self, other: &Self) {
        for row in &other.rows {
            self.add(row.layer, row.component, row.spent);
        }
    }

    /// Adds to a row.
    pub(super) fn add(&mut self, layer: Option<usize>, component: &'static str, spent: Spent) {
        let place = *self.places.entry((layer, component)).or_insert_with(|| {
            self.rows.push(Row { layer, component, spent: Spent::default() });
            self.rows.len() - 1
        });
        if let Some(row) = self.rows.get_mut(place) {
            row.spent.add(spent);
        }
    }
}

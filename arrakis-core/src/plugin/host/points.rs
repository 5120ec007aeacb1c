//! The hook points of a model, as a plugin is told of them.

use std::cell::Cell;
use std::ptr;
use std::sync::{Mutex, PoisonError};

use super::super::abi::Point;
use super::super::axis;
use super::super::crossing::lend_text;
use crate::{AxisKind, HookPoint};

/// The number of a block; -1 outside the blocks.
pub(super) fn layer_number(layer: Option<usize>) -> i64 {
    layer.map_or(-1, |layer| layer as i64)
}

/// The points of a model as they are told, and the place of each.
pub(super) struct PointTable {
    pub(super) told: Vec<Point>,
    /// The points outside the blocks, then those of each block, with their places.
    by_block: Vec<Vec<(HookPoint, usize)>>,
    /// Where the last one was found: a point is asked for, then visited.
    last: Cell<(usize, usize)>,
}

impl PointTable {
    pub(super) fn new(points: &[HookPoint]) -> Self {
        let mut by_block: Vec<Vec<(HookPoint, usize)>> = vec![Vec::new()];
        for (place, point) in points.iter().enumerate() {
            let block = point.layer.map_or(0, |layer| layer + 1);
            if by_block.len() <= block {
                by_block.resize_with(block + 1, Vec::new);
            }
            by_block[block].push((*point, place));
        }
        Self { told: points.iter().map(told).collect(), by_block, last: Cell::new((0, 0)) }
    }

    /// The place of a point among those of the model.
    pub(super) fn place(&self, point: HookPoint) -> Option<usize> {
        let block = point.layer.map_or(0, |layer| layer + 1);
        let points = self.by_block.get(block)?;
        let (last_block, last) = self.last.get();
        if last_block == block
            && let Some((known, place)) = points.get(last)
            && *known == point
        {
            return Some(*place);
        }
        // The same constant is nearly always the same text in memory, which is quicker to see than equal texts.
        let found = points.iter().position(|(known, _)| ptr::eq(known.site.name(), point.site.name()));
        let found = found.or_else(|| points.iter().position(|(known, _)| known.site == point.site))?;
        self.last.set((block, found));
        Some(points[found].1)
    }
}

fn told(point: &HookPoint) -> Point {
    let axes = axis_numbers(point.site.axes());
    Point {
        site: lend_text(point.site.name()),
        axes: axes.as_ptr(),
        axis_count: axes.len(),
        layer: layer_number(point.layer),
    }
}

/// The numbers of axes, which last as long as the program: there are as many kinds of them as sites have.
fn axis_numbers(axes: &[AxisKind]) -> &'static [u8] {
    static KNOWN: Mutex<Vec<&'static [u8]>> = Mutex::new(Vec::new());
    let numbers: Vec<u8> = axes.iter().map(|axis| axis::number(*axis)).collect();
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(numbers) = known.iter().find(|known| ***known == numbers[..]) {
        return numbers;
    }
    let numbers: &'static [u8] = numbers.leak();
    known.push(numbers);
    numbers
}

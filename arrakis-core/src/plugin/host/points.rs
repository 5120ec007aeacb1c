//! The hook points of a model, as a plugin is told of them.

use std::cell::Cell;
use std::ptr;

use super::super::abi::{Point, Str};
use super::super::axis;
use super::super::crossing::{layer_number, lend_text};
use crate::{AxisKind, HookPoint};

/// The points of a model as they are told, and the place of each.
pub(super) struct PointTable {
    pub(super) told: Vec<Point>,
    /// The numbers of their axes, one point after the other, which `told` points into.
    _axes: Vec<u8>,
    /// The names of axes that have one, as `told` points into them.
    _axis_names: Vec<Vec<Str>>,
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
        let axes: Vec<u8> = points.iter().flat_map(|point| point.site.axes()).map(|axis| axis::number(*axis)).collect();
        let axis_names: Vec<Vec<Str>> = points.iter().map(|point| names(point.site.axes())).collect();
        let mut rest = &axes[..];
        let told = points.iter().zip(&axis_names).map(|(point, names)| {
            let (own, others) = rest.split_at(point.site.axes().len());
            rest = others;
            Point {
                site: lend_text(point.site.name()),
                axes: own.as_ptr(),
                axis_count: own.len(),
                layer: layer_number(point.layer),
                axis_names: if names.is_empty() { ptr::null() } else { names.as_ptr() },
            }
        });
        Self { told: told.collect(), _axes: axes, _axis_names: axis_names, by_block, last: Cell::new((0, 0)) }
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

/// The name of each axis, empty for those of a number; nothing if none has a name.
fn names(axes: &[AxisKind]) -> Vec<Str> {
    let name = |axis: &AxisKind| if let AxisKind::Named(name) = axis { name } else { "" };
    let any = axes.iter().any(|axis| matches!(axis, AxisKind::Named(_)));
    axes.iter().filter(|_| any).map(|axis| lend_text(name(axis))).collect()
}

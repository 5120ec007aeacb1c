//! The numbers of axes at the boundary.

use super::abi;
use super::guest::names::remembered;
use crate::AxisKind;

/// The number of an axis.
pub(super) const fn number(axis: AxisKind) -> u8 {
    match axis {
        AxisKind::Batch => abi::AXIS_BATCH,
        AxisKind::Pos => abi::AXIS_POS,
        AxisKind::Head => abi::AXIS_HEAD,
        AxisKind::KvHead => abi::AXIS_KV_HEAD,
        AxisKind::Query => abi::AXIS_QUERY,
        AxisKind::Key => abi::AXIS_KEY,
        AxisKind::DModel => abi::AXIS_D_MODEL,
        AxisKind::DHead => abi::AXIS_D_HEAD,
        AxisKind::DMlp => abi::AXIS_D_MLP,
        AxisKind::One => abi::AXIS_ONE,
        AxisKind::Named(_) => abi::AXIS_NAMED,
    }
}

/// The axis of that number, a named one under its name; none if it came after this version, or has no name.
pub(super) fn kind(number: u8, name: &str) -> Option<AxisKind> {
    Some(match number {
        abi::AXIS_BATCH => AxisKind::Batch,
        abi::AXIS_POS => AxisKind::Pos,
        abi::AXIS_HEAD => AxisKind::Head,
        abi::AXIS_KV_HEAD => AxisKind::KvHead,
        abi::AXIS_QUERY => AxisKind::Query,
        abi::AXIS_KEY => AxisKind::Key,
        abi::AXIS_D_MODEL => AxisKind::DModel,
        abi::AXIS_D_HEAD => AxisKind::DHead,
        abi::AXIS_D_MLP => AxisKind::DMlp,
        abi::AXIS_ONE => AxisKind::One,
        // A host of 1.0 tells no names.
        abi::AXIS_NAMED if !name.is_empty() => AxisKind::Named(remembered(name)),
        _ => return None,
    })
}

//! The numbers of a patching experiment as grids, one for each kind.

use arrakis_core::{Answer, Axis, Context, Grid, Result, Stack};
use tch::Tensor;

use super::kind::PatchKind;
use super::pair::Pair;
use crate::index;

/// One grid for each kind, and a stack for patches of single attention weights.
#[derive(Debug, Clone, Default)]
pub(super) struct Tables {
    pub(super) grids: Vec<(PatchKind, Grid)>,
    pub(super) pairs: Option<Stack>,
}

impl Tables {
    /// Tables of `values`: of each kind, layer by layer, in the order of its slots.
    pub(super) fn of(
        cx: &Context<'_>,
        (title, value): (&str, &str),
        (layers, pair): (&[usize], &Pair),
        values: impl IntoIterator<Item = (PatchKind, Vec<f64>)>,
    ) -> Result<Self> {
        let mut tables = Self::default();
        for (kind, values) in values {
            let title = format!("{title} of {}", kind.name());
            let (rows, columns) = kind.axes(cx, layers, pair)?;
            if kind == PatchKind::PatternByPair {
                let (name, heads) = kind.heads(cx);
                let axis = |name: &str| Axis { name: name.into(), ..columns.clone() };
                let axes = vec![
                    Axis::new("layer", index::labels(layers)),
                    Axis::indices(name, heads),
                    axis("destination"),
                    axis("source"),
                ];
                let shape: Vec<i64> = axes.iter().map(|axis| axis.len() as i64).collect();
                tables.pairs =
                    Some(Stack::new(title, value, axes, Tensor::f_from_slice(&values)?.f_view(&shape[..])?)?);
            } else {
                tables.grids.push((kind, Grid::new(title, value, rows, columns, values)?.diverging()));
            }
        }
        Ok(tables)
    }
}

/// `answer` with every table under its kind's name.
pub(super) fn with_tables(answer: Answer, grids: Vec<(PatchKind, Grid)>, pairs: Option<Stack>) -> Answer {
    let answer = grids.into_iter().fold(answer, |answer, (kind, grid)| answer.with(kind.name(), grid));
    match pairs {
        Some(pairs) => answer.with(PatchKind::PatternByPair.name(), pairs),
        None => answer,
    }
}

//! `logit_lens`, `patching`, `head_layer`: grids as heatmaps.

use arrakis_core::{Grid, Part, PlotSpec, Scale};

use super::{Kind, Parts, Source, refused};

pub(super) const LOGIT_LENS: Kind = Kind {
    name: "logit_lens",
    about: "A token in each cell, layers by positions, coloured by its probability, or by the one other grid that is given",
    source: Source::Parts(|spec, parts| match grid(parts, |grid| grid.cells.is_some()) {
        Some(tokens) => Ok(Box::new(titled(spec, coloured_by_other(tokens, parts)))),
        None => Err(wants(spec, "a grid with a text in each cell", parts)),
    }),
};

pub(super) const PATCHING: Kind = Kind {
    name: "patching",
    about: "What each patch brings back, in colours that diverge from white at 0",
    source: Source::Parts(|spec, parts| match grid(parts, |_| true) {
        Some(grid) => Ok(Box::new(Grid { scale: Scale::Diverging, ..titled(spec, grid.clone()) })),
        None => Err(wants(spec, "a grid", parts)),
    }),
};

pub(super) const HEAD_LAYER: Kind = Kind {
    name: "head_layer",
    about: "A number for every head: layers by heads",
    source: Source::Parts(|spec, parts| {
        let of_heads = |grid: &Grid| grid.columns.name.contains("head") && grid.rows.name.contains("layer");
        match grid(parts, of_heads) {
            Some(grid) => Ok(Box::new(titled(spec, grid.clone()))),
            None => Err(wants(spec, "a grid of layers by heads", parts)),
        }
    }),
};

/// A grid with texts, its colours those of the only other grid if that has the same cells: the entropy, say.
fn coloured_by_other(tokens: &Grid, parts: &Parts<'_>) -> Grid {
    let grids = parts.iter().filter_map(|(_, part)| if let Part::Grid(grid) = part { Some(grid) } else { None });
    let others: Vec<&Grid> = grids.filter(|grid| !std::ptr::eq(*grid, tokens)).collect();
    match others.as_slice() {
        [other] if other.rows.labels == tokens.rows.labels && other.columns.labels == tokens.columns.labels => {
            let Grid { title, value, values, scale, .. } = (*other).clone();
            Grid { title, value, values, scale, ..tokens.clone() }
        }
        _ => tokens.clone(),
    }
}

/// The first grid that will do.
fn grid<'a>(parts: &Parts<'a>, will_do: impl Fn(&Grid) -> bool) -> Option<&'a Grid> {
    parts.iter().find_map(|(_, part)| match part {
        Part::Grid(grid) if will_do(grid) => Some(grid),
        _ => None,
    })
}

/// A grid under the title of a spec, if it has one.
pub(super) fn titled(spec: &PlotSpec, mut grid: Grid) -> Grid {
    if let Some(title) = &spec.title {
        grid.title.clone_from(title);
    }
    grid
}

/// The error for parts that are not what a kind shows.
pub(super) fn wants(spec: &PlotSpec, what: &str, parts: &Parts<'_>) -> crate::Error {
    let shape = |part: &Part| match part {
        Part::Number(_) => "number",
        Part::Text(_) => "text",
        Part::Grid(_) => "grid",
        Part::Series(_) => "series",
        Part::Ranking(_) => "ranking",
        Part::Stack(_) => "stack",
        _ => "part",
    };
    let found: Vec<String> = parts.iter().map(|(name, part)| format!("`{name}` ({})", shape(part))).collect();
    let found = if found.is_empty() { "nothing".to_owned() } else { found.join(", ") };
    refused(&spec.kind, format!("is drawn from {what}; there is {found}"))
}

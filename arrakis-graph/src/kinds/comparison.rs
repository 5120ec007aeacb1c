//! `difference`: two grids side by side, and the second less the first.

use arrakis_core::{Grid, Part, PlotSpec};

use super::grids::wants;
use super::{Kind, Parts, Source, title};
use crate::Result;
use crate::compared::Compared;
use crate::picture::Picture;

pub(super) const KIND: Kind = Kind {
    name: "difference",
    about: "Two grids of two runs side by side in one scale, and the second less the first in its own",
    source: Source::Parts(draw),
};

fn draw(spec: &PlotSpec, parts: &Parts<'_>) -> Result<Box<dyn Picture>> {
    let mut grids =
        parts.iter().filter_map(|(name, part)| if let Part::Grid(grid) = part { Some((*name, grid)) } else { None });
    let Some((name, first)) = grids.next() else { return Err(wants(spec, "two grids", parts)) };
    // The other run's part of the same name, if there are two runs.
    let rest: Vec<(&str, &Grid)> = grids.collect();
    let alike = |grid: &Grid| (&grid.rows.labels, &grid.columns.labels) == (&first.rows.labels, &first.columns.labels);
    let named = rest.iter().find(|(known, _)| *known == name);
    let Some((other, second)) = named.or_else(|| rest.iter().find(|(_, grid)| alike(grid))).or(rest.first()) else {
        return Err(wants(spec, "two grids", parts));
    };
    let (mut a, mut b) = (first.clone(), (*second).clone());
    if a.title == b.title {
        a.title = if name == *other { "first".into() } else { name.to_owned() };
        b.title = if name == *other { "second".into() } else { (*other).to_owned() };
    }
    Ok(Box::new(Compared { title: title(spec, first.title.clone()), first: a, second: b }))
}

//! `waterfall`, `profile`: labelled numbers as parts of a sum, and as bars.

use arrakis_core::{Part, PlotSpec, Ranking};

use super::grids::wants;
use super::{Kind, Parts, Source};
use crate::Result;
use crate::picture::Picture;
use crate::waterfall::Waterfall;

pub(super) const WATERFALL: Kind = Kind {
    name: "waterfall",
    about: "Parts of a sum as bars, each beginning where the last one ended",
    source: Source::Parts(|spec, parts| Ok(Box::new(Waterfall(ranking(spec, parts)?)))),
};

pub(super) const PROFILE: Kind = Kind {
    name: "profile",
    about: "Bars from the longest to the shortest, with the share of the whole: where time or memory goes",
    source: Source::Parts(|spec, parts| {
        let mut ranking = ranking(spec, parts)?.sorted();
        let sum: f64 = ranking.entries.iter().map(|entry| entry.value).sum();
        if sum > 0.0 && ranking.entries.iter().all(|entry| entry.value >= 0.0) {
            for entry in &mut ranking.entries {
                let share = 100.0 * entry.value / sum;
                let share = if share < 0.5 && share > 0.0 { "<1".to_owned() } else { format!("{share:.0}") };
                entry.label = format!("{} ({share}%)", entry.label);
            }
        }
        Ok(Box::new(ranking) as Box<dyn Picture>)
    }),
};

/// Labelled numbers: a ranking, an only line, or a grid of one column or row.
pub(super) fn ranking(spec: &PlotSpec, parts: &Parts<'_>) -> Result<Ranking> {
    let labelled = |part: &Part| match part {
        Part::Ranking(ranking) => Some(ranking.clone()),
        Part::Series(series) if series.lines.len() == 1 => {
            let entries = series.axis.labels.iter().cloned().zip(series.lines[0].values.iter().copied());
            Some(Ranking::new(series.title.clone(), series.value.clone(), entries))
        }
        Part::Grid(grid) if grid.columns.len() == 1 || grid.rows.len() == 1 => {
            let labels = if grid.columns.len() == 1 { &grid.rows.labels } else { &grid.columns.labels };
            let entries = labels.iter().cloned().zip(grid.values.iter().copied());
            Some(Ranking::new(grid.title.clone(), grid.value.clone(), entries))
        }
        _ => None,
    };
    let Some(mut found) = parts.iter().find_map(|(_, part)| labelled(part)) else {
        return Err(wants(spec, "a ranking, a series of one line, or a grid of one column", parts));
    };
    if let Some(title) = &spec.title {
        found.title.clone_from(title);
    }
    Ok(found)
}

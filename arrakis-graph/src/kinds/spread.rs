//! `intervals`, `histogram`, `scatter`: estimates with their bounds, distributions, and pairs.

use arrakis_core::{Grid, Part, PlotSpec};

use super::grids::wants;
use super::readings::numbers;
use super::{Kind, Parts, Source, title};
use crate::Result;
use crate::histogram::Histogram;
use crate::intervals::Intervals;
use crate::picture::Picture;
use crate::scatter::Scatter;

pub(super) const INTERVALS: Kind = Kind {
    name: "intervals",
    about: "Estimates with their intervals, one a row: a grid with the columns `estimate`, `low` and `high`",
    source: Source::Parts(intervals),
};

pub(super) const HISTOGRAM: Kind =
    Kind { name: "histogram", about: "How often the numbers of a part occur", source: Source::Parts(histogram) };

pub(super) const SCATTER: Kind = Kind {
    name: "scatter",
    about: "Pairs of numbers as dots: the first two columns of a grid, the first two lines of a series, or two rankings",
    source: Source::Parts(scatter),
};

const LOW: [&str; 3] = ["low", "lower", "from"];
const HIGH: [&str; 3] = ["high", "upper", "to"];

fn intervals(spec: &PlotSpec, parts: &Parts<'_>) -> Result<Box<dyn Picture>> {
    let place = |grid: &Grid, names: &[&str]| {
        grid.columns.labels.iter().position(|label| names.contains(&label.to_lowercase().as_str()))
    };
    let bounds = |grid: &Grid| Some((place(grid, &LOW)?, place(grid, &HIGH)?));
    let found = parts.iter().find_map(|(_, part)| match part {
        Part::Grid(grid) => bounds(grid).map(|bounds| (grid, bounds)),
        _ => None,
    });
    let Some((grid, (low, high))) = found else {
        return Err(wants(spec, "a grid with columns `low` and `high`, and one for the estimate", parts));
    };
    let others = (0..grid.columns.len()).find(|place| *place != low && *place != high);
    let column =
        |place: usize| grid.values.iter().skip(place).step_by(grid.columns.len()).copied().collect::<Vec<f64>>();
    let (low, high) = (column(low), column(high));
    // 0 means something where numbers lie on both sides of it, and to a difference or an effect anywhere.
    let signed = low.iter().any(|low| *low < 0.0)
        || ["difference", "effect", "change"].iter().any(|word| grid.value.contains(word));
    let middles = || low.iter().zip(&high).map(|(low, high)| low / 2.0 + high / 2.0).collect();
    Ok(Box::new(Intervals {
        title: title(spec, grid.title.clone()),
        value: grid.value.clone(),
        labels: grid.rows.labels.clone(),
        estimate: others.map_or_else(middles, column),
        low,
        high,
        reference: signed.then_some(0.0),
    }))
}

fn histogram(spec: &PlotSpec, parts: &Parts<'_>) -> Result<Box<dyn Picture>> {
    let all = |part: &Part| -> Result<Option<(String, String, Vec<f64>)>> {
        Ok(match part {
            Part::Grid(grid) => Some((grid.title.clone(), grid.value.clone(), grid.values.clone())),
            Part::Series(series) => {
                let values = series.lines.iter().flat_map(|line| line.values.iter().copied()).collect();
                Some((series.title.clone(), series.value.clone(), values))
            }
            Part::Ranking(ranking) => {
                let values = ranking.entries.iter().map(|entry| entry.value).collect();
                Some((ranking.title.clone(), ranking.value.clone(), values))
            }
            Part::Stack(stack) => Some((stack.title.clone(), stack.value.clone(), numbers(&stack.values)?)),
            _ => None,
        })
    };
    for (_, part) in parts {
        if let Some((own, value, values)) = all(part)? {
            return Ok(Box::new(Histogram { title: title(spec, own), value, values }));
        }
    }
    Err(wants(spec, "a grid, series, ranking or stack", parts))
}

fn scatter(spec: &PlotSpec, parts: &Parts<'_>) -> Result<Box<dyn Picture>> {
    let pairs = |part: &Part| match part {
        Part::Grid(grid) if grid.columns.len() >= 2 => {
            let wide = grid.columns.len();
            let column = |place: usize| grid.values.iter().skip(place).step_by(wide).copied().collect();
            let name = |place: usize| grid.columns.labels[place].clone();
            Some((grid.title.clone(), (name(0), name(1)), grid.rows.labels.clone(), column(0), column(1)))
        }
        Part::Series(series) if series.lines.len() >= 2 => {
            let line = |place: usize| series.lines[place].values.clone();
            let name = |place: usize| format!("{} ({})", series.lines[place].name, series.value);
            Some((series.title.clone(), (name(0), name(1)), series.axis.labels.clone(), line(0), line(1)))
        }
        _ => None,
    };
    let found = parts.iter().find_map(|(_, part)| pairs(part)).or_else(|| of_rankings(parts));
    let Some((own, names, labels, along, up)) = found else {
        return Err(wants(spec, "a grid of two columns, a series of two lines, or two rankings", parts));
    };
    Ok(Box::new(Scatter { title: title(spec, own), names, labels, along, up }))
}

type Pairs = (String, (String, String), Vec<String>, Vec<f64>, Vec<f64>);

/// The labels that two rankings share, each with its two numbers.
fn of_rankings(parts: &Parts<'_>) -> Option<Pairs> {
    let mut rankings =
        parts.iter().filter_map(|(_, part)| if let Part::Ranking(ranking) = part { Some(ranking) } else { None });
    let (first, second) = (rankings.next()?, rankings.next()?);
    let (mut labels, mut along, mut up) = (vec![], vec![], vec![]);
    for entry in &first.entries {
        if let Some(other) = second.entries.iter().find(|other| other.label == entry.label) {
            labels.push(entry.label.clone());
            along.push(entry.value);
            up.push(other.value);
        }
    }
    let name = |ranking: &arrakis_core::Ranking| {
        let said = ranking.title.contains(&ranking.value);
        if said { ranking.title.clone() } else { format!("{} ({})", ranking.title, ranking.value) }
    };
    Some((format!("{} and {}", first.title, second.title), (name(first), name(second)), labels, along, up))
}

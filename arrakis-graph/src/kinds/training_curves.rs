//! `training_curves`: what training does to a number, with a band where there are several seeds.

use arrakis_core::{Part, PlotSpec, Series};

use super::grids::wants;
use super::{Kind, Parts, Source, refused, title};
use crate::Result;
use crate::lines::{Curve, Curves};
use crate::picture::Picture;

pub(super) const KIND: Kind = Kind {
    name: "training_curves",
    about: "Curves over steps; lines of one name, or that differ in their seed, are one curve with a band from least to greatest",
    source: Source::Parts(draw),
};

fn draw(spec: &PlotSpec, parts: &Parts<'_>) -> Result<Box<dyn Picture>> {
    let all: Vec<&Series> = parts
        .iter()
        .filter_map(|(_, part)| if let Part::Series(series) = part { Some(series) } else { None })
        .collect();
    let Some(first) = all.first() else { return Err(wants(spec, "a series", parts)) };
    if let Some(other) = all.iter().find(|series| series.axis != first.axis) {
        let why = format!(
            "puts series over one axis, and `{}` and `{}` have different ones; choose one with `--part`",
            first.title, other.title
        );
        return Err(refused(&spec.kind, why));
    }
    let mut groups: Vec<(String, Vec<&[f64]>)> = Vec::new();
    for line in all.iter().flat_map(|series| &series.lines) {
        let name = without_seed(&line.name);
        match groups.iter_mut().find(|(known, _)| known == name) {
            Some((_, lines)) => lines.push(&line.values),
            None => groups.push((name.to_owned(), vec![&line.values])),
        }
    }
    let banded = groups.iter().any(|(_, lines)| lines.len() > 1);
    let curves = groups.into_iter().map(|(name, lines)| curve(name, &lines)).collect();
    let notes = if banded { vec!["line: mean over seeds; band: least to greatest".to_owned()] } else { vec![] };
    Ok(Box::new(Curves {
        title: title(spec, first.title.clone()),
        axis: first.axis.clone(),
        value: first.value.clone(),
        lines: curves,
        log: false,
        notes,
    }))
}

/// The mean of lines and what they range over; a step that a line lacks is that of the others.
fn curve(name: String, lines: &[&[f64]]) -> Curve {
    if let [only] = lines {
        return Curve { name, values: only.to_vec(), band: None };
    }
    let steps = lines.iter().map(|line| line.len()).max().unwrap_or(0);
    let (mut low, mut mean, mut high) = (vec![], vec![], vec![]);
    for step in 0..steps {
        let there: Vec<f64> =
            lines.iter().filter_map(|line| line.get(step).copied()).filter(|value| !value.is_nan()).collect();
        let ends = there.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(a, b), &v| (a.min(v), b.max(v)));
        let (least, most) = if there.is_empty() { (f64::NAN, f64::NAN) } else { ends };
        low.push(least);
        mean.push(there.iter().sum::<f64>() / there.len() as f64);
        high.push(most);
    }
    Curve { name: format!("{name} ({} seeds)", lines.len()), values: mean, band: Some((low, high)) }
}

/// `diagonal` of `diagonal, seed 3`.
fn without_seed(name: &str) -> &str {
    let Some((before, after)) = name.rsplit_once("seed") else { return name };
    let number = after.trim_matches([' ', '=', '#', ')', ']']);
    if number.is_empty() || number.parse::<u64>().is_err() {
        return name;
    }
    before.trim_end_matches([' ', ',', ';', '(', '[', ':', '/'])
}

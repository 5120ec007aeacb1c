//! `feature`: a feature on one sheet, from what tools answer about it.

use arrakis_core::{Grid, Part, PlotSpec};

use super::grids::wants;
use super::{Kind, Parts, Source, refused, title};
use crate::Result;
use crate::feature::{Excerpt, Feature};
use crate::field::Field;
use crate::picture::Picture;
use crate::spread::Spread;

pub(super) const KIND: Kind = Kind {
    name: "feature",
    about: "A feature on one sheet: the texts where it is strongest, coloured by it, how it is spread, what it promotes",
    source: Source::Parts(draw),
};

/// The column of the token that a row of contexts is about.
const HERE: &str = "0";

fn draw(spec: &PlotSpec, parts: &Parts<'_>) -> Result<Box<dyn Picture>> {
    let contexts = parts.iter().find_map(|(_, part)| match part {
        Part::Grid(grid) => tokens_around(grid).map(|(texts, here)| (grid, texts, here)),
        _ => None,
    });
    let Some((grid, texts, here)) = contexts else {
        return Err(wants(spec, "a grid of tokens by `offset`, as `feature_viz.top_tokens` gives", parts));
    };
    // A number and a token for each place.
    Field::of(grid)?;
    let wide = grid.columns.len();
    let rows = grid.values.chunks_exact(wide).zip(texts.chunks_exact(wide));
    let excerpts = rows.map(|(values, tokens)| excerpt(spec, values, tokens, here)).collect::<Result<_>>()?;
    let mut feature = Feature {
        title: title(spec, grid.title.clone()),
        value: grid.value.clone(),
        excerpts,
        spread: None,
        rankings: vec![],
        facts: vec![],
    };
    for (name, part) in parts {
        match part {
            Part::Series(series) if feature.spread.is_none() => feature.spread = Spread::of(series),
            // That of the contexts themselves says nothing new.
            Part::Ranking(ranking) if ranking.title != grid.title && !ranking.entries.is_empty() => {
                feature.rankings.push(ranking.clone());
            }
            // What a tool proves itself by is no trait of the feature.
            Part::Number(number) if !name.ends_with("_gap") => feature.facts.push(((*name).to_owned(), *number)),
            _ => {}
        }
    }
    Ok(Box::new(feature))
}

/// The tokens of a grid by their distance from one, and the column of that one.
fn tokens_around(grid: &Grid) -> Option<(&[String], usize)> {
    let tokens = grid.cells.as_deref().filter(|_| grid.columns.name == "offset")?;
    Some((tokens, grid.columns.labels.iter().position(|label| label == HERE)?))
}

/// A row of contexts without what lies past the ends of its text.
fn excerpt(spec: &PlotSpec, values: &[f64], tokens: &[String], here: usize) -> Result<Excerpt> {
    let within = |place: usize| !(values[place].is_nan() && tokens[place].is_empty());
    if !within(here) {
        return Err(refused(&spec.kind, "has a row of contexts without a token at the offset 0"));
    }
    let from = (0..here).rev().take_while(|place| within(*place)).last().unwrap_or(here);
    let to = (here..tokens.len()).take_while(|place| within(*place)).last().unwrap_or(here);
    Ok(Excerpt { tokens: tokens[from..=to].to_vec(), values: values[from..=to].to_vec(), here: here - from })
}

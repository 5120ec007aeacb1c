//! `text`: a text whose tokens are coloured by a number each.

use arrakis_core::{Part, PlotSpec};

use super::grids::wants;
use super::{Kind, Parts, Source, title};
use crate::Result;
use crate::coloured_text::ColouredText;
use crate::picture::Picture;

pub(super) const KIND: Kind = Kind {
    name: "text",
    about: "A text whose tokens are coloured by a number each: a series over tokens, or the rows of a grid over them",
    source: Source::Parts(draw),
};

fn draw(spec: &PlotSpec, parts: &Parts<'_>) -> Result<Box<dyn Picture>> {
    let text = |part: &Part| match part {
        Part::Series(series) => {
            let rows = series.lines.iter().map(|line| (line.name.clone(), line.values.clone())).collect();
            Some((series.title.clone(), series.value.clone(), series.axis.labels.clone(), rows))
        }
        Part::Grid(grid) if !grid.columns.is_empty() => {
            let name = |row: usize| match grid.rows.labels.as_slice() {
                [_] => String::new(),
                labels => format!("{} {}", grid.rows.name, labels[row]),
            };
            let lines = grid.values.chunks_exact(grid.columns.len()).enumerate();
            let rows = lines.map(|(row, values)| (name(row), values.to_vec())).collect();
            Some((grid.title.clone(), grid.value.clone(), grid.columns.labels.clone(), rows))
        }
        _ => None,
    };
    let Some((own, value, tokens, rows)) = parts.iter().find_map(|(_, part)| text(part)) else {
        return Err(wants(spec, "a series over tokens, or a grid whose columns are tokens", parts));
    };
    Ok(Box::new(ColouredText { title: title(spec, own), value, tokens, rows }))
}

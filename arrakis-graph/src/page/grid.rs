//! A grid as a table whose cells can be read one by one.

use arrakis_core::{Grid, Scale};
use serde_json::{Value, json};

use super::Widget;
use super::blobs::Blob;
use crate::colour::Ramp;
use crate::field::{Field, odd_notes};
use crate::{Result, label};

/// The widget of a grid.
pub(crate) fn widget(grid: &Grid) -> Result<Widget> {
    let field = Field::of(grid)?;
    let ramp = Ramp::over(field.values.iter().copied(), grid.scale);
    let data = json!({
        "kind": "grid",
        "value": label::spelled(&grid.value),
        "rows": { "name": label::spelled(&grid.rows.name), "labels": spelled(&field.rows) },
        "columns": { "name": label::spelled(&grid.columns.name), "labels": spelled(&field.columns) },
        "cells": grid.cells.as_ref().map(|cells| spelled(cells)),
        "scale": scale(grid.scale),
        "low": ramp.low,
        "high": ramp.high,
        "notes": odd_notes(&field.values, "hatched", "drawn as the end of the scale"),
    });
    Ok(Widget { data, blobs: vec![Blob::float32(&field.values)] })
}

/// Labels in which everything can be seen.
pub(super) fn spelled(labels: &[String]) -> Value {
    labels.iter().map(|text| label::spelled(text)).collect()
}

/// The script's name of a scale.
pub(super) fn scale(scale: Scale) -> &'static str {
    match scale {
        Scale::Sequential => "sequential",
        Scale::Diverging => "diverging",
    }
}

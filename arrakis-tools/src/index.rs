//! Indices that come from outside, checked where they enter; and the labels of rows and heads.

use arrakis_core::{Dims, Error, Result};

/// The place of a position among `len`; negative ones count from the end.
pub(crate) fn position(index: i64, len: usize) -> Result<i64> {
    let len = len as i64;
    let place = if index < 0 { index + len } else { index };
    if (0..len).contains(&place) {
        return Ok(place);
    }
    Err(Error::OutOfRange { what: "position".into(), index, len })
}

/// The chosen indices below `len`, or all of them if nothing was chosen.
pub(crate) fn chosen(what: &str, wanted: Option<&[usize]>, len: usize) -> Result<Vec<usize>> {
    let Some(wanted) = wanted else { return Ok((0..len).collect()) };
    if wanted.is_empty() {
        return Err(Error::Invalid { what: format!("{what}s"), why: "the list is empty; leave it out for all".into() });
    }
    match wanted.iter().find(|index| **index >= len) {
        None => Ok(wanted.to_vec()),
        Some(index) => Err(Error::OutOfRange { what: what.into(), index: *index as i64, len: len as i64 }),
    }
}

/// How many entries of a ranking are shown: at least one, and no more than there are.
pub(crate) fn count(what: &str, wanted: usize, len: usize) -> Result<usize> {
    if wanted == 0 || wanted > len {
        return Err(Error::Invalid { what: format!("{what} {wanted}"), why: format!("give a number in 1..={len}") });
    }
    Ok(wanted)
}

/// The name of a part of the answer about one row of `rows`.
pub(crate) fn row_part(row: usize, rows: usize, name: &str) -> String {
    if rows == 1 { name.to_owned() } else { format!("row{row}.{name}") }
}

/// A head's name, as in TransformerLens.
pub(crate) fn head_label(layer: usize, head: usize) -> String {
    format!("L{layer}H{head}")
}

/// Whole numbers for an axis.
pub(crate) fn labels(indices: &[usize]) -> Vec<String> {
    indices.iter().map(ToString::to_string).collect()
}

/// A head given as layer and number.
pub(crate) fn head(dims: &Dims, [layer, head]: [usize; 2]) -> Result<(usize, usize)> {
    for (what, index, len) in [("layer", layer, dims.n_layers), ("head", head, dims.n_heads)] {
        if index >= len {
            return Err(Error::OutOfRange { what: what.into(), index: index as i64, len: len as i64 });
        }
    }
    Ok((layer, head))
}

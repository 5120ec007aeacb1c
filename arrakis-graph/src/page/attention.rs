//! Attention patterns to be explored: layers by a slider, heads by small maps, tokens by hovering both ways.

use arrakis_core::answer::numbers;
use arrakis_core::{Axis, Stack};
use serde_json::json;

use super::Widget;
use super::blobs::{Blob, rooted};
use super::grid::spelled;
use crate::Result;

/// The most bytes of patterns that a page holds before it is packed.
const MOST: usize = 8_000_000;
/// How many keys of each query are kept at least and at most where there are more bytes than that.
const KEYS: (usize, usize) = (4, 32);
/// How many keys of each query of the mean and the greatest over heads.
const POOLED: usize = 16;

/// The widget of `[layer, head, query, key]`, or of `[head, query, key]`; none of other axes, or of numbers that are no
/// shares.
pub(crate) fn widget(stack: &Stack, causal: bool, notes: &[String]) -> Result<Option<Widget>> {
    let alone = Axis::new("layer", ["0"]);
    let (layers, heads, queries, keys) = match stack.axes.as_slice() {
        [layers, heads, queries, keys] => (layers, heads, queries, keys),
        [heads, queries, keys] => (&alone, heads, queries, keys),
        _ => return Ok(None),
    };
    let square = queries.labels == keys.labels && !queries.is_empty() && !layers.is_empty() && !heads.is_empty();
    // A key is written in 16 bits.
    if !square || stack.value != "attention" || keys.len() > 65_535 {
        return Ok(None);
    }
    let len = queries.len();
    let shape = [layers.len() as i64, heads.len() as i64, len as i64, len as i64];
    let values = stack.values.f_reshape(shape)?;

    let rows = layers.len() * heads.len() * len;
    let dense = if causal { rows * (len + 1) / 2 } else { rows * len };
    let kept = (dense > MOST).then(|| (MOST / (3 * rows)).clamp(KEYS.0, KEYS.1).min(len));
    let (mut blobs, mut covered, mut whole) = (Vec::new(), 0.0, 0.0);
    for layer in 0..layers.len() {
        let layer = values.f_select(0, layer as i64)?;
        let numbers = numbers(&layer)?;
        if numbers.iter().any(|share| !(-1e-6..=1.001).contains(share)) {
            return Ok(None);
        }
        let Some(kept) = kept else {
            blobs.push(Blob::of(matrix(&numbers, len, causal)));
            continue;
        };
        let mut bytes = strongest(&numbers, len, causal, kept, &mut covered);
        whole += numbers.iter().sum::<f64>();
        for pooled in [layer.f_mean_dim(0_i64, false, tch::Kind::Double)?, layer.f_amax([0], false)?] {
            bytes.extend(strongest(&self::numbers(&pooled)?, len, causal, POOLED.min(len), &mut 0.0));
        }
        blobs.push(Blob::of(bytes));
    }
    let mut notes = notes.to_vec();
    if let Some(kept) = kept {
        let share = if whole > 0.0 { 100.0 * covered / whole } else { 100.0 };
        notes.push(format!(
            "so that the page stays small it holds the {kept} strongest keys of each query, {share:.1}% of all attention"
        ));
    }
    notes.push("weights are stored in one byte each, by their root: off by 0.004 at most".into());
    let data = json!({
        "kind": "attention",
        "layers": spelled(&layers.labels),
        "heads": spelled(&heads.labels),
        "tokens": spelled(&queries.labels),
        "causal": causal,
        "kept": kept,
        "pooled": POOLED.min(len),
        "notes": notes,
    });
    Ok(Some(Widget { data, blobs }))
}

/// Every weight, or those up to the diagonal, a byte each.
fn matrix(numbers: &[f64], len: usize, causal: bool) -> Vec<u8> {
    let rows = numbers.chunks_exact(len).enumerate();
    rows.flat_map(|(row, weights)| {
        let seen = if causal { row % len + 1 } else { len };
        weights[..seen].iter().map(|weight| rooted(*weight))
    })
    .collect()
}

/// The strongest keys of each query: all their numbers, two bytes each, then all their weights, one byte each.
fn strongest(numbers: &[f64], len: usize, causal: bool, kept: usize, covered: &mut f64) -> Vec<u8> {
    let (mut keys, mut weights, mut order) = (Vec::new(), Vec::new(), Vec::with_capacity(len));
    for (query, row) in numbers.chunks_exact(len).enumerate() {
        order.clear();
        // Later keys hold nothing, and earlier ones come first among equals.
        order.extend(0..if causal { (query % len + 1).max(kept) } else { len });
        order.select_nth_unstable_by(kept - 1, |&a, &b| row[b].total_cmp(&row[a]).then(a.cmp(&b)));
        order.truncate(kept);
        order.sort_unstable();
        for &key in &order {
            *covered += row[key];
            keys.extend((key as u16).to_le_bytes());
            weights.push(rooted(row[key]));
        }
    }
    keys.extend(weights);
    keys
}

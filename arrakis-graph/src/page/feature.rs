//! A feature to be explored: its texts token by token, its spread bar by bar.

use serde_json::json;

use super::Widget;
use super::blobs::Blob;
use super::grid::{scale, spelled};
use crate::feature::Feature;
use crate::field::some;
use crate::ticks::short;
use crate::{Result, label};

/// The widget of a feature; its numbers lie in the order of `data`: texts, spread, rankings.
pub(crate) fn widget(feature: &Feature) -> Result<Widget> {
    some(&feature.title, "it has no texts", feature.excerpts.len())?;
    let ramp = feature.ramp();
    let mut values: Vec<f64> = feature.excerpts.iter().flat_map(|excerpt| &excerpt.values).copied().collect();
    values.extend(feature.spread.iter().flat_map(|spread| &spread.counts));
    values.extend(feature.rankings.iter().flat_map(|ranking| &ranking.entries).map(|entry| entry.value));
    let excerpts =
        feature.excerpts.iter().map(|excerpt| json!({ "tokens": spelled(&excerpt.tokens), "here": excerpt.here }));
    let spread = feature.spread.as_ref().map(|spread| {
        json!({
            "counted": label::spelled(&spread.counted), "low": spread.low, "step": spread.step,
            "bins": spread.counts.len(), "log": spread.by_log(),
        })
    });
    let rankings = feature.rankings.iter().map(|ranking| {
        let labels: Vec<String> = ranking.entries.iter().map(|entry| label::spelled(&entry.label)).collect();
        json!({ "title": label::spelled(&ranking.title), "value": label::spelled(&ranking.value), "labels": labels })
    });
    let facts = feature.facts.iter().map(|(name, fact)| json!([label::spelled(name), short(*fact, fact.abs())]));
    let data = json!({
        "kind": "feature",
        "value": label::spelled(&feature.value),
        "scale": scale(ramp.scale),
        "low": ramp.low,
        "high": ramp.high,
        "excerpts": excerpts.collect::<Vec<_>>(),
        "spread": spread,
        "rankings": rankings.collect::<Vec<_>>(),
        "facts": facts.collect::<Vec<_>>(),
    });
    Ok(Widget { data, blobs: vec![Blob::float32(&values)] })
}

//! `induction_heads`: the stripes of heads that look at what followed the same token before.

use arrakis_core::{Kept, PlotSpec, Site};

use super::attention::patterns;
use super::readings::numbers;
use super::{Kind, Source, refused};
use crate::Result;
use crate::picture::Picture;

/// From which score on a head is framed.
const FRAMED: f64 = 0.3;
/// How many scores the notes name.
const NAMED: usize = 5;

pub(super) const KIND: Kind = Kind {
    name: "induction_heads",
    about: "Induction stripes: every head's map on a text that repeats itself, framed where it looks at what came next",
    source: Source::Points { needs: &[Site::PATTERN], may: &[], heads: true, draw },
};

fn draw(spec: &PlotSpec, kept: Kept<'_>) -> Result<Box<dyn Picture>> {
    let targets = targets(kept.ids);
    if targets.is_empty() {
        return Err(refused(&spec.kind, "wants a text in which tokens come again, and in this one none does"));
    }
    let mut panels = patterns(spec, kept, "Induction heads")?;
    let values = numbers(&panels.stack.values)?;
    let len = kept.ids.len();
    let queries = targets.iter().map(|(query, _)| *query).collect::<std::collections::BTreeSet<_>>().len() as f64;
    let score = |panel: &[f64]| targets.iter().map(|(query, key)| panel[query * len + key]).sum::<f64>() / queries;
    let scores: Vec<f64> = values.chunks_exact(len * len).map(score).collect();
    panels.framed = (0..scores.len()).filter(|&panel| scores[panel] >= FRAMED).collect();

    let heads = panels.stack.axes[1].len();
    let name = |panel: usize| {
        let (layer, head) = (&panels.stack.axes[0].labels[panel / heads], &panels.stack.axes[1].labels[panel % heads]);
        format!("L{layer}H{head}\u{A0}{:.2}", scores[panel])
    };
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]));
    let best: Vec<String> = order.into_iter().take(NAMED).map(name).collect();
    let note = format!(
        "score: mean attention to what followed the same token before; framed from {FRAMED} on; {}",
        best.join(", ")
    );
    panels.notes.push(note);
    Ok(Box::new(panels))
}

/// Every query whose token came before, with each place after such an earlier one, itself left out.
fn targets(ids: &[i64]) -> Vec<(usize, usize)> {
    let pairs = (0..ids.len()).flat_map(|query| (0..query).map(move |before| (query, before)));
    pairs.filter(|&(query, before)| ids[query] == ids[before] && before + 1 < query).map(|(q, b)| (q, b + 1)).collect()
}

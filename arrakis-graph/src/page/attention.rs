//! Attention patterns to be explored: layers by a slider, heads by small maps, tokens by hovering both ways.

use arrakis_core::{Axis, Stack};
use rayon::prelude::*;
use serde_json::json;
use tch::{Device, Kind, Tensor};

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
    let values = stack.values.f_detach()?.f_reshape(shape)?;

    let rows = layers.len() * heads.len() * len;
    let dense = if causal { rows * (len + 1) / 2 } else { rows * len };
    let kept = (dense > MOST).then(|| (MOST / (3 * rows)).clamp(KEYS.0, KEYS.1).min(len));
    let maps = Maps { len, causal, kept };
    let layer_of = |place: usize| Ok(values.f_select(0, place as i64)?);
    let tensors = (0..layers.len()).map(layer_of).collect::<Result<Vec<Tensor>>>()?;
    let written: Vec<_> = tensors.into_par_iter().map(|layer| maps.written(&layer)).collect();
    let (mut blobs, mut covered, mut whole) = (Vec::new(), 0.0, 0.0);
    for layer in written {
        let Some(layer) = layer? else { return Ok(None) };
        covered += layer.covered;
        whole += layer.whole;
        blobs.push(Blob::of(layer.bytes));
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

/// How the maps of a layer are written.
#[derive(Clone, Copy)]
struct Maps {
    /// How many queries and keys there are.
    len: usize,
    causal: bool,
    /// How many keys of each query are held, where not all are.
    kept: Option<usize>,
}

/// The bytes of a layer, and how much of its attention they hold.
#[derive(Default)]
struct Layer {
    bytes: Vec<u8>,
    covered: f64,
    whole: f64,
}

impl Maps {
    /// A layer's maps (`[head, query, key]`), and where not all keys are held those of the mean and the greatest over
    /// heads; none if a number is no share.
    fn written(&self, layer: &Tensor) -> Result<Option<Layer>> {
        let numbers = layer.f_to_device(Device::Cpu)?.f_to_kind(Kind::Float)?.f_contiguous()?.f_reshape([-1])?;
        let numbers: Vec<f32> = Vec::try_from(numbers)?;
        if !numbers.iter().all(|share| (-1e-6..=1.001).contains(share)) {
            return Ok(None);
        }
        let Some(kept) = self.kept else {
            return Ok(Some(Layer { bytes: self.matrix(&numbers), ..Layer::default() }));
        };
        let mut written = Layer::default();
        written.covered = self.strongest(&numbers, kept, &mut written.bytes);
        let size = self.len * self.len;
        let (mut mean, mut greatest) = (vec![0.0_f32; size], vec![0.0_f32; size]);
        for head in numbers.chunks_exact(size) {
            written.whole += head.chunks(self.len).map(|row| f64::from(row.iter().sum::<f32>())).sum::<f64>();
            for ((mean, greatest), share) in mean.iter_mut().zip(&mut greatest).zip(head) {
                *mean += share;
                *greatest = greatest.max(*share);
            }
        }
        let heads = (numbers.len() / size) as f32;
        for sum in &mut mean {
            *sum /= heads;
        }
        for pooled in [mean, greatest] {
            self.strongest(&pooled, POOLED.min(self.len), &mut written.bytes);
        }
        Ok(Some(written))
    }

    /// Every weight, or those up to the diagonal, a byte each.
    fn matrix(&self, numbers: &[f32]) -> Vec<u8> {
        let rows = numbers.chunks_exact(self.len).enumerate();
        rows.flat_map(|(row, weights)| {
            let seen = if self.causal { row % self.len + 1 } else { self.len };
            weights[..seen].iter().map(|weight| rooted(f64::from(*weight)))
        })
        .collect()
    }

    /// Writes the strongest keys of each query in their order, and gives the sum of their weights.
    ///
    /// First the low bytes of all keys, then the high bytes, then the weights, a byte each: alike beside alike packs well.
    fn strongest(&self, numbers: &[f32], kept: usize, bytes: &mut Vec<u8>) -> f64 {
        let count = numbers.len() / self.len * kept;
        let (mut high, mut weights) = (Vec::with_capacity(count), Vec::with_capacity(count));
        bytes.reserve(3 * count);
        let mut covered = 0.0;
        let mut best: Vec<(f32, u16)> = Vec::with_capacity(kept + 1);
        for (query, row) in numbers.chunks_exact(self.len).enumerate() {
            // Later keys hold nothing.
            let seen = if self.causal { (query % self.len + 1).max(kept) } else { self.len };
            best.clear();
            for (key, &weight) in row[..seen].iter().enumerate() {
                // Strongest first, and earlier ones first among equals.
                if best.len() < kept || best.last().is_some_and(|(least, _)| weight > *least) {
                    best.truncate(kept - 1);
                    let place = best.partition_point(|(other, _)| *other >= weight);
                    best.insert(place, (weight, key as u16));
                }
            }
            best.sort_unstable_by_key(|(_, key)| *key);
            for &(weight, key) in &best {
                covered += f64::from(weight);
                let [low_byte, high_byte] = key.to_le_bytes();
                bytes.push(low_byte);
                high.push(high_byte);
                weights.push(rooted(f64::from(weight)));
            }
        }
        bytes.extend(high);
        bytes.extend(weights);
        covered
    }
}

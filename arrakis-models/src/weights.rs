//! Weights by TransformerLens' names: where each lies in a decoder, and how it is turned.

use arrakis_core::{Error, Model, Result, Weight, WeightPoint, unknown_weight};
use tch::Tensor;

use crate::block::Block;
use crate::decoder::Decoder;

/// How a stored weight becomes TransformerLens' weight.
#[derive(Clone, Copy)]
enum Turn {
    /// It is the same.
    None,
    /// `[d_model, heads * d_head]` becomes `[head, d_model, d_head]`.
    HeadsOut(i64),
    /// `[heads * d_head, d_model]` becomes `[head, d_head, d_model]`.
    HeadsIn(i64),
    /// `[heads * d_head]` becomes `[head, d_head]`.
    HeadsBias(i64),
}

impl Turn {
    fn outward(self, stored: &Tensor) -> Result<Tensor> {
        Ok(match self {
            Self::None => stored.shallow_clone(),
            Self::HeadsOut(heads) => stored.f_unflatten(1, [heads, -1])?.f_permute([1, 0, 2])?,
            Self::HeadsIn(heads) | Self::HeadsBias(heads) => stored.f_unflatten(0, [heads, -1])?,
        })
    }

    fn inward(self, weight: &Tensor) -> Result<Tensor> {
        Ok(match self {
            Self::None => weight.shallow_clone(),
            Self::HeadsOut(_) => weight.f_permute([1, 0, 2])?.f_flatten(1, 2)?,
            Self::HeadsIn(_) | Self::HeadsBias(_) => weight.f_flatten(0, 1)?,
        })
    }
}

enum Place<'a> {
    Always(&'a mut Tensor),
    Maybe(&'a mut Option<Tensor>),
}

impl Place<'_> {
    fn value(&self) -> Option<&Tensor> {
        match self {
            Self::Always(tensor) => Some(tensor),
            Self::Maybe(tensor) => tensor.as_ref(),
        }
    }
}

const GLOBAL: [Weight; 6] = [Weight::E, Weight::POS, Weight::LN_FINAL_W, Weight::LN_FINAL_B, Weight::U, Weight::U_B];

const BLOCK: [Weight; 20] = [
    Weight::LN1_W,
    Weight::LN1_B,
    Weight::Q,
    Weight::K,
    Weight::V,
    Weight::O,
    Weight::Q_B,
    Weight::K_B,
    Weight::V_B,
    Weight::O_B,
    Weight::Q_NORM,
    Weight::K_NORM,
    Weight::LN2_W,
    Weight::LN2_B,
    Weight::GATE,
    Weight::GATE_B,
    Weight::IN,
    Weight::IN_B,
    Weight::OUT,
    Weight::OUT_B,
];

/// Whether a kind of weight is one that a decoder may have.
pub(crate) fn is_known(weight: Weight) -> bool {
    GLOBAL.contains(&weight) || BLOCK.contains(&weight)
}

/// Every weight that a decoder has.
pub(crate) fn list(decoder: &Decoder) -> Vec<WeightPoint> {
    let mut decoder = decoder.shallow_clone();
    let layers = decoder.blocks.len();
    let blocks = (0..layers).flat_map(|layer| BLOCK.map(|weight| weight.at(layer)));
    let (before, after) = GLOBAL.split_at(2);
    let all = before.iter().map(|weight| weight.global()).chain(blocks);
    let all: Vec<WeightPoint> = all.chain(after.iter().map(|weight| weight.global())).collect();
    all.into_iter()
        .filter(|weight| place(&mut decoder, *weight).is_some_and(|(place, _)| place.value().is_some()))
        .collect()
}

/// A weight, turned; nothing if the decoder has none of that name.
pub(crate) fn get(decoder: &Decoder, weight: WeightPoint) -> Option<Result<Tensor>> {
    let mut decoder = decoder.shallow_clone();
    let (place, turn) = place(&mut decoder, weight)?;
    place.value().map(|stored| turn.outward(stored))
}

/// Puts a weight in place of the old one; a bias may also stand where there was none.
pub(crate) fn set(decoder: &mut Decoder, weight: WeightPoint, value: &Tensor) -> Result<()> {
    let wanted = shape(decoder, weight).ok_or_else(|| unknown_weight(&weight.to_string(), &decoder.weights()))?;
    if value.size() != wanted {
        let why = format!("shape {:?} where {wanted:?} is wanted", value.size());
        return Err(Error::Invalid { what: format!("weight `{weight}`"), why });
    }
    let (device, kind) = (decoder.device(), decoder.kind());
    if let Some((place, turn)) = place(decoder, weight) {
        // A weight that is kept finer than the model's kind stays so.
        let kind = place.value().map_or(kind, Tensor::kind);
        let stored = turn.inward(&value.f_to_device(device)?.f_to_kind(kind)?)?;
        match place {
            Place::Always(tensor) => *tensor = stored,
            Place::Maybe(tensor) => *tensor = Some(stored),
        }
    }
    let of_qkv = [Weight::Q, Weight::K, Weight::V, Weight::Q_B, Weight::K_B, Weight::V_B].contains(&weight.weight);
    if let (true, Some(layer)) = (of_qkv, weight.layer) {
        decoder.blocks[layer].attention.stacked = None;
    }
    Ok(())
}

/// The shape that a weight has or would have.
fn shape(decoder: &Decoder, weight: WeightPoint) -> Option<Vec<i64>> {
    if let Some(Ok(tensor)) = get(decoder, weight) {
        return Some(tensor.size());
    }
    let dims = decoder.dims();
    place(&mut decoder.shallow_clone(), weight)?;
    let (heads, kv_heads, d_head) = (dims.n_heads as i64, dims.n_kv_heads as i64, dims.d_head as i64);
    Some(match weight.weight {
        Weight::Q_B => vec![heads, d_head],
        Weight::K_B | Weight::V_B => vec![kv_heads, d_head],
        Weight::IN_B | Weight::GATE_B => vec![dims.d_mlp as i64],
        Weight::U_B => vec![dims.vocab as i64],
        Weight::O_B | Weight::OUT_B | Weight::LN1_B | Weight::LN2_B | Weight::LN_FINAL_B => vec![dims.d_model as i64],
        _ => return None,
    })
}

fn place(decoder: &mut Decoder, weight: WeightPoint) -> Option<(Place<'_>, Turn)> {
    if let Some(layer) = weight.layer {
        return block_place(decoder.blocks.get_mut(layer)?, weight.weight);
    }
    let place = match weight.weight {
        Weight::E => Place::Always(&mut decoder.embed),
        Weight::POS => {
            decoder.pos_embed.as_ref()?;
            Place::Maybe(&mut decoder.pos_embed)
        }
        Weight::LN_FINAL_W => Place::Always(&mut decoder.ln_final.weight),
        Weight::LN_FINAL_B => Place::Maybe(&mut decoder.ln_final.bias),
        Weight::U => Place::Always(&mut decoder.unembed.weight),
        Weight::U_B => Place::Maybe(&mut decoder.unembed.bias),
        _ => return None,
    };
    Some((place, Turn::None))
}

fn block_place(block: &mut Block, weight: Weight) -> Option<(Place<'_>, Turn)> {
    use Place::{Always, Maybe};
    let attention = &mut block.attention;
    let (heads, kv_heads) = (attention.n_heads, attention.n_kv_heads);
    Some(match weight {
        Weight::LN1_W => (Always(&mut block.ln1.weight), Turn::None),
        Weight::LN1_B => (Maybe(&mut block.ln1.bias), Turn::None),
        Weight::Q => (Always(&mut attention.q.weight), Turn::HeadsOut(heads)),
        Weight::K => (Always(&mut attention.k.weight), Turn::HeadsOut(kv_heads)),
        Weight::V => (Always(&mut attention.v.weight), Turn::HeadsOut(kv_heads)),
        Weight::O => (Always(&mut attention.o.weight), Turn::HeadsIn(heads)),
        Weight::Q_B => (Maybe(&mut attention.q.bias), Turn::HeadsBias(heads)),
        Weight::K_B => (Maybe(&mut attention.k.bias), Turn::HeadsBias(kv_heads)),
        Weight::V_B => (Maybe(&mut attention.v.bias), Turn::HeadsBias(kv_heads)),
        Weight::O_B => (Maybe(&mut attention.o.bias), Turn::None),
        Weight::Q_NORM => (Always(&mut attention.qk_norms.as_mut()?[0].weight), Turn::None),
        Weight::K_NORM => (Always(&mut attention.qk_norms.as_mut()?[1].weight), Turn::None),
        Weight::LN2_W => (Always(&mut block.ln2.as_mut()?.weight), Turn::None),
        Weight::LN2_B => (Maybe(&mut block.ln2.as_mut()?.bias), Turn::None),
        Weight::GATE => (Always(&mut block.mlp.gate.as_mut()?.weight), Turn::None),
        Weight::GATE_B => (Maybe(&mut block.mlp.gate.as_mut()?.bias), Turn::None),
        Weight::IN => (Always(&mut block.mlp.input.weight), Turn::None),
        Weight::IN_B => (Maybe(&mut block.mlp.input.bias), Turn::None),
        Weight::OUT => (Always(&mut block.mlp.output.weight), Turn::None),
        Weight::OUT_B => (Maybe(&mut block.mlp.output.bias), Turn::None),
        _ => return None,
    })
}

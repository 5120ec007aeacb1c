//! Where a pass stands: its place in the text, checked before anything is computed.

use std::ops::Range;

use arrakis_core::{Dims, Error, Input, KeyValues, Pass, Result};
use tch::{Device, Kind, Tensor};

/// Rows, positions, padding and blocks of a pass, all as the model can take them.
#[derive(Debug)]
pub struct Place {
    /// Rows.
    pub batch: i64,
    /// Positions of the pass.
    pub len: i64,
    /// Positions seen before it.
    pub past_len: i64,
    /// The blocks to run.
    pub layers: Range<usize>,
    /// The position of each token of the pass, on the CPU: `[batch or 1, pos]`.
    pub positions: Tensor,
    /// The position of each key, past ones included, on the CPU: `[batch or 1, key]`.
    pub all_positions: Tensor,
    /// Which keys are real, past ones included, if some may be padding, on the CPU: `[batch, key]`, booleans.
    pub real: Option<Tensor>,
    /// The positions of the text that the pass completes.
    pub length: usize,
}

impl Place {
    /// The place of a pass through a model of these sizes and kind; `stretches` if it takes texts beyond its context.
    ///
    /// # Errors
    /// Token ids outside the vocabulary, shapes and layers that do not fit, and texts beyond the context, by name.
    pub fn of(pass: &Pass<'_>, dims: &Dims, kind: Kind, stretches: bool) -> Result<Self> {
        let (batch, len) = rows_and_positions(&pass.input, dims, kind)?;
        let layers = layers(pass, dims.n_layers, batch)?;
        let past_len = pass.past.map_or(0, KeyValues::len);
        let real = joined_mask(pass.past.and_then(|past| past.mask.as_ref()), pass.mask, batch, past_len, len)?;
        let positions = match pass.positions {
            Some(given) => given_positions(given, batch, len)?,
            None => counted_positions(real.as_ref(), pass.past, batch, len)?,
        };
        let all_positions = match pass.past {
            Some(past) => Tensor::f_cat(&[&past.positions, &positions.f_expand([batch, len], false)?], 1)?,
            None => positions.shallow_clone(),
        };
        let length = all_positions.f_max()?.f_int64_value(&[])? + 1;
        let context = dims.context as i64;
        if length > context && !stretches {
            return Err(Error::TooLong { len: length, context });
        }
        Ok(Self { batch, len, past_len, layers, positions, all_positions, real, length: length as usize })
    }

    /// The key-value state after the pass: `layers` as [`KeyValues`] has them.
    pub fn past(&self, layers: Vec<(Tensor, Tensor)>) -> Result<KeyValues> {
        let positions = self.all_positions.f_expand([self.batch, self.past_len + self.len], false)?.f_contiguous()?;
        Ok(KeyValues { layers, positions, mask: self.real.as_ref().map(Tensor::shallow_clone) })
    }
}

/// Rows and positions of what a pass starts from.
fn rows_and_positions(input: &Input<'_>, dims: &Dims, kind: Kind) -> Result<(i64, i64)> {
    let wrong = |what: &str, size: &[i64], wanted: &str| {
        Err(Error::Invalid { what: what.into(), why: format!("shape {size:?} where {wanted} is wanted") })
    };
    match input {
        Input::Tokens(tokens) => {
            let [batch, len] = tokens.size()[..] else {
                return wrong("token ids", &tokens.size(), "[batch, pos]");
            };
            if batch == 0 || len == 0 {
                return Err(Error::EmptyPrompt);
            }
            check_vocabulary(tokens, dims.vocab as i64)?;
            Ok((batch, len))
        }
        Input::Residual(residual) => match residual.size()[..] {
            [batch, len, width] if width == dims.d_model as i64 && batch * len > 0 => {
                if residual.kind() != kind {
                    let why = format!("kind {:?} where the model is {kind:?}", residual.kind());
                    return Err(Error::Invalid { what: "residual stream".into(), why });
                }
                Ok((batch, len))
            }
            _ => wrong("residual stream", &residual.size(), "[batch, pos, d_model]"),
        },
    }
}

/// The blocks that a pass runs.
fn layers(pass: &Pass<'_>, n_layers: usize, batch: i64) -> Result<Range<usize>> {
    let stop = pass.stop_at.unwrap_or(n_layers);
    for (what, layer) in [("stop_at layer", stop), ("start_at layer", pass.start_at)] {
        if layer > n_layers {
            return Err(Error::OutOfRange { what: what.into(), index: layer as i64, len: n_layers as i64 });
        }
    }
    if pass.start_at > stop || (pass.start_at > 0 && matches!(pass.input, Input::Tokens(_))) {
        let why = "a pass starts at a layer from a residual stream, and stops at a later one".into();
        return Err(Error::Invalid { what: format!("layers {}..{stop}", pass.start_at), why });
    }
    let state = |why: String| Err(Error::Invalid { what: "key-value state".into(), why });
    if let Some(past) = pass.past {
        if past.layers.len() != n_layers {
            return state(format!("it has other blocks than this model's {n_layers}"));
        }
        let size = past.positions.size();
        if size.first() != Some(&batch) {
            return state(format!("it has {size:?} rows and positions where the pass has {batch} rows"));
        }
    }
    if pass.keep_past && (pass.start_at > 0 || stop < n_layers) {
        return state("a pass through the whole model gives it, and this one leaves blocks out".into());
    }
    Ok(pass.start_at..stop)
}

/// Positions from outside, on the CPU: `[batch or 1, pos]`.
fn given_positions(given: &Tensor, batch: i64, len: i64) -> Result<Tensor> {
    let refuse = |why: String| Err(Error::Invalid { what: "positions".into(), why });
    if given.size() != [batch, len] && given.size() != [1, len] {
        return refuse(format!("shape {:?} for a pass of [{batch}, {len}]", given.size()));
    }
    let positions = given.f_to_device(Device::Cpu)?.f_to_kind(Kind::Int64)?;
    if positions.f_min()?.f_int64_value(&[])? < 0 {
        return refuse("one of them is negative".into());
    }
    Ok(positions)
}

/// Positions counted over the real tokens, going on after the past: `[batch or 1, pos]`.
fn counted_positions(real: Option<&Tensor>, past: Option<&KeyValues>, batch: i64, len: i64) -> Result<Tensor> {
    let Some(real) = real else {
        let start = past.map_or(0, KeyValues::len);
        let counted = Tensor::f_arange_start(start, start + len, (Kind::Int64, Device::Cpu))?;
        // A past whose positions were given need not end where counting would.
        return match past {
            Some(past) => {
                let next = past.positions.f_amax([1], true)?.f_add_scalar(1)?;
                Ok(counted.f_sub_scalar(start)?.f_add(&next)?.f_expand([batch, len], false)?)
            }
            None => Ok(counted.f_unsqueeze(0)?),
        };
    };
    let counted = real.f_narrow(1, real.size()[1] - len, len)?.f_to_kind(Kind::Int64)?.f_cumsum(1, None::<Kind>)?;
    match past {
        Some(past) => Ok(counted.f_add(&past.positions.f_amax([1], true)?)?),
        None => Ok(counted.f_sub_scalar(1)?.f_clamp_min(0)?),
    }
}

/// Which keys are real, past ones included: `[batch, key]`; nothing if all are.
fn joined_mask(
    past: Option<&Tensor>,
    mask: Option<&Tensor>,
    batch: i64,
    past_len: i64,
    len: i64,
) -> Result<Option<Tensor>> {
    if let Some(mask) = mask
        && mask.size() != [batch, len]
    {
        let why = format!("shape {:?} for a pass of [{batch}, {len}]", mask.size());
        return Err(Error::Invalid { what: "mask".into(), why });
    }
    if past.is_none() && mask.is_none() {
        return Ok(None);
    }
    let part = |mask: Option<&Tensor>, len: i64| -> Result<Tensor> {
        match mask {
            Some(mask) => Ok(mask.f_to_kind(Kind::Bool)?.f_to_device(Device::Cpu)?),
            None => Ok(Tensor::f_ones([batch, len], (Kind::Bool, Device::Cpu))?),
        }
    };
    Ok(Some(Tensor::f_cat(&[part(past, past_len)?, part(mask, len)?], 1)?))
}

/// An error that names the first token id outside the vocabulary; LibTorch would poison a CUDA context.
fn check_vocabulary(tokens: &Tensor, vocab: i64) -> Result<()> {
    let tokens = tokens.f_to_device(Device::Cpu)?;
    let (least, greatest) = (tokens.f_min()?.f_int64_value(&[])?, tokens.f_max()?.f_int64_value(&[])?);
    if least >= 0 && greatest < vocab {
        return Ok(());
    }
    let len = tokens.size()[1] as usize;
    let ids: Vec<i64> = Vec::try_from(tokens.f_to_kind(Kind::Int64)?.f_contiguous()?.f_view([-1])?)?;
    let wrong = ids.iter().enumerate().find(|(_, id)| !(0..vocab).contains(*id));
    let (place, token) = wrong.map_or((0, least), |(place, id)| (place, *id));
    Err(Error::Token { token, row: place / len, position: place % len, vocab })
}

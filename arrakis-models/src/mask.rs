//! Who may attend to whom.

use std::collections::HashMap;

use arrakis_core::Result;
use tch::{Device, Kind, Tensor};

use crate::architecture::Window;

/// The masks of one pass, one for each kind of window.
#[derive(Debug)]
pub struct Masks {
    by_window: HashMap<Window, Mask>,
}

/// What one kind of window lets through.
#[derive(Debug)]
pub enum Mask {
    /// Everything: a single position that sees all before it.
    Open,
    /// Everything up to the position itself; true where a key may be seen: `[query, key]`.
    Causal(Tensor),
    /// True where a key may be seen: `[batch or 1, 1, query, key]`.
    Some(Tensor),
}

impl Mask {
    /// True where a key may be seen, broadcasting to `[batch, head, query, key]`; `None` where all may.
    #[must_use]
    pub const fn allowed(&self) -> Option<&Tensor> {
        match self {
            Self::Open => None,
            Self::Causal(allowed) | Self::Some(allowed) => Some(allowed),
        }
    }
}

impl Masks {
    /// The masks for `queries` positions after `past` others; `real` says which keys are no padding (`[batch, key]`).
    pub fn new(windows: &[Window], past: i64, queries: i64, real: Option<&Tensor>, device: Device) -> Result<Self> {
        let mut by_window = HashMap::new();
        for window in windows {
            if !by_window.contains_key(window) {
                by_window.insert(*window, mask(*window, past, queries, real, device)?);
            }
        }
        Ok(Self { by_window })
    }

    /// The mask of a window.
    #[must_use]
    pub fn of(&self, window: Window) -> &Mask {
        self.by_window.get(&window).unwrap_or(&Mask::Open)
    }
}

fn mask(window: Window, past: i64, queries: i64, real: Option<&Tensor>, device: Device) -> Result<Mask> {
    let keys = past + queries;
    let narrow = matches!(window, Window::Sliding(width) if (width as i64) < keys);
    if real.is_none() && !narrow && queries == 1 {
        return Ok(Mask::Open);
    }
    let query = Tensor::f_arange_start(past, keys, (Kind::Int64, device))?.f_unsqueeze(1)?;
    let distance = query.f_sub(&Tensor::f_arange(keys, (Kind::Int64, device))?)?;
    let mut allowed = distance.f_ge(0)?;
    if let (true, Window::Sliding(width)) = (narrow, window) {
        allowed = allowed.f_logical_and(&distance.f_lt(width as i64)?)?;
    }
    let Some(real) = real else {
        return Ok(if narrow || past > 0 {
            Mask::Some(allowed.f_view([1, 1, queries, keys])?)
        } else {
            Mask::Causal(allowed)
        });
    };
    let real = real.f_to_device(device)?.f_unsqueeze(1)?.f_unsqueeze(1)?;
    // Each position sees itself, so that the rows of padding are finite; real rows see themselves anyhow.
    let own = distance.f_eq(0)?;
    Ok(Mask::Some(allowed.f_logical_and(&real)?.f_logical_or(&own)?))
}

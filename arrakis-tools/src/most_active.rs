//! The tokens of a corpus where something is greatest, kept while it is read: a bounded heap for each of many things.

use arrakis_core::{Model, Result, Window, answer};
use tch::{Device, Kind, Tensor};

/// The greatest numbers so far, with the tokens where they were.
pub(crate) struct MostActive {
    most: i64,
    /// `[thing, rank]`, greatest first.
    values: Option<Tensor>,
    /// Places in the order of reading: `[thing, rank]`.
    tokens: Option<Tensor>,
}

impl MostActive {
    /// Keeps `most` tokens for each thing.
    pub(crate) const fn new(most: usize) -> Self {
        Self { most: most as i64, values: None, tokens: None }
    }

    /// Adds numbers (`[token, thing]`) of the tokens from place `first` on.
    pub(crate) fn add(&mut self, numbers: &Tensor, first: usize) -> Result<()> {
        let numbers = numbers.f_transpose(0, 1)?;
        let (things, count) = numbers.size2()?;
        let first = first as i64;
        let here = Tensor::f_arange_start(first, first + count, (Kind::Int64, numbers.device()))?;
        let here = here.f_expand([things, count], false)?;
        let (values, tokens) = match (&self.values, &self.tokens) {
            (Some(values), Some(tokens)) => {
                (Tensor::f_cat(&[values, &numbers], 1)?, Tensor::f_cat(&[tokens, &here], 1)?)
            }
            _ => (numbers, here),
        };
        let (greatest, places) = values.f_topk(self.most.min(values.size()[1]), 1, true, true)?;
        self.tokens = Some(tokens.f_gather(1, &places, false)?);
        self.values = Some(greatest);
        Ok(())
    }

    /// Numbers and places of each thing, greatest first.
    pub(crate) fn lists(&self) -> Result<Vec<Vec<(f64, usize)>>> {
        let (Some(values), Some(tokens)) = (&self.values, &self.tokens) else { return Ok(Vec::new()) };
        let ranks = values.size()[1] as usize;
        let values = answer::numbers(values)?;
        let tokens: Vec<i64> = Vec::try_from(tokens.f_to_device(Device::Cpu)?.f_contiguous()?.f_reshape([-1])?)?;
        let pairs: Vec<(f64, usize)> = values.into_iter().zip(tokens.into_iter().map(|token| token as usize)).collect();
        Ok(pairs.chunks(ranks).map(<[_]>::to_vec).collect())
    }
}

/// The text around a token of a window, which stands in «».
pub(crate) fn context(model: &dyn Model, window: &Window, place: usize, around: usize) -> String {
    let (from, to) = (place.saturating_sub(around), (place + around + 1).min(window.ids.len()));
    let text = |(at, id): (usize, &i64)| {
        let token = model.token(*id);
        if from + at == place { format!("«{token}»") } else { token }
    };
    window.ids[from..to].iter().enumerate().map(text).collect()
}

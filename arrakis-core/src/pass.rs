//! One pass through a model: everything that tools, sweeps and plugins may ask of it.

use tch::Tensor;

use crate::{Hooks, PosSlice, Result, Unwatched};

/// What a pass starts from.
#[derive(Debug)]
pub enum Input<'a> {
    /// Token ids: `[batch, pos]`, 64-bit integers.
    Tokens(&'a Tensor),
    /// The residual stream before the block `start_at`: `[batch, pos, d_model]`.
    Residual(&'a Tensor),
}

/// Keys and values of the positions already seen, one entry for each block.
#[derive(Debug, Default)]
pub struct KeyValues {
    /// Keys and values of each block: `[batch, kv_head, key, d_head]`.
    ///
    /// Keys are rotated unless the rotation depends on the length of the text.
    pub layers: Vec<(Tensor, Tensor)>,
    /// The position of each key: `[batch, key]`.
    pub positions: Tensor,
    /// Which keys are real, if some are padding: `[batch, key]`, booleans.
    pub mask: Option<Tensor>,
}

impl KeyValues {
    /// The number of positions already seen.
    #[must_use]
    pub fn len(&self) -> i64 {
        self.positions.size().last().copied().unwrap_or(0)
    }

    /// What was seen before a position: views, nothing is copied.
    pub fn before(&self, position: i64) -> Result<Self> {
        let layer = |(k, v): &(Tensor, Tensor)| Ok((k.f_narrow(2, 0, position)?, v.f_narrow(2, 0, position)?));
        Ok(Self {
            layers: self.layers.iter().map(layer).collect::<Result<_>>()?,
            positions: self.positions.f_narrow(1, 0, position)?,
            mask: self.mask.as_ref().map(|mask| mask.f_narrow(1, 0, position)).transpose()?,
        })
    }

    /// The same for a batch that holds all rows `copies` times, one after the other; views where there is one row.
    pub fn copies(&self, copies: i64) -> Result<Self> {
        let layer = |(k, v): &(Tensor, Tensor)| Ok((repeated(k, copies)?, repeated(v, copies)?));
        Ok(Self {
            layers: self.layers.iter().map(layer).collect::<Result<_>>()?,
            positions: repeated(&self.positions, copies)?,
            mask: self.mask.as_ref().map(|mask| repeated(mask, copies)).transpose()?,
        })
    }

    /// Whether no position was seen.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// All rows of `value`, `copies` times one after the other; a view where there is one row.
pub(crate) fn repeated(value: &Tensor, copies: i64) -> Result<Tensor> {
    let mut size = value.size();
    if size[0] == 1 {
        size[0] = copies;
        return Ok(value.f_expand(&size[..], false)?);
    }
    let mut repeats = vec![1; size.len()];
    repeats[0] = copies;
    Ok(value.f_repeat(&repeats[..])?)
}

/// A request for one pass.
pub struct Pass<'a> {
    /// What the pass starts from.
    pub input: Input<'a>,
    /// Which of the pass' positions are real, if some are padding: `[batch, pos]`, booleans.
    pub mask: Option<&'a Tensor>,
    /// The position of each token; counted over the real ones from the mask if absent: `[batch, pos]`.
    pub positions: Option<&'a Tensor>,
    /// The first block to run; the blocks before it are skipped.
    pub start_at: usize,
    /// The block before which the pass ends, with no final norm and no logits; the whole model if absent.
    pub stop_at: Option<usize>,
    /// What was seen before the first position of this pass.
    pub past: Option<&'a KeyValues>,
    /// Whether keys and values are to be given back.
    pub keep_past: bool,
    /// The positions whose logits are wanted; the unembedding costs a quarter of a pass.
    pub logits: PosSlice,
    /// Who watches.
    pub hooks: &'a mut dyn Hooks,
    /// Whether LibTorch records the pass, for hooks that take gradients.
    pub record: bool,
}

/// What a pass gives.
#[derive(Debug)]
pub struct Output {
    /// The residual stream where the pass ended, before the final norm: `[batch, pos, d_model]`.
    pub residual: Tensor,
    /// Logits of the wanted positions: `[batch, wanted, vocab]`.
    pub logits: Option<Tensor>,
    /// Keys and values of everything seen, if they were asked for.
    pub past: Option<KeyValues>,
}

impl<'a> Pass<'a> {
    /// A whole pass over `tokens` (`[batch, pos]`), watched by `hooks`.
    pub fn tokens(tokens: &'a Tensor, hooks: &'a mut dyn Hooks) -> Self {
        Self::new(Input::Tokens(tokens), hooks)
    }

    /// A pass from the residual stream before the block `start_at` (`[batch, pos, d_model]`), watched by `hooks`.
    pub fn residual(residual: &'a Tensor, start_at: usize, hooks: &'a mut dyn Hooks) -> Self {
        Self { start_at, ..Self::new(Input::Residual(residual), hooks) }
    }

    fn new(input: Input<'a>, hooks: &'a mut dyn Hooks) -> Self {
        Self {
            input,
            mask: None,
            positions: None,
            start_at: 0,
            stop_at: None,
            past: None,
            keep_past: false,
            logits: PosSlice::All,
            hooks,
            record: false,
        }
    }
}

/// Runs without hooks: `unwatched(|hooks| model.forward(Pass::tokens(&tokens, hooks)))`.
pub fn unwatched<T>(run: impl FnOnce(&mut dyn Hooks) -> T) -> T {
    run(&mut Unwatched)
}

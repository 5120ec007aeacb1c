//! Text, token by token, with a key-value state so that each step costs one position; hooks watch every step.

use std::cell::RefCell;

use arrakis_core::{
    AxisKind, Cache, Edit, Error, HookPoint, KeyValues, Model, ModelExt, PosSlice, Result, Run, Selector, Site, Stream,
    Text, Tokens, answer, edit,
};
use tch::{Kind, Tensor};

use crate::sampling::Sampling;

/// A continuation being described; [`run`](Generation::run) does it.
///
/// Edits hold in every step: one of all positions changes each position once, as it comes, and [`edit::position`] counts
/// in the whole text (padding counted), the tokens to come included. What is generated is therefore what a run over the
/// whole text so far would give under the same edits, as long as an edit treats each position on its own; those that
/// mix positions ([`edit::mean`]) are refused. Under rotations that depend on the length of the text (dynamic, longrope)
/// a step is computed at the length of its moment.
#[must_use = "nothing is generated until it is run"]
pub struct Generation<'a> {
    model: &'a dyn Model,
    tokens: &'a Tokens,
    sampling: Sampling,
    edits: Vec<(Selector, RefCell<Edit<'a>>)>,
    keep: Vec<Selector>,
    prompt_kept: bool,
}

/// What a generation gives.
#[derive(Debug)]
pub struct Generated {
    /// The new tokens of each row, the one that ended it included.
    pub rows: Vec<Vec<i64>>,
    /// Prompt and new tokens; the mask leaves out padding, and what lies behind the end of a row.
    pub tokens: Tokens,
    /// What was kept, of every token in `tokens` that the context holds, or of the new ones only.
    ///
    /// Keys that a query cannot see have the pattern 0 and the score minus infinity, as in a run over the whole text.
    pub cache: Cache,
}

impl<'a> Generation<'a> {
    /// Twenty tokens after `tokens`, each the likeliest; rows may be padded on either side.
    pub fn new(model: &'a dyn Model, tokens: &'a Tokens) -> Self {
        let (edits, keep) = (Vec::new(), Vec::new());
        Self { model, tokens, sampling: Sampling::default(), edits, keep, prompt_kept: true }
    }

    /// Chooses tokens in that way.
    pub fn sampling(mut self, sampling: Sampling) -> Self {
        self.sampling = sampling;
        self
    }

    /// Edits the chosen points in every step; edits of one point follow each other in the order given.
    pub fn edit(mut self, points: impl Into<Selector>, edit: Edit<'a>) -> Self {
        self.edits.push((points.into(), RefCell::new(edit)));
        self
    }

    /// Keeps what flows on from the chosen points, of the prompt and of every new token.
    ///
    /// The last token is run for that, although nothing comes after it.
    pub fn keep(mut self, points: impl Into<Selector>) -> Self {
        self.keep.push(points.into());
        self
    }

    /// Leaves the prompt out of what is kept.
    pub fn new_tokens_only(mut self) -> Self {
        self.prompt_kept = false;
        self
    }

    /// Generates; `each` sees the row and the token of every step as it comes.
    pub fn run(self, mut each: impl FnMut(usize, i64) -> Result<()>) -> Result<Generated> {
        self.sampling.check()?;
        let rows = self.tokens.batch();
        let stream = |row| Stream::new(self.sampling.seed, &format!("generate row {row}"));
        let mut streams: Vec<Stream> = (0..rows).map(stream).collect();
        let mut text = Written::new(self.tokens)?;
        let mut pieces = Vec::new();
        let mut past: Option<KeyValues> = None;
        let context = self.model.dims().context;
        let room = context.saturating_sub(self.tokens.positions()).max(1);
        for step in 0..self.sampling.max_tokens.min(room) {
            let run = self.step(&text, past.as_ref(), PosSlice::Last)?;
            let logits = answer::numbers(run.logits()?)?;
            let vocab = logits.len() / rows;
            for row in text.open() {
                let own = &logits[row * vocab..(row + 1) * vocab];
                let token = self.sampling.choose(own, &mut streams[row]).ok_or_else(|| not_finite(row, step))?;
                each(row, token)?;
                text.add(row, token, self.sampling.stop.contains(&token));
            }
            text.close_step();
            self.take(run.cache, past.is_some(), &mut pieces);
            past = run.past;
            if text.open().is_empty() {
                break;
            }
        }
        if !self.keep.is_empty() && past.is_some() && text.len() <= context as i64 {
            let run = self.step(&text, past.as_ref(), PosSlice::None)?;
            self.take(run.cache, true, &mut pieces);
        }
        for (points, edit) in &self.edits {
            if past.is_some() && !edit.borrow().reached() {
                let why = "it changes a position, key or row that this text never had".to_owned();
                return Err(Error::Invalid { what: format!("the edit at {points:?}"), why });
            }
        }
        Ok(Generated { cache: joined(&pieces)?, tokens: text.tokens()?, rows: text.new })
    }

    /// Runs what has not been run of the text.
    fn step(&self, text: &Written<'_>, past: Option<&KeyValues>, wanted: PosSlice) -> Result<Run> {
        let tokens = if past.is_some() { text.last()? } else { text.prompt.clone() };
        let trace = self.model.trace(&tokens).logits(wanted).keep_past();
        let trace = trace.part_of(Text::Growing { first: past.map_or(0, KeyValues::len) });
        let edits = self.edits.iter();
        let trace = edits.fold(trace, |trace, (points, edit)| trace.edit(points.clone(), edit::lent(edit)));
        let kept = self.keep.iter().filter(|_| self.prompt_kept || past.is_some());
        let trace = kept.fold(trace, |trace, points| trace.keep(points.clone()));
        match past {
            Some(past) => trace.past(past).run(),
            None => trace.run(),
        }
    }

    fn take(&self, cache: Cache, later: bool, pieces: &mut Vec<Cache>) {
        if later || self.prompt_kept {
            pieces.push(cache);
        }
    }
}

fn not_finite(row: usize, step: usize) -> Error {
    let why = "they hold NaN or infinities, so no token is likeliest; look for the first layer that does, and at the \
               weights there";
    Error::Invalid { what: format!("the logits of row {row} at step {step}"), why: why.into() }
}

/// The text as it grows.
struct Written<'a> {
    prompt: &'a Tokens,
    new: Vec<Vec<i64>>,
    ended: Vec<bool>,
    /// Which rows each step has written to.
    steps: Vec<Vec<bool>>,
}

impl<'a> Written<'a> {
    fn new(prompt: &'a Tokens) -> Result<Self> {
        let rows = prompt.batch();
        if rows == 0 {
            return Err(Error::EmptyPrompt);
        }
        Ok(Self { prompt, new: vec![Vec::new(); rows], ended: vec![false; rows], steps: Vec::new() })
    }

    fn open(&self) -> Vec<usize> {
        (0..self.ended.len()).filter(|row| !self.ended[*row]).collect()
    }

    fn add(&mut self, row: usize, token: i64, ends: bool) {
        self.new[row].push(token);
        self.ended[row] = ends;
    }

    fn close_step(&mut self) {
        let len = self.steps.len() + 1;
        self.steps.push(self.new.iter().map(|row| row.len() == len).collect());
    }

    fn len(&self) -> i64 {
        (self.prompt.positions() + self.steps.len()) as i64
    }

    /// The last token of each row; of one that has ended, the token that ended it.
    fn last(&self) -> Result<Tokens> {
        let last: Vec<i64> = self.new.iter().map(|row| row.last().copied().unwrap_or(0)).collect();
        Tokens::from_tensor(&Tensor::f_from_slice(&last)?.f_view([last.len() as i64, 1])?)
    }

    fn tokens(&self) -> Result<Tokens> {
        let (rows, steps) = (self.new.len() as i64, self.steps.len() as i64);
        let row = |row: &Vec<i64>| (0..self.steps.len()).map(|step| row.get(step).copied().unwrap_or(0)).collect();
        let ids: Vec<i64> = self.new.iter().flat_map(|ids| -> Vec<i64> { row(ids) }).collect();
        let real: Vec<bool> =
            (0..self.new.len()).flat_map(|row| self.steps.iter().map(move |step| step[row])).collect();
        let (ids, real) = (Tensor::f_from_slice(&ids)?, Tensor::f_from_slice(&real)?);
        let before = match self.prompt.mask() {
            Some(mask) => mask.shallow_clone(),
            None => self.prompt.ids().f_ones_like()?.f_to_kind(Kind::Bool)?,
        };
        let ids = Tensor::f_cat(&[self.prompt.ids(), &ids.f_view([rows, steps])?], 1)?;
        let real = Tensor::f_cat(&[&before, &real.f_view([rows, steps])?], 1)?;
        Tokens::from_tensor(&ids)?.with_mask(&real)
    }
}

/// The values of all steps, one after the other; keys that came later are filled in.
fn joined(pieces: &[Cache]) -> Result<Cache> {
    let mut whole = Cache::new();
    let points: Vec<HookPoint> = pieces.first().map(|cache| cache.points().to_vec()).unwrap_or_default();
    for point in points {
        let values: Vec<&Tensor> = pieces.iter().map(|cache| cache.get(point)).collect::<Result<_>>()?;
        let value = match (point.site.pos_dimension(), point.site.dimension(AxisKind::Key)) {
            (Some(pos), None) => Tensor::f_cat(&values, pos as i64)?,
            (Some(query), Some(key)) => {
                let keys = values.last().map_or(0, |value| value.size()[key]);
                let unseen = if point.site == Site::ATTN_SCORES { f64::NEG_INFINITY } else { 0.0 };
                let filled = values.iter().map(|value| {
                    let mut missing = value.size();
                    missing[key] = keys - missing[key];
                    let fill = Tensor::f_full(&missing[..], unseen, (value.kind(), value.device()))?;
                    Ok(Tensor::f_cat(&[*value, &fill], key as i64)?)
                });
                Tensor::f_cat(&filled.collect::<Result<Vec<Tensor>>>()?, query as i64)?
            }
            (None, _) => {
                let why = "has no positions, so there is nothing to keep of a growing text".into();
                return Err(Error::Invalid { what: format!("`{point}`"), why });
            }
        };
        whole.insert(point, value);
    }
    Ok(whole)
}

/// Continues each row of `tokens` and gives the new tokens of each, the one that ended it included.
///
/// `each` sees the row and the token of every step as it comes. For hooks, see [`Generation`].
pub fn generate(
    model: &dyn Model,
    tokens: &Tokens,
    sampling: &Sampling,
    each: impl FnMut(usize, i64) -> Result<()>,
) -> Result<Vec<Vec<i64>>> {
    Ok(Generation::new(model, tokens).sampling(sampling.clone()).run(each)?.rows)
}

/// The greedy continuation of one row of ids.
pub fn greedy(model: &dyn Model, ids: &[i64], max_tokens: usize) -> Result<Vec<i64>> {
    let sampling = Sampling { max_tokens, ..Sampling::default() };
    let rows = generate(model, &Tokens::from_ids(ids)?, &sampling, |_, _| Ok(()))?;
    Ok(rows.into_iter().flatten().collect())
}

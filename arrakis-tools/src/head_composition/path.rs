//! The question what one head writes that another head reads, in a prompt.

use arrakis_core::{Answer, Axis, Context, Error, Grid, Prompt, Ranking, Result, Stack, Tool, answer, register_tools};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use super::parts::Parts;
use super::receiver::Receiver;
use super::turned::Turned;
use super::virtual_head::in_order;
use crate::{HeadInput, HeadPlace, gap, index};

/// Measures what a head reads of what an earlier head wrote, in the activations of a prompt.
///
/// What every component wrote before the receiver's layer goes through the norm there, with the scale held fixed that
/// the whole stream had, and through `W_Q`, `W_K` or `W_V`. A part is its share of the vector that comes out,
/// `part · whole / |whole|²`, at the query (`q`) or at the key (`k`, `v`); shares sum to 1. Queries and keys go on
/// through their norm, with its scale held fixed, and their rotation, and what a part adds to the attention score of a
/// query and a key is its effect (logits of attention). The effect through `v` is the share that what is moved from the
/// key has in the receiver's `z` at the query. Where scores compare queries and keys of earlier positions too, or are
/// otherwise made of more than the pair's own, only `v` can be asked for.
/// Identities: `input_gap` is the greatest absolute difference, over all positions, of the parts' sum from the model's
/// `q`, `k` or `v`, and `effect_gap` that of the effects' sum from the model's score, or from the share through `v`.
/// Source: Elhage et al., "A mathematical framework for transformer circuits" (2021): the stream is a sum, so what a head
/// reads splits by who wrote it.
///
/// ```
/// # use arrakis_core::{Context, Prompt, Tool};
/// # use arrakis_tools::{HeadInput, HeadPath, HeadPlace};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/golden/llama");
/// let model = arrakis_models::load(folder, &arrakis_models::LoadOptions::default())?;
/// let (sender, receiver) = (HeadPlace::new(0, 1), HeadPlace::new(1, 3));
/// let asked = HeadPath::new(Prompt::Ids(vec![9, 3, 17]), sender, receiver, HeadInput::K);
/// assert!(asked.run(&Context::new(&model))?.rows[0].input_gap < 1e-5);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HeadPath {
    /// What to read.
    pub prompt: Prompt,
    /// The head that writes.
    pub sender: HeadPlace,
    /// The head that reads, in a later layer.
    pub receiver: HeadPlace,
    /// What the receiver reads with.
    pub input: HeadInput,
    /// The query position; the last one if absent.
    #[serde(default)]
    pub query: Option<i64>,
    /// The key position, which the query sees; the one that the receiver attends to most if absent.
    #[serde(default)]
    pub key: Option<i64>,
    /// How many components are ranked.
    #[serde(default = "ten")]
    pub top: usize,
}

const fn ten() -> usize {
    10
}

impl HeadPath {
    /// The path from a head to an input of a later one, at the last query and the key it attends to most.
    pub fn new(prompt: impl Into<Prompt>, sender: HeadPlace, receiver: HeadPlace, input: HeadInput) -> Self {
        let prompt = prompt.into();
        Self { prompt, sender, receiver, input, query: None, key: None, top: ten() }
    }
}

/// The path from a head to a later one, row by row.
#[derive(Debug, Clone)]
pub struct HeadPaths {
    /// One path for each row of the prompt.
    pub rows: Vec<RowPath>,
}

/// The path from a head to a later one in one row.
#[derive(Debug, Clone)]
pub struct RowPath {
    /// The query position.
    pub query: usize,
    /// The key position.
    pub key: usize,
    /// The sender's share of what the receiver reads.
    pub sender_share: f64,
    /// What the sender adds to the score, or to the share of `z`.
    pub sender_effect: f64,
    /// The score of query and key, or the share of `z` that comes from the key: what all effects sum to.
    pub whole_effect: f64,
    /// The components with the greatest shares of what the receiver reads.
    pub shares: Ranking,
    /// The components with the greatest effects.
    pub effects: Ranking,
    /// What the sender adds at every query and key, 0 where none is seen: `[query, key]`.
    pub sender: Grid,
    /// Every component's part of what the receiver reads: `[component, d_head]`.
    pub parts: Stack,
    /// Greatest absolute difference of the parts' sum from the model's `q`, `k` or `v`, at any position.
    pub input_gap: f64,
    /// Absolute difference of the effects' sum from the whole.
    pub effect_gap: f64,
}

impl From<HeadPaths> for Answer {
    fn from(found: HeadPaths) -> Self {
        let count = found.rows.len();
        found.rows.into_iter().enumerate().fold(Self::new(), |answer, (row, path)| {
            let name = |name: &str| index::row_part(row, count, name);
            answer
                .with(name("sender"), path.sender)
                .with(name("effects"), path.effects)
                .with(name("shares"), path.shares)
                .with(name("query"), path.query as f64)
                .with(name("key"), path.key as f64)
                .with(name("sender_share"), path.sender_share)
                .with(name("sender_effect"), path.sender_effect)
                .with(name("whole_effect"), path.whole_effect)
                .with(name("parts"), path.parts)
                .with(name("input_gap"), path.input_gap)
                .with(name("effect_gap"), path.effect_gap)
        })
    }
}

impl Tool for HeadPath {
    const NAME: &'static str = "head_composition.path";
    type Output = HeadPaths;

    fn run(&self, cx: &Context<'_>) -> Result<HeadPaths> {
        let model = cx.model();
        in_order(model, self.sender, self.receiver)?;
        if self.top == 0 {
            return Err(Error::Invalid { what: "top 0".into(), why: "give at least 1".into() });
        }
        let tokens = self.prompt.tokens(model)?;
        let rows = (0..tokens.batch()).map(|row| {
            cx.progress(row as u64, tokens.batch() as u64)?;
            self.row(cx, &tokens.row(row)?)
        });
        Ok(HeadPaths { rows: rows.collect::<Result<_>>()? })
    }
}

impl HeadPath {
    fn row(&self, cx: &Context<'_>, ids: &[i64]) -> Result<RowPath> {
        let model = cx.model();
        let query = index::position(self.query.unwrap_or(-1), ids.len())?;
        let receiver = Receiver::of(model, ids, self.receiver, self.input)?;
        let key = match self.key {
            Some(key) => index::position(key, ids.len())?,
            None => receiver.pattern.f_get(query)?.f_argmax(-1, false)?.f_int64_value(&[])?,
        };
        if !receiver.sees(query, key)? {
            let why = format!("the query at position {query} does not see it; give a key that it sees");
            return Err(Error::Invalid { what: format!("key {key}"), why });
        }
        let at = if self.input == HeadInput::Q { query } else { key };
        let parts = Parts::of(model, ids, &receiver, self.sender, at)?;
        let input_gap = gap::gap(&parts.sum, &receiver.vectors)?;

        let whole = receiver.vectors.f_get(at)?;
        let squared = whole.f_dot(&whole)?;
        let shares = parts.at.f_mv(&whole)?.f_div(&squared)?;
        let turned = Turned::of(model, &receiver, &parts, at)?;
        let effects = receiver.effects(&turned.components, query, key)?;
        let sender = receiver.effect_grid(&turned.sender)?;
        let whole_effect = receiver.whole_effect(query, key)?;
        let effect_gap = (effects.f_sum(Kind::Double)?.f_double_value(&[])? - whole_effect).abs();

        let texts: Vec<String> = ids.iter().map(|id| model.token(*id)).collect();
        let value = match self.input {
            HeadInput::Q | HeadInput::K => "attention score",
            HeadInput::V => "share of z",
        };
        let path = format!("{} → {} through {}", self.sender.label(), self.receiver.label(), self.input.name());
        let ranked = |title: &str, value: &str, values: &Tensor| -> Result<Ranking> {
            let mut entries: Vec<_> = parts.names.iter().cloned().zip(answer::numbers(values)?).collect();
            entries.sort_by(|a, b| b.1.abs().total_cmp(&a.1.abs()));
            Ok(Ranking::new(title, value, entries).top(self.top))
        };
        let components = Axis::new("component", parts.names.clone());
        let dims = Axis::indices("dimension", whole.size()[0] as usize);
        let axes = (Axis::new("query", texts.clone()), Axis::new("key", texts));
        let name = format!("{} of {}", self.input.name(), self.receiver.label());
        let place = parts.names.iter().position(|name| *name == self.sender.label()).unwrap_or(0) as i64;
        Ok(RowPath {
            query: query as usize,
            key: key as usize,
            sender_share: shares.f_double_value(&[place])?,
            sender_effect: effects.f_double_value(&[place])?,
            whole_effect,
            shares: ranked(&format!("who wrote the {name}"), "share", &shares)?,
            effects: ranked(
                &format!("effect on {} through {}", self.receiver.label(), self.input.name()),
                value,
                &effects,
            )?,
            sender: Grid::from_tensor(path, value, axes.0, axes.1, &sender)?.diverging(),
            parts: Stack::new(format!("parts of {name}"), "activation", vec![components, dims], parts.at)?,
            input_gap,
            effect_gap,
        })
    }
}

register_tools!(HeadPath);

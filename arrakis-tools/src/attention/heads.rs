//! Questions about what each head does, asked of its attention pattern.

use arrakis_core::{
    Answer, Axis, Context, Dims, Error, Grid, HookPoint, PosSlice, Prompt, Ranking, Result, Site, TokenChoice, Tokens,
    Tool, register_tools,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use super::detection::{Expected, HeadMethod, KINDS};
use super::repeat::{self, RepeatLoss};
use crate::{gap, index, lags, reduce};

/// Scores every head as a previous-token, duplicate-token and induction head.
///
/// By `pattern` and `diagonal`, a random sequence is given twice, and the score is the mean attention to the key 1,
/// `length` and `length - 1` before the query: the token before, the token's first occurrence, what followed it there.
/// No token is drawn twice, so that a sequence is shorter than the vocabulary; twice it fits into the context.
/// By `mul` and `abs`, TransformerLens' head detector compares the pattern over any text with the expected pairs.
/// Patterns made without scores, by the kernels of an involution, are refused.
/// If induction happens, the loss over the second half is far below that over the first. Identity: rows of a pattern
/// sum to 1, and `row_gap` is the greatest absolute difference from it.
/// Source: Olsson et al., "In-context learning and induction heads" (2022).
///
/// ```
/// # use arrakis_core::{Context, Tool};
/// # use arrakis_tools::AttentionHeads;
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/golden/llama");
/// let model = arrakis_models::load(folder, &arrakis_models::LoadOptions::default())?;
/// let asked = AttentionHeads { length: Some(8), ..AttentionHeads::default() };
/// assert!(asked.run(&Context::new(&model))?.row_gap < 1e-5);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AttentionHeads {
    /// How heads are scored.
    #[serde(default)]
    pub method: HeadMethod,
    /// What to read (for `pattern` and `diagonal`: one sequence given twice, after one more token at most); random tokens if absent.
    #[serde(default)]
    pub prompt: Option<Prompt>,
    /// Random tokens of a sequence, before they are given again; 50 if absent, or as many as there may be. Of no account
    /// where there is a prompt.
    #[serde(default)]
    pub length: Option<usize>,
    /// Random sequences to average over; of no account where there is a prompt.
    #[serde(default = "one")]
    pub batch: usize,
    /// Token put before a random sequence; the one that the tokenizer puts before a text, if any, where absent.
    #[serde(default)]
    pub bos: Option<TokenChoice>,
    /// Whether `mul` and `abs` leave attention to the first token out of account.
    #[serde(default)]
    pub exclude_bos: bool,
    /// Whether `mul` and `abs` leave attention of tokens to themselves out of account.
    #[serde(default)]
    pub exclude_current_token: bool,
    /// How many heads are ranked for each kind.
    #[serde(default = "ten")]
    pub top: usize,
}

const fn one() -> usize {
    1
}

const fn ten() -> usize {
    10
}

impl Default for AttentionHeads {
    fn default() -> Self {
        Self {
            method: HeadMethod::default(),
            prompt: None,
            length: None,
            batch: one(),
            bos: None,
            exclude_bos: false,
            exclude_current_token: false,
            top: ten(),
        }
    }
}

/// The scores of every head, means over the rows.
#[derive(Debug, Clone)]
pub struct HeadScores {
    /// Attention to the token before: `[layer, head]`.
    pub previous_token: Grid,
    /// Attention to earlier occurrences of the same token: `[layer, head]`.
    pub duplicate_token: Grid,
    /// Attention to what followed earlier occurrences of the same token: `[layer, head]`.
    pub induction: Grid,
    /// Mean attention to the first token: `[layer, head]`.
    pub first_token: Grid,
    /// Mean entropy of a row of the pattern, in nats: `[layer, head]`.
    pub entropy: Grid,
    /// The best heads of each kind: previous token, duplicate token, induction.
    pub best: [Ranking; 3],
    /// The loss of each half, where every row is a sequence given twice.
    pub loss: Option<RepeatLoss>,
    /// The tokens that were read.
    pub tokens: Vec<Vec<i64>>,
    /// Greatest absolute difference of a pattern row's sum from 1.
    pub row_gap: f64,
}

impl From<HeadScores> for Answer {
    fn from(scores: HeadScores) -> Self {
        let mut answer = Self::new()
            .with("induction", scores.induction)
            .with("previous_token", scores.previous_token)
            .with("duplicate_token", scores.duplicate_token);
        let [previous, duplicate, induction] = scores.best;
        answer = answer
            .with("induction_heads", induction)
            .with("previous_token_heads", previous)
            .with("duplicate_token_heads", duplicate)
            .with("first_token", scores.first_token)
            .with("entropy", scores.entropy);
        if let Some(loss) = scores.loss {
            answer = answer.with("loss_first_half", loss.first_half).with("loss_second_half", loss.second_half);
        }
        answer.with("row_gap", scores.row_gap)
    }
}

impl Tool for AttentionHeads {
    const NAME: &'static str = "attention.heads";
    type Output = HeadScores;

    fn run(&self, cx: &Context<'_>) -> Result<HeadScores> {
        let dims = cx.model().dims();
        if self.method.wants_repeat() && (self.exclude_bos || self.exclude_current_token) {
            let why = "they belong to the detector; choose the method `mul` or `abs`".into();
            return Err(Error::Invalid { what: "`exclude_bos`, `exclude_current_token`".into(), why });
        }
        let top = index::count("top", self.top.min(dims.n_layers * dims.n_heads), dims.n_layers * dims.n_heads)?;
        lags::shares(cx.model(), &(0..dims.n_layers).collect::<Vec<_>>())?;
        let rows = self.rows(cx)?;
        let mut sum = RowScores::default();
        for (row, ids) in rows.iter().enumerate() {
            cx.progress(row as u64, rows.len() as u64)?;
            sum.add(self.row(cx, row, ids).map_err(|error| self.of_length(error, ids.len()))?)?;
        }
        sum.shown(rows, top)
    }
}

impl AttentionHeads {
    /// The ids of every row.
    fn rows(&self, cx: &Context<'_>) -> Result<Vec<Vec<i64>>> {
        let model = cx.model();
        if let Some(prompt) = &self.prompt {
            let tokens = prompt.tokens(model)?;
            return (0..tokens.batch()).map(|row| tokens.row(row)).collect();
        }
        let bos = match &self.bos {
            Some(token) => Some(token.id(model)?),
            None => model.encode("").ok().and_then(|ids| ids.first().copied()),
        };
        if self.batch == 0 {
            return Err(Error::Invalid { what: "batch 0".into(), why: "give at least one random sequence".into() });
        }
        let length = self.checked_length(model.dims(), bos.is_some())?;
        let mut stream = cx.stream(Self::NAME);
        Ok((0..self.batch).map(|_| repeat::random(&mut stream, bos, length, model.dims().vocab)).collect())
    }

    /// The random tokens of a sequence: no token is drawn twice, and the usual number is cut to what the context holds.
    fn checked_length(&self, dims: &Dims, bos: bool) -> Result<usize> {
        let before = usize::from(bos);
        let different = dims.vocab.saturating_sub(before);
        let length = self.length.unwrap_or(USUAL.min(different).min(dims.context.saturating_sub(before) / 2));
        if length < 2 || length > different {
            let why = format!("give a number in 2..={different}, as many different tokens as can be drawn");
            return Err(Error::Invalid { what: format!("length {length}"), why });
        }
        Ok(length)
    }

    /// An error of the row, in words of the length where nobody gave a prompt.
    fn of_length(&self, error: Error, ids: usize) -> Error {
        match error {
            Error::TooLong { len, context } if self.prompt.is_none() => {
                let most = (context - (ids % 2) as i64) / 2;
                let why =
                    format!("given twice it has {len} positions, and the context holds {context}; give at most {most}");
                Error::Invalid { what: format!("length {}", ids / 2), why }
            }
            error => error,
        }
    }

    fn row(&self, cx: &Context<'_>, row: usize, ids: &[i64]) -> Result<RowScores> {
        let model = cx.model();
        let half = repeat::half(ids);
        if ids.len() < 2 {
            let why = format!("row {row} has one token; scores of heads want two at least");
            return Err(Error::Invalid { what: "prompt".into(), why });
        }
        let expected = match half {
            Some(half) if self.method.wants_repeat() => {
                Expected::repeated(ids.len() as i64, half, self.method, model.device())?
            }
            None if self.method.wants_repeat() => {
                let why = format!(
                    "row {row} is not one sequence given twice, which this method wants; choose the method `mul` or `abs`"
                );
                return Err(Error::Invalid { what: "prompt".into(), why });
            }
            _ => Expected::by_token(ids, self.method, self.exclude_bos, self.exclude_current_token, model.device())?,
        };
        let points: Vec<HookPoint> = (0..model.dims().n_layers).map(|layer| Site::PATTERN.at(layer)).collect();
        let tokens = Tokens::from_ids(ids)?;
        let logits = if half.is_some() { PosSlice::All } else { PosSlice::None };
        let (run, kept) = reduce::reduce(model, &tokens, logits, &points, |_, pattern| {
            let pattern = pattern.f_select(0, 0)?.f_to_kind(Kind::Double)?;
            let sums = pattern.f_sum_dim_intlist(-1, false, Kind::Double)?;
            let gaps = sums.f_sub(&sums.f_ones_like()?)?.f_abs()?.f_amax([1], false)?;
            let entropies = pattern.f_special_entr()?.f_sum_dim_intlist(-1, false, Kind::Double)?;
            let first = pattern.f_select(-1, 0)?;
            let means = [first, entropies].map(|values| values.f_mean_dim(-1, false, Kind::Double));
            let [first, entropy] = means;
            Ok(Tensor::f_cat(&[expected.scores(&pattern)?, Tensor::f_stack(&[first?, entropy?, gaps], 0)?], 0)?)
        })?;
        let values = points.iter().map(|point| kept.get(*point)).collect::<Result<Vec<_>>>()?;
        let values = Tensor::f_stack(&values, 1)?;
        let loss = half.map(|half| RepeatLoss::of(run.logits()?, ids, half)).transpose()?;
        let row_gap = gap::greatest(&values.f_select(0, ROW_GAP)?)?;
        Ok(RowScores { values: Some(values), loss: loss.into_iter().collect(), row_gap, count: 1 })
    }
}

/// Random tokens of a sequence where nobody says how many.
const USUAL: usize = 50;

/// The place of the row sums among what is kept of a pattern.
const ROW_GAP: i64 = 5;

/// What is kept of the patterns, summed over rows.
#[derive(Default)]
struct RowScores {
    /// Previous token, duplicate token, induction, first token, entropy, row sums: `[6, layer, head]`.
    values: Option<Tensor>,
    loss: Vec<RepeatLoss>,
    row_gap: f64,
    count: usize,
}

impl RowScores {
    fn add(&mut self, other: Self) -> Result<()> {
        self.values = match (self.values.take(), other.values) {
            (Some(sum), Some(values)) => Some(sum.f_add(&values)?),
            (sum, values) => sum.or(values),
        };
        self.loss.extend(other.loss);
        self.row_gap = gap::worse(self.row_gap, other.row_gap);
        self.count += other.count;
        Ok(())
    }

    fn shown(self, tokens: Vec<Vec<i64>>, top: usize) -> Result<HeadScores> {
        let values = self.values.ok_or(Error::EmptyPrompt)?.f_div_scalar(self.count as f64)?;
        let (layers, heads) = (values.size()[1] as usize, values.size()[2] as usize);
        let grid = |place: usize, title: &str, value: &str| {
            let (rows, columns) = (Axis::indices("layer", layers), Axis::indices("head", heads));
            Grid::from_tensor(title, value, rows, columns, &values.f_select(0, place as i64)?)
        };
        let [previous_token, duplicate_token, induction] =
            [0, 1, 2].map(|kind| grid(kind, &format!("{} score", KINDS[kind].replace('_', "-")), "score"));
        let (previous_token, duplicate_token, induction) = (previous_token?, duplicate_token?, induction?);
        let best = [&previous_token, &duplicate_token, &induction].map(|grid| {
            let names = (0..layers).flat_map(|layer| (0..heads).map(move |head| index::head_label(layer, head)));
            let title = grid.title.replace("score", "heads");
            Ranking::new(title, "score", names.zip(grid.values.iter().copied())).sorted().top(top)
        });
        let mean = |half: fn(&RepeatLoss) -> f64| self.loss.iter().map(half).sum::<f64>() / self.count as f64;
        let loss = RepeatLoss { first_half: mean(|loss| loss.first_half), second_half: mean(|loss| loss.second_half) };
        Ok(HeadScores {
            previous_token,
            duplicate_token,
            induction,
            first_token: grid(3, "attention to the first token", "attention")?,
            entropy: grid(4, "entropy of attention", "nats")?,
            best,
            loss: (self.loss.len() == self.count).then_some(loss),
            tokens,
            row_gap: self.row_gap,
        })
    }
}

register_tools!(AttentionHeads);

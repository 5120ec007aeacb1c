//! Metrics: what an experiment measures of the logits, as values that can be stored and sent.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor};

use crate::{Error, Model, PosSlice, Result, TokenChoice, Tokens};

/// One token for all rows of a batch, or one for each.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum RowTokens {
    /// The same token in every row.
    One(TokenChoice),
    /// One token for each row.
    Each(Vec<TokenChoice>),
}

impl RowTokens {
    /// The ids: `[batch]`.
    pub fn ids(&self, model: &dyn Model, batch: usize) -> Result<Tensor> {
        let ids = match self {
            Self::One(token) => vec![token.id(model)?; batch],
            Self::Each(tokens) if tokens.len() == batch => {
                tokens.iter().map(|token| token.id(model)).collect::<Result<_>>()?
            }
            Self::Each(tokens) => {
                let why = format!("{} tokens for {batch} rows", tokens.len());
                return Err(Error::Invalid { what: "tokens of the metric".into(), why });
            }
        };
        Ok(Tensor::f_from_slice(&ids)?.f_to_device(model.device())?)
    }

    /// The ids of these tokens and of those that they are compared with, `[batch]` each.
    ///
    /// # Errors
    /// A row whose token is compared with itself: the difference is 0 whatever the model does.
    pub fn against(&self, wrong: &Self, model: &dyn Model, batch: usize) -> Result<[Tensor; 2]> {
        let both = [self.ids(model, batch)?, wrong.ids(model, batch)?];
        let same: Vec<bool> = Vec::try_from(both[0].f_eq_tensor(&both[1])?.f_to_device(Device::Cpu)?)?;
        let Some(row) = same.iter().position(|same| *same) else { return Ok(both) };
        let token = described(model, both[0].f_int64_value(&[row as i64])?);
        let why = format!("{token} in row {row} is compared with itself; give two different tokens");
        Err(Error::Invalid { what: "`answer` and `wrong`".into(), why })
    }

    /// The tokens in words, with their ids; of many rows the first ones.
    pub fn described(&self, model: &dyn Model) -> Result<String> {
        let choices = match self {
            Self::One(token) => std::slice::from_ref(token),
            Self::Each(tokens) => tokens,
        };
        let named = choices.iter().take(DESCRIBED).map(|token| Ok(described(model, token.id(model)?)));
        let named = named.collect::<Result<Vec<String>>>()?.join(", ");
        Ok(if choices.len() > DESCRIBED { format!("{named} …") } else { named })
    }
}

/// How many rows' tokens are put into words.
const DESCRIBED: usize = 4;

/// A token in words: its text, what cannot be seen of it escaped, and its id.
fn described(model: &dyn Model, id: i64) -> String {
    let quoted = format!("{:?}", model.token(id));
    format!("`{}` (id {id})", &quoted[1..quoted.len() - 1])
}

impl<T: Into<TokenChoice>> From<T> for RowTokens {
    fn from(token: T) -> Self {
        Self::One(token.into())
    }
}

/// What is measured, at each row's last real token unless it says otherwise.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Metric {
    /// Logit of `answer` minus logit of `wrong`.
    LogitDifference {
        /// The right token.
        answer: RowTokens,
        /// The token it is compared with.
        wrong: RowTokens,
    },
    /// The logit of a token.
    Logit(RowTokens),
    /// The probability of a token.
    Probability(RowTokens),
    /// The natural logarithm of the probability of a token.
    LogProbability(RowTokens),
    /// How many tokens have a greater logit: 0 is the best; NaN where a logit is.
    Rank(RowTokens),
    /// Mean cross entropy of the next token over the real positions, in nats.
    Loss,
}

impl Metric {
    /// The metric with its tokens looked up, for a batch.
    pub fn prepare(&self, model: &dyn Model, tokens: &Tokens) -> Result<Measure> {
        let batch = tokens.batch();
        let ids = |choice: &RowTokens| Ok::<_, Error>(choice.ids(model, batch)?.f_unsqueeze(-1)?);
        Ok(Measure(match self {
            Self::LogitDifference { answer, wrong } => {
                let [answer, wrong] = answer.against(wrong, model, batch)?;
                Kernel::Difference(answer.f_unsqueeze(-1)?, wrong.f_unsqueeze(-1)?)
            }
            Self::Logit(token) => Kernel::Logit(ids(token)?),
            Self::Probability(token) => Kernel::Probability(ids(token)?),
            Self::LogProbability(token) => Kernel::LogProbability(ids(token)?),
            Self::Rank(token) => Kernel::Rank(ids(token)?),
            Self::Loss => Kernel::Loss(tokens.clone()),
        }))
    }

    /// What is measured in words, with the ids of its tokens.
    pub fn described(&self, model: &dyn Model) -> Result<String> {
        let label = self.label();
        Ok(match self {
            Self::LogitDifference { answer, wrong } => {
                format!("{label} of {} and {}", answer.described(model)?, wrong.described(model)?)
            }
            Self::Logit(tokens) | Self::Probability(tokens) | Self::LogProbability(tokens) | Self::Rank(tokens) => {
                format!("{label} of {}", tokens.described(model)?)
            }
            Self::Loss => label.to_owned(),
        })
    }

    /// What the number is, for an axis or a legend.
    #[must_use]
    pub const fn label(&self) -> &'static str {
        match self {
            Self::LogitDifference { .. } => "logit difference",
            Self::Logit(_) => "logit",
            Self::Probability(_) => "probability",
            Self::LogProbability(_) => "log probability (nats)",
            Self::Rank(_) => "rank",
            Self::Loss => "loss (nats)",
        }
    }
}

enum Kernel {
    Difference(Tensor, Tensor),
    Logit(Tensor),
    Probability(Tensor),
    LogProbability(Tensor),
    Rank(Tensor),
    Loss(Tokens),
}

/// A metric ready to be taken of logits.
pub struct Measure(Kernel);

impl Measure {
    /// The logits that it needs.
    #[must_use]
    pub fn wanted(&self) -> PosSlice {
        if matches!(self.0, Kernel::Loss(_)) { PosSlice::All } else { PosSlice::Last }
    }

    /// One number for each row (`[batch]`) of the wanted logits (`[batch, wanted, vocab]`).
    pub fn of(&self, logits: &Tensor) -> Result<Tensor> {
        let last = || logits.f_select(1, -1);
        let pick = |from: &Tensor, ids: &Tensor| from.f_gather(-1, ids, false)?.f_squeeze_dim(-1);
        Ok(match &self.0 {
            Kernel::Difference(answer, wrong) => pick(&last()?, answer)?.f_sub(&pick(&last()?, wrong)?)?,
            Kernel::Logit(token) => pick(&last()?, token)?,
            Kernel::Probability(token) => pick(&last()?.f_softmax(-1, None::<Kind>)?, token)?,
            Kernel::LogProbability(token) => pick(&last()?.f_log_softmax(-1, None::<Kind>)?, token)?,
            Kernel::Rank(token) => {
                let logits = last()?;
                let own = logits.f_gather(-1, token, false)?;
                let rank = logits.f_gt_tensor(&own)?.f_sum_dim_intlist(-1, false, logits.kind())?;
                // NaN is greater than nothing, so that a token would pass for the best.
                rank.f_masked_fill(&logits.f_isnan()?.f_any_dim(-1, false)?, f64::NAN)?
            }
            Kernel::Loss(tokens) => loss_by_row(logits, tokens)?,
        })
    }
}

/// Mean cross entropy of the next token over the real positions of each row, in nats: `[batch]`.
///
/// `logits` are those of every position: `[batch, pos, vocab]`.
pub fn loss_by_row(logits: &Tensor, tokens: &Tokens) -> Result<Tensor> {
    let len = tokens.positions() as i64;
    if len < 2 {
        let why = "a loss needs at least two tokens: the first has nothing before it".into();
        return Err(Error::Invalid { what: "prompt".into(), why });
    }
    let predicted = logits.f_narrow(1, 0, len - 1)?.f_log_softmax(-1, None::<Kind>)?;
    let next = tokens.ids().f_to_device(logits.device())?.f_narrow(1, 1, len - 1)?;
    let losses = predicted.f_gather(-1, &next.f_unsqueeze(-1)?, false)?.f_squeeze_dim(-1)?.f_neg()?;
    let Some(mask) = tokens.mask() else { return Ok(losses.f_mean_dim(1, false, None::<Kind>)?) };
    let real = mask.f_narrow(1, 0, len - 1)?.f_logical_and(&mask.f_narrow(1, 1, len - 1)?)?.f_to_kind(losses.kind())?;
    let real = real.f_to_device(losses.device())?;
    let count = real.f_sum_dim_intlist(1, false, None::<Kind>)?;
    Ok(losses.f_mul(&real)?.f_sum_dim_intlist(1, false, None::<Kind>)?.f_div(&count)?)
}

//! A token that is measured, and the one it may be compared with.

use arrakis_core::{Model, Result, RowTokens};
use tch::Tensor;

/// The ids of both, `[batch]` each; an error where a token is compared with itself.
pub(crate) fn ids(
    answer: &RowTokens,
    wrong: Option<&RowTokens>,
    model: &dyn Model,
    batch: usize,
) -> Result<(Tensor, Option<Tensor>)> {
    let Some(wrong) = wrong else { return Ok((answer.ids(model, batch)?, None)) };
    let [answer, wrong] = answer.against(wrong, model, batch)?;
    Ok((answer, Some(wrong)))
}

/// Both in words.
pub(crate) fn measured(answer: &RowTokens, wrong: Option<&RowTokens>, model: &dyn Model) -> Result<String> {
    let answer = answer.described(model)?;
    match wrong {
        Some(wrong) => Ok(format!("logit difference of {answer} and {}", wrong.described(model)?)),
        None => Ok(format!("logit of {answer}")),
    }
}

//! A token that is measured, and the one it may be compared with.

use arrakis_core::{Model, Result, RowTokens, TokenChoice};
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

/// Both as the end of a title, without their ids.
pub(crate) fn title(answer: &RowTokens, wrong: Option<&RowTokens>, model: &dyn Model) -> Result<String> {
    let text = |token: &TokenChoice| -> Result<String> { Ok(format!("`{}`", model.token(token.id(model)?))) };
    let texts = |tokens: &RowTokens| match tokens {
        RowTokens::One(token) => text(token),
        RowTokens::Each(tokens) if tokens.len() == 1 => text(&tokens[0]),
        RowTokens::Each(_) => Ok("each row's token".to_owned()),
    };
    let answer = texts(answer)?;
    Ok(match wrong {
        Some(wrong) => format!("{answer} against {}", texts(wrong)?),
        None => answer,
    })
}

/// Both in words.
pub(crate) fn measured(answer: &RowTokens, wrong: Option<&RowTokens>, model: &dyn Model) -> Result<String> {
    let answer = answer.described(model)?;
    match wrong {
        Some(wrong) => Ok(format!("logit difference of {answer} and {}", wrong.described(model)?)),
        None => Ok(format!("logit of {answer}")),
    }
}

//! How well a model foresees a text: its loss over the part that it was not trained on.

use arrakis_core::{Error as CoreError, Host, Model, ModelExt, Tokens};
use serde::Serialize;
use tch::{Reduction, Tensor};

use crate::text::Text;
use crate::{Leviathan, Result};

/// The loss of a model over a text.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Evaluation {
    /// The mean loss, in nats for each token.
    pub nats_per_token: f64,
    /// The same, in bits for each character.
    pub bits_per_character: f64,
    /// The tokens that were to be foreseen.
    pub tokens: usize,
}

/// The loss over windows of the context's length of the last tenth of a text: `windows` of them, evenly spread, or all.
pub fn evaluate(model: &Leviathan, text: &Text, windows: Option<usize>, host: &dyn Host) -> Result<Evaluation> {
    let context = model.dims().context;
    let starts = text.judged(windows, context);
    let (mut sum, vocab) = (0.0, model.dims().vocab as i64);
    for (done, some) in starts.chunks(ROWS).enumerate() {
        if host.cancelled() {
            return Err(CoreError::Cancelled.into());
        }
        let (tokens, targets) = text.judged_windows(some, context)?;
        let run = model.trace(&Tokens::from_tensor(&tokens)?).run()?;
        let logits = run.logits()?.f_reshape([-1, vocab])?;
        let losses =
            logits.f_cross_entropy_loss(&targets.f_reshape([-1])?, None::<Tensor>, Reduction::Mean, -100, 0.0)?;
        sum += losses.f_double_value(&[])? * some.len() as f64;
        host.progress((done * ROWS + some.len()) as u64, starts.len() as u64);
    }
    let nats_per_token = sum / starts.len() as f64;
    let bits_per_character = text.bits_per_character(nats_per_token);
    Ok(Evaluation { nats_per_token, bits_per_character, tokens: starts.len() * context })
}

/// Windows in one pass.
const ROWS: usize = 8;

//! A prompt whose subject is drowned in noise, several times over.

use arrakis_core::{Context, Edit, Error, ModelExt, PosSlice, Result, Site, TokenChoice, Tokens, Weight, edit};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use crate::index;

/// The tokens that noise is put on: those of a text that the prompt holds once, or positions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Subject {
    /// A text that the prompt holds exactly once: `"The Space Needle"`.
    Text(String),
    /// Positions; negative ones count from the end.
    Positions(Vec<i64>),
}

/// One prompt several times, with noise on its subject.
pub(super) struct Noised {
    /// The prompt, once for each sample.
    pub(super) tokens: Tokens,
    /// The prompt once.
    pub(super) row: Tokens,
    /// The positions of the subject, in order.
    pub(super) subject: Vec<i64>,
    /// `[sample, pos, d_model]`, 0 outside the subject.
    noise: Tensor,
    /// The standard deviation of the noise.
    pub(super) deviation: f64,
    /// The answer.
    pub(super) answer: i64,
    /// Its probability without noise.
    pub(super) clean: f64,
}

impl Noised {
    /// Noise for a row of ids: `samples` draws, `strength` standard deviations of the token embeddings.
    pub(super) fn of(
        cx: &Context<'_>,
        (ids, row): (&[i64], usize),
        subject: &Subject,
        answer: Option<&TokenChoice>,
        (strength, samples): (f64, usize),
    ) -> Result<Self> {
        let model = cx.model();
        let invalid = |what: String, why: &str| Err(Error::Invalid { what, why: why.into() });
        if !(strength.is_finite() && strength > 0.0) {
            return invalid(format!("noise {strength}"), "give a positive number of standard deviations");
        }
        if samples == 0 {
            return invalid("samples 0".into(), "give one at least");
        }
        let subject = subject.positions(cx, ids)?;
        let row_tokens = Tokens::from_ids(ids)?;
        let embed = Site::EMBED.global();
        let run = model.trace(&row_tokens).keep(embed).logits(PosSlice::Last).run()?;
        let likely = run.logits()?.f_select(1, -1)?.f_softmax(-1, Kind::Double)?;
        let answer = match answer {
            Some(answer) => answer.id(model)?,
            None => likely.f_argmax(-1, false)?.f_int64_value(&[0])?,
        };
        // Families that scale their embeddings do so alike for all tokens.
        let table = model.weight(Weight::E.global())?;
        let first = table.f_select(0, ids[0])?.f_norm()?.f_double_value(&[])?;
        let scale = run.cache.get(embed)?.f_select(1, 0)?.f_norm()?.f_double_value(&[])? / first;
        let deviation = strength * scale * table.f_to_kind(Kind::Double)?.f_std(true)?.f_double_value(&[])?;
        let shape = [samples as i64, subject.len() as i64, model.dims().d_model as i64];
        let drawn = cx.stream(&format!("causal tracing row {row}")).normals(&shape)?.f_mul_scalar(deviation)?;
        let whole = [samples as i64, ids.len() as i64, shape[2]];
        let places = Tensor::f_from_slice(&subject)?;
        let noise = Tensor::f_zeros(whole, (Kind::Double, tch::Device::Cpu))?.f_index_copy(1, &places, &drawn)?;
        let tokens = Tokens::from_tensor(&row_tokens.ids().f_repeat([samples as i64, 1])?)?;
        Ok(Self {
            tokens,
            row: row_tokens,
            subject,
            noise: noise.f_to_kind(model.kind())?.f_to_device(model.device())?,
            deviation,
            answer,
            clean: likely.f_double_value(&[0, answer])?,
        })
    }

    /// The noise, as an edit of the embeddings.
    pub(super) fn edit(&self) -> Edit<'static> {
        edit::add_within(&self.noise)
    }

    /// The answer's mean probability over the samples, from logits of the last position: `[sample, 1, vocab]`.
    pub(super) fn probability(&self, logits: &Tensor) -> Result<f64> {
        let likely = logits.f_select(1, -1)?.f_softmax(-1, Kind::Double)?;
        Ok(likely.f_select(1, self.answer)?.f_mean(Kind::Double)?.f_double_value(&[])?)
    }
}

impl Subject {
    /// The positions among `ids`, in order; an error if there are none.
    fn positions(&self, cx: &Context<'_>, ids: &[i64]) -> Result<Vec<i64>> {
        let mut places = match self {
            Self::Positions(positions) => {
                positions.iter().map(|position| index::position(*position, ids.len())).collect::<Result<Vec<i64>>>()?
            }
            Self::Text(text) => places_of(cx, ids, text)?,
        };
        places.sort_unstable();
        places.dedup();
        if places.is_empty() {
            return Err(Error::Invalid { what: "subject".into(), why: "it has no tokens; name some".into() });
        }
        Ok(places)
    }
}

/// The positions of the tokens that a text overlaps.
fn places_of(cx: &Context<'_>, ids: &[i64], text: &str) -> Result<Vec<i64>> {
    let pieces: Vec<String> = ids.iter().map(|id| cx.model().token(*id)).collect();
    let whole: String = pieces.concat();
    let found: Vec<usize> = whole.match_indices(text).map(|(place, _)| place).collect();
    let [start] = found[..] else {
        let why = format!("the prompt `{whole}` holds it {} times; give it as positions", found.len());
        return Err(Error::Invalid { what: format!("subject `{text}`"), why });
    };
    let mut places = Vec::new();
    let mut at = 0;
    for (place, piece) in pieces.iter().enumerate() {
        // A leading space belongs to the token and to no subject.
        let own = at + (piece.len() - piece.trim_start().len());
        at += piece.len();
        if own < start + text.len() && start < at {
            places.push(place as i64);
        }
    }
    Ok(places)
}

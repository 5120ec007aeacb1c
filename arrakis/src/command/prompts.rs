//! What a model is to read: texts, or token ids where there is no tokenizer.

use anyhow::{Result, bail};
use arrakis_core::{Model, ModelExt, Prompt, Tokens};
use clap::Args;
use tch::{Kind, Tensor};

use super::Usage;

#[derive(Debug, Args)]
#[command(next_help_heading = "Prompt")]
pub(crate) struct Prompts {
    /// A text to read; one row of the batch each time it is given
    #[arg(long, value_name = "TEXT")]
    prompt: Vec<String>,
    /// Token ids in place of a text: `1,2,3`, rows of a batch by `;`
    #[arg(long, value_name = "IDS", conflicts_with = "prompt", allow_hyphen_values = true)]
    tokens: Option<String>,
    /// Which of the token ids are real: 1 for a token, 0 for padding
    #[arg(long, value_name = "MASK", requires = "tokens", conflicts_with = "prompt")]
    mask: Option<String>,
}

impl Prompts {
    /// The prompt as a parameter of a tool, if there is one; what the mask calls padding is left out of it.
    pub(crate) fn parameter(&self) -> Result<Option<Prompt>> {
        if let Some(rows) = self.rows()? {
            let real = match self.mask()? {
                Some(mask) => rows.iter().zip(&mask).map(|(row, mask)| real(row, mask)).collect(),
                None => rows,
            };
            return Ok(Some(match <[Vec<i64>; 1]>::try_from(real) {
                Ok([row]) => Prompt::Ids(row),
                Err(rows) => Prompt::Rows(rows),
            }));
        }
        Ok(match &self.prompt[..] {
            [] => None,
            [text] => Some(Prompt::Text(text.clone())),
            texts => Some(Prompt::Texts(texts.to_vec())),
        })
    }

    /// The prompt as tokens of a model, padding included.
    pub(crate) fn tokens(&self, model: &dyn Model) -> Result<Tokens> {
        let Some(rows) = self.rows()? else {
            if self.prompt.is_empty() {
                bail!(Usage("nothing to read; give `--prompt TEXT` or `--tokens IDS`".into()));
            }
            return Ok(model.tokens(&self.prompt)?);
        };
        let tokens = Tokens::from_rows(&rows)?;
        let Some(mask) = self.mask()? else { return Ok(tokens) };
        let flat = Tensor::f_from_slice(&mask.concat())?.f_view([rows.len() as i64, -1])?;
        Ok(tokens.with_mask(&flat.f_to_kind(Kind::Bool)?)?)
    }

    fn rows(&self) -> Result<Option<Vec<Vec<i64>>>> {
        self.tokens.as_deref().map(|text| numbers("--tokens", text)).transpose()
    }

    /// The mask, whose rows are as long as those of the tokens.
    fn mask(&self) -> Result<Option<Vec<Vec<i64>>>> {
        let (Some(text), Some(rows)) = (self.mask.as_deref(), self.rows()?) else { return Ok(None) };
        let mask = numbers("--mask", text)?;
        let shape = |rows: &[Vec<i64>]| rows.iter().map(Vec::len).collect::<Vec<usize>>();
        if shape(&mask) != shape(&rows) {
            bail!(Usage(format!("`--mask` has rows of {:?} and `--tokens` of {:?}", shape(&mask), shape(&rows))));
        }
        if shape(&mask).windows(2).any(|pair| pair[0] != pair[1]) {
            bail!(Usage("rows with a `--mask` are equally long; pad them, and give 0 where they are padded".into()));
        }
        if let Some(other) = mask.iter().flatten().find(|entry| !matches!(entry, 0 | 1)) {
            bail!(Usage(format!("`--mask` is made of 0 and 1, and `{other}` is neither")));
        }
        Ok(Some(mask))
    }
}

fn real(row: &[i64], mask: &[i64]) -> Vec<i64> {
    row.iter().zip(mask).filter(|(_, real)| **real == 1).map(|(id, _)| *id).collect()
}

/// Rows of whole numbers: `1,2;3,4`.
fn numbers(option: &str, text: &str) -> Result<Vec<Vec<i64>>> {
    let number = |text: &str| {
        let text = text.trim();
        text.parse().map_err(|_| Usage(format!("`{option}`: `{text}` is no whole number; rows look like `1,2;3,4`")))
    };
    let row = |text: &str| -> Result<Vec<i64>, Usage> {
        if text.trim().is_empty() { Ok(Vec::new()) } else { text.split(',').map(number).collect() }
    };
    Ok(text.split(';').map(row).collect::<Result<_, _>>()?)
}

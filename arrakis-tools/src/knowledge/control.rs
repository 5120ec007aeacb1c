//! Control tasks: labels that mean nothing, which a probe can only remember.

use std::collections::HashMap;

use arrakis_core::{Context, Error, Result};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::labelled::Labelled;
use crate::index;

/// What shares a label in the control task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Control {
    /// Texts with the same token at the position that is read, as in Hewitt and Liang: only memory solves it.
    #[default]
    Token,
    /// Nothing: labels are shuffled over the texts, so that the control is chance.
    Text,
}

impl Control {
    /// The labels of `count` control tasks, of texts that are read at a position.
    pub(crate) fn labels(
        self,
        cx: &Context<'_>,
        texts: &Labelled,
        position: Option<i64>,
        count: usize,
    ) -> Result<Vec<Vec<usize>>> {
        let token = |ids: &Vec<i64>| Ok(ids[index::position(position.unwrap_or(-1), ids.len())? as usize]);
        let types = texts.rows.iter().map(token).collect::<Result<Vec<i64>>>()?;
        if self == Self::Token && types.iter().all(|id| *id == types[0]) {
            let why = "every text has the same token at the position, so a label for each token is one label for all; \
                       choose `text`, or another position";
            return Err(Error::Invalid { what: "control `token`".into(), why: why.into() });
        }
        let all = texts.labels.len();
        let draw = |number: usize| {
            let mut stream = cx.stream(&format!("knowledge.probe control {number}"));
            match self {
                Self::Text => stream.permutation(all).into_iter().map(|place| texts.labels[place]).collect(),
                Self::Token => {
                    let mut known: HashMap<i64, usize> = HashMap::new();
                    let label =
                        |id: &i64| *known.entry(*id).or_insert_with(|| texts.labels[stream.below(all as u64) as usize]);
                    types.iter().map(label).collect()
                }
            }
        };
        Ok((0..count).map(draw).collect())
    }
}

//! Where the residual stream is split, and how finely.

use arrakis_core::{Dims, Error, HookPoint, Residual, Result, Site};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A place in the residual stream, which is the sum of all that was written before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StreamPlace {
    /// Before a block: `hook_resid_pre`; with the number of blocks, the end.
    Before(usize),
    /// Between attention and MLP of a serial block: `hook_resid_mid`.
    BeforeMlp(usize),
    /// After the last block.
    End,
}

impl StreamPlace {
    /// The place before a block, or between its halves; the end where no block is named.
    pub(crate) fn asked(layer: Option<usize>, mid: bool) -> Result<Self> {
        match (layer, mid) {
            (Some(layer), true) => Ok(Self::BeforeMlp(layer)),
            (Some(layer), false) => Ok(Self::Before(layer)),
            (None, false) => Ok(Self::End),
            (None, true) => {
                Err(Error::Invalid { what: "`mid`".into(), why: "say in which block, with `layer`".into() })
            }
        }
    }

    /// Whole blocks before the place, whether the attention of the next one is before it too, and its point.
    pub(crate) fn resolve(self, dims: &Dims) -> Result<(usize, bool, HookPoint)> {
        let n_layers = dims.n_layers;
        let out_of_range =
            |index: usize, len: usize| Error::OutOfRange { what: "layer".into(), index: index as i64, len: len as i64 };
        match self {
            Self::Before(layer) if layer > n_layers => Err(out_of_range(layer, n_layers + 1)),
            Self::Before(layer) if layer < n_layers => Ok((layer, false, Site::RESID_PRE.at(layer))),
            Self::BeforeMlp(layer) if layer >= n_layers => Err(out_of_range(layer, n_layers)),
            Self::BeforeMlp(layer) => match dims.residual {
                Residual::Serial => Ok((layer, true, Site::RESID_MID.at(layer))),
                Residual::Parallel => {
                    let why = "attention and MLP of this model read the same stream; ask before a block".into();
                    Err(Error::Invalid { what: format!("the stream between the halves of block {layer}"), why })
                }
            },
            Self::Before(_) | Self::End => Ok((n_layers, false, Site::RESID_POST.at(n_layers - 1))),
        }
    }
}

/// How finely the residual stream is split.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Split {
    /// Embeddings, and what attention and MLP of each layer write.
    Sublayers,
    /// Embeddings, heads, MLPs, and the summed biases of attention.
    #[default]
    Heads,
    /// Embeddings, heads, neurons, and the summed biases of attention and MLPs.
    Neurons,
}

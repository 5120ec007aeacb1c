//! Parts of the residual stream under TransformerLens' names.

use arrakis_core::{Error, Result};
use tch::{Kind, Tensor};

/// Parts of the residual stream, with their names.
#[derive(Debug)]
pub struct Decomposition {
    /// TransformerLens' name of each part: `embed`, `0_attn_out`, `L0H3`, `L0N17`, `1_pre` …
    pub labels: Vec<String>,
    /// The parts in double: `[component, batch, pos, d_model]`.
    pub stack: Tensor,
}

impl Decomposition {
    pub(super) fn of(parts: Vec<(String, Tensor)>) -> Result<Self> {
        if parts.is_empty() {
            let why = "nothing of that kind is written before that place".into();
            return Err(Error::Invalid { what: "decomposition".into(), why });
        }
        let (labels, parts): (Vec<String>, Vec<Tensor>) = parts.into_iter().unzip();
        Ok(Self { labels, stack: Tensor::f_stack(&parts, 0)? })
    }

    pub(super) fn joined(parts: Vec<Self>) -> Result<Self> {
        let stacks: Vec<&Tensor> = parts.iter().map(|part| &part.stack).collect();
        if stacks.is_empty() {
            return Self::of(Vec::new());
        }
        let stack = Tensor::f_cat(&stacks, 0)?;
        Ok(Self { labels: parts.into_iter().flat_map(|part| part.labels).collect(), stack })
    }

    /// The sum of the parts: `[batch, pos, d_model]`.
    pub fn sum(&self) -> Result<Tensor> {
        Ok(self.stack.f_sum_dim_intlist(0, false, Kind::Double)?)
    }
}

/// Which halves of the blocks a decomposition holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Sublayers {
    /// Attention and MLP.
    #[default]
    All,
    /// Attention only.
    Attention,
    /// MLP only.
    Mlp,
}

/// A neuron's name, as in TransformerLens.
pub(crate) fn neuron_label(layer: usize, neuron: usize) -> String {
    format!("L{layer}N{neuron}")
}

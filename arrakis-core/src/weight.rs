//! Weights by TransformerLens' names, in one orientation for all families.

use std::fmt;

use serde::{Serialize, Serializer};

/// A kind of weight, under TransformerLens' name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Weight(&'static str);

macro_rules! weights {
    ($($(#[$doc:meta])* $constant:ident = $name:literal;)*) => {
        impl Weight {
            $($(#[$doc])* pub const $constant: Self = Self($name);)*
        }
    };
}

weights! {
    /// Token embedding: `[vocab, d_model]`.
    E = "embed.W_E";
    /// Learned positions: `[context, d_model]`.
    POS = "pos_embed.W_pos";
    /// Weight of the norm before attention: `[d_model]`.
    LN1_W = "ln1.w";
    /// Bias of the norm before attention: `[d_model]`.
    LN1_B = "ln1.b";
    /// Queries: `[head, d_model, d_head]`.
    Q = "attn.W_Q";
    /// Keys: `[kv_head, d_model, d_head]`.
    K = "attn.W_K";
    /// Values: `[kv_head, d_model, d_head]`.
    V = "attn.W_V";
    /// Output of each head: `[head, d_head, d_model]`.
    O = "attn.W_O";
    /// Bias of the queries: `[head, d_head]`.
    Q_B = "attn.b_Q";
    /// Bias of the keys: `[kv_head, d_head]`.
    K_B = "attn.b_K";
    /// Bias of the values: `[kv_head, d_head]`.
    V_B = "attn.b_V";
    /// Bias of the attention output: `[d_model]`.
    O_B = "attn.b_O";
    /// Weight of the norm of each query head: `[head, d_head]`.
    Q_NORM = "attn.q_norm.w";
    /// Weight of the norm of each key head: `[kv_head, d_head]`.
    K_NORM = "attn.k_norm.w";
    /// Weight of the norm before the MLP: `[d_model]`.
    LN2_W = "ln2.w";
    /// Bias of the norm before the MLP: `[d_model]`.
    LN2_B = "ln2.b";
    /// The activated side of a gated MLP: `[d_model, d_mlp]`.
    GATE = "mlp.W_gate";
    /// Bias of the activated side of a gated MLP: `[d_mlp]`.
    GATE_B = "mlp.b_gate";
    /// Into the neurons, or the linear side of a gated MLP: `[d_model, d_mlp]`.
    IN = "mlp.W_in";
    /// Bias into the neurons: `[d_mlp]`.
    IN_B = "mlp.b_in";
    /// Out of the neurons: `[d_mlp, d_model]`.
    OUT = "mlp.W_out";
    /// Bias out of the neurons: `[d_model]`.
    OUT_B = "mlp.b_out";
    /// Weight of the final norm: `[d_model]`.
    LN_FINAL_W = "ln_final.w";
    /// Bias of the final norm: `[d_model]`.
    LN_FINAL_B = "ln_final.b";
    /// Unembedding: `[d_model, vocab]`.
    U = "unembed.W_U";
    /// Bias of the unembedding: `[vocab]`.
    U_B = "unembed.b_U";
}

impl Weight {
    /// A weight of another crate's model.
    #[must_use]
    pub const fn new(name: &'static str) -> Self {
        Self(name)
    }

    /// The name, without the block.
    #[must_use]
    pub const fn name(self) -> &'static str {
        self.0
    }

    /// This weight in a block.
    #[must_use]
    pub const fn at(self, layer: usize) -> WeightPoint {
        WeightPoint { weight: self, layer: Some(layer) }
    }

    /// This weight outside the blocks.
    #[must_use]
    pub const fn global(self) -> WeightPoint {
        WeightPoint { weight: self, layer: None }
    }
}

/// A weight of a model: its kind, in a block or outside them. Printed `blocks.3.attn.W_Q`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct WeightPoint {
    /// The kind of weight.
    pub weight: Weight,
    /// The block, if it lies in one.
    pub layer: Option<usize>,
}

impl From<Weight> for WeightPoint {
    fn from(weight: Weight) -> Self {
        weight.global()
    }
}

impl fmt::Display for WeightPoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.layer {
            Some(layer) => write!(f, "blocks.{layer}.{}", self.weight.0),
            None => f.write_str(self.weight.0),
        }
    }
}

impl Serialize for WeightPoint {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

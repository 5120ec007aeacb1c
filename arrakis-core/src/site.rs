//! Kinds of activation, and the points of a model where they flow.

use std::fmt;

use serde::{Serialize, Serializer};

use crate::Dims;

/// What one dimension of an activation runs over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum AxisKind {
    /// The rows of a batch.
    Batch,
    /// The positions of the pass.
    Pos,
    /// The query heads.
    Head,
    /// The key-value heads, fewer than the query heads under grouped-query attention.
    KvHead,
    /// The positions that attend.
    Query,
    /// The positions attended to, past ones included.
    Key,
    /// The residual stream.
    DModel,
    /// One head's vector.
    DHead,
    /// The neurons.
    DMlp,
    /// A single entry, kept so that the value broadcasts.
    One,
    /// What another crate's model has, under the name of its size in [`Dims::others`].
    Named(&'static str),
}

/// A kind of activation, under TransformerLens' name; an open set that other crates may add to.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Site {
    name: &'static str,
    axes: &'static [AxisKind],
}

macro_rules! sites {
    ($($(#[$doc:meta])* $constant:ident = $name:literal [$($axis:ident),*];)*) => {
        impl Site {
            $($(#[$doc])* pub const $constant: Self = Self { name: $name, axes: &[$(AxisKind::$axis),*] };)*

            /// The sites of a Transformer, in the order in which a pass visits them.
            pub const ALL: &'static [Self] = &[$(Self::$constant),*];
        }
    };
}

sites! {
    /// Token ids, integers without a gradient: `[batch, pos]`.
    TOKENS = "hook_tokens" [Batch, Pos];
    /// Token embeddings, scaled where the family scales them: `[batch, pos, d_model]`.
    EMBED = "hook_embed" [Batch, Pos, DModel];
    /// Learned position embeddings: `[batch, pos, d_model]`.
    POS_EMBED = "hook_pos_embed" [Batch, Pos, DModel];
    /// The residual stream before a block: `[batch, pos, d_model]`.
    RESID_PRE = "hook_resid_pre" [Batch, Pos, DModel];
    /// The residual stream as each head reads it, before the norm: `[batch, pos, head, d_model]`.
    ATTN_IN = "hook_attn_in" [Batch, Pos, Head, DModel];
    /// What each head's queries are made of, before the norm: `[batch, pos, head, d_model]`.
    Q_INPUT = "hook_q_input" [Batch, Pos, Head, DModel];
    /// What each key head's keys are made of, before the norm: `[batch, pos, kv_head, d_model]`.
    K_INPUT = "hook_k_input" [Batch, Pos, KvHead, DModel];
    /// What each value head's values are made of, before the norm: `[batch, pos, kv_head, d_model]`.
    V_INPUT = "hook_v_input" [Batch, Pos, KvHead, DModel];
    /// The divisor of the norm before attention: `[batch, pos, 1]`.
    LN1_SCALE = "ln1.hook_scale" [Batch, Pos, One];
    /// The normalised stream before attention, before the norm's weight and bias are applied: `[batch, pos, d_model]`.
    LN1_NORMALIZED = "ln1.hook_normalized" [Batch, Pos, DModel];
    /// Queries as projected, before their norm where they have one, and before rotation: `[batch, pos, head, d_head]`.
    Q = "attn.hook_q" [Batch, Pos, Head, DHead];
    /// Keys as projected, before their norm where they have one, and before rotation: `[batch, pos, kv_head, d_head]`.
    K = "attn.hook_k" [Batch, Pos, KvHead, DHead];
    /// Values: `[batch, pos, kv_head, d_head]`.
    V = "attn.hook_v" [Batch, Pos, KvHead, DHead];
    /// Queries after norm and rotation: `[batch, pos, head, d_head]`.
    ROT_Q = "attn.hook_rot_q" [Batch, Pos, Head, DHead];
    /// Keys after norm and rotation: `[batch, pos, kv_head, d_head]`.
    ROT_K = "attn.hook_rot_k" [Batch, Pos, KvHead, DHead];
    /// Attention scores, after softcap and then the mask (minus infinity where masked): `[batch, head, query, key]`.
    ATTN_SCORES = "attn.hook_attn_scores" [Batch, Head, Query, Key];
    /// The attention pattern, rows summing to 1: `[batch, head, query, key]`.
    PATTERN = "attn.hook_pattern" [Batch, Head, Query, Key];
    /// Values mixed by the pattern: `[batch, pos, head, d_head]`.
    Z = "attn.hook_z" [Batch, Pos, Head, DHead];
    /// What each head writes, without the output bias: `[batch, pos, head, d_model]`.
    RESULT = "attn.hook_result" [Batch, Pos, Head, DModel];
    /// What the attention layer writes: `[batch, pos, d_model]`.
    ATTN_OUT = "hook_attn_out" [Batch, Pos, DModel];
    /// The residual stream between attention and MLP, in serial blocks: `[batch, pos, d_model]`.
    RESID_MID = "hook_resid_mid" [Batch, Pos, DModel];
    /// What the MLP reads, before the norm: `[batch, pos, d_model]`.
    MLP_IN = "hook_mlp_in" [Batch, Pos, DModel];
    /// The divisor of the norm before the MLP: `[batch, pos, 1]`.
    LN2_SCALE = "ln2.hook_scale" [Batch, Pos, One];
    /// The normalised stream before the MLP, before the norm's weight and bias are applied: `[batch, pos, d_model]`.
    LN2_NORMALIZED = "ln2.hook_normalized" [Batch, Pos, DModel];
    /// Neurons before the activation function: `[batch, pos, d_mlp]`.
    MLP_PRE = "mlp.hook_pre" [Batch, Pos, DMlp];
    /// The linear side of a gated MLP: `[batch, pos, d_mlp]`.
    MLP_PRE_LINEAR = "mlp.hook_pre_linear" [Batch, Pos, DMlp];
    /// Neurons after the activation function, and after the gate where there is one: `[batch, pos, d_mlp]`.
    MLP_POST = "mlp.hook_post" [Batch, Pos, DMlp];
    /// What the MLP writes: `[batch, pos, d_model]`.
    MLP_OUT = "hook_mlp_out" [Batch, Pos, DModel];
    /// The residual stream after a block: `[batch, pos, d_model]`.
    RESID_POST = "hook_resid_post" [Batch, Pos, DModel];
    /// The divisor of the final norm: `[batch, pos, 1]`.
    LN_FINAL_SCALE = "ln_final.hook_scale" [Batch, Pos, One];
    /// The normalised stream at the end, before the norm's weight and bias are applied: `[batch, pos, d_model]`.
    LN_FINAL_NORMALIZED = "ln_final.hook_normalized" [Batch, Pos, DModel];
}

impl Site {
    /// The lag matrix of each head, where scores compare queries and keys of earlier positions too, once for each row:
    /// `[batch, head, query lag, key lag]`.
    ///
    /// It and [`KERNEL`](Self::KERNEL) are not in [`ALL`](Self::ALL): no model of `arrakis-models` has them.
    pub const LAG: Self =
        Self::new("attn.hook_lag", &[AxisKind::Batch, AxisKind::Head, AxisKind::Named("lag"), AxisKind::Named("lag")]);
    /// The kernels of an involution, the present position first: `[batch, pos, head, kernel]`.
    pub const KERNEL: Self =
        Self::new("attn.hook_kernel", &[AxisKind::Batch, AxisKind::Pos, AxisKind::Head, AxisKind::Named("kernel")]);

    /// A site of another crate's model, with what its dimensions run over.
    #[must_use]
    pub const fn new(name: &'static str, axes: &'static [AxisKind]) -> Self {
        Self { name, axes }
    }

    /// The name, without the block.
    #[must_use]
    pub const fn name(self) -> &'static str {
        self.name
    }

    /// What each dimension runs over.
    #[must_use]
    pub const fn axes(self) -> &'static [AxisKind] {
        self.axes
    }

    /// The dimension that runs over `axis`, if there is one.
    #[must_use]
    pub fn dimension(self, axis: AxisKind) -> Option<usize> {
        self.axes.iter().position(|known| *known == axis)
    }

    /// The dimension that runs over heads, be they query or key-value heads.
    #[must_use]
    pub fn head_dimension(self) -> Option<usize> {
        self.dimension(AxisKind::Head).or_else(|| self.dimension(AxisKind::KvHead))
    }

    /// The dimension that runs over the positions of the pass.
    #[must_use]
    pub fn pos_dimension(self) -> Option<usize> {
        self.dimension(AxisKind::Pos).or_else(|| self.dimension(AxisKind::Query))
    }

    /// This site in a block.
    #[must_use]
    pub const fn at(self, layer: usize) -> HookPoint {
        HookPoint { site: self, layer: Some(layer) }
    }

    /// This site outside the blocks (`hook_embed`, `ln_final.hook_scale` …).
    #[must_use]
    pub const fn global(self) -> HookPoint {
        HookPoint { site: self, layer: None }
    }
}

impl fmt::Display for Site {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

impl fmt::Debug for Site {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Site({})", self.name)
    }
}

/// A place in a model where an activation flows: a site, in a block or outside them.
///
/// Printed as in TransformerLens:
///
/// ```
/// use arrakis_core::Site;
/// assert_eq!(Site::PATTERN.at(5).to_string(), "blocks.5.attn.hook_pattern");
/// assert_eq!(Site::EMBED.global().to_string(), "hook_embed");
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct HookPoint {
    /// The kind of activation.
    pub site: Site,
    /// The block, if it lies in one.
    pub layer: Option<usize>,
}

impl HookPoint {
    /// The shape of the value that flows here, for a batch of `batch` rows and `pos` positions without a past.
    #[must_use]
    pub fn shape(self, dims: &Dims, batch: i64, pos: i64) -> Vec<i64> {
        let length = |axis: &AxisKind| match axis {
            AxisKind::Batch => batch,
            AxisKind::Pos | AxisKind::Query | AxisKind::Key => pos,
            AxisKind::Head => dims.n_heads as i64,
            AxisKind::KvHead => dims.n_kv_heads as i64,
            AxisKind::DModel => dims.d_model as i64,
            AxisKind::DHead => dims.d_head as i64,
            AxisKind::DMlp => dims.d_mlp as i64,
            AxisKind::One => 1,
            AxisKind::Named(name) => dims.others.get(*name).map_or(0, |len| *len as i64),
        };
        self.site.axes.iter().map(length).collect()
    }
}

impl From<Site> for HookPoint {
    fn from(site: Site) -> Self {
        site.global()
    }
}

impl fmt::Display for HookPoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.layer {
            Some(layer) => write!(f, "blocks.{layer}.{}", self.site),
            None => write!(f, "{}", self.site),
        }
    }
}

impl fmt::Debug for HookPoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl Serialize for HookPoint {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

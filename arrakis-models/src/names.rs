//! How a family names and stores its tensors; what can be undone while loading is undone here.

/// The names of a family's tensors; `{}` is the block.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Names {
    /// What all names but the unembedding's may begin with; the first that is found holds for the whole checkpoint.
    pub(crate) prefixes: &'static [&'static str],
    pub(crate) embed: &'static str,
    pub(crate) pos_embed: Option<&'static str>,
    pub(crate) ln1: &'static str,
    pub(crate) qkv: Qkv,
    /// The norms of queries and of keys, where there are any: a tensor for each `{head}`.
    pub(crate) qk_norms: Option<[&'static str; 2]>,
    pub(crate) o: &'static str,
    pub(crate) ln2: &'static str,
    pub(crate) mlp_in: MlpIn,
    pub(crate) mlp_out: &'static str,
    pub(crate) ln_final: &'static str,
    /// The names that the unembedding goes by; the first that is found holds.
    pub(crate) unembed: &'static [&'static str],
    pub(crate) orientation: Orientation,
    pub(crate) norm_weights: NormWeights,
    /// Constants that old checkpoints carry and that nothing reads.
    pub(crate) buffers: &'static [&'static str],
}

/// How queries, keys and values are stored.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Qkv {
    /// A tensor for each.
    Separate { q: &'static str, k: &'static str, v: &'static str },
    /// One tensor, all queries before all keys before all values.
    Stacked(&'static str),
    /// One tensor, head by head: each head's queries, keys and values.
    ByHead(&'static str),
}

/// How the maps into the neurons are stored.
#[derive(Debug, Clone, Copy)]
pub(crate) enum MlpIn {
    /// One map; there is no gate.
    Plain(&'static str),
    /// A tensor for each.
    Gated { gate: &'static str, linear: &'static str },
    /// One tensor, the gate before the linear side.
    Stacked(&'static str),
}

/// How the weights of norms are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NormWeights {
    /// As they are.
    Whole,
    /// Less one.
    LessOne,
}

/// Which way the matrices of the blocks are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Orientation {
    /// `[out, in]`, as `nn.Linear` does.
    OutIn,
    /// `[in, out]`, as GPT-2's `Conv1D` does.
    InOut,
}

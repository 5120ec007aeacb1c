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
    pub(crate) o: &'static str,
    pub(crate) ln2: &'static str,
    pub(crate) gate: Option<&'static str>,
    pub(crate) input: &'static str,
    pub(crate) output: &'static str,
    pub(crate) ln_final: &'static str,
    pub(crate) unembed: &'static str,
    pub(crate) orientation: Orientation,
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
}

/// Which way the matrices of the blocks are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Orientation {
    /// `[out, in]`, as `nn.Linear` does.
    OutIn,
    /// `[in, out]`, as GPT-2's `Conv1D` does.
    InOut,
}

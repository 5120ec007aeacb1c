//! What is patched: a site, and whether by position and by head.

use arrakis_core::{Axis, Context, Edit, HookPoint, Result, Site, edit};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::{Device, Tensor};

use super::pair::Pair;
use crate::index;

/// What is patched, under TransformerLens' names of the sites; "all positions" where nothing else is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PatchKind {
    /// The residual stream before a block, by layer and position.
    ResidPre,
    /// The residual stream between attention and MLP, by layer and position.
    ResidMid,
    /// What attention writes, by layer and position.
    AttnOut,
    /// What the MLP writes, by layer and position.
    MlpOut,
    /// A head's values mixed by its pattern, by layer and head.
    Z,
    /// The same at one position, by head and position.
    ZByPos,
    /// A head's queries, by layer and head.
    Q,
    /// The same at one position, by head and position.
    QByPos,
    /// A key head's keys, by layer and key-value head.
    K,
    /// The same at one position, by key-value head and position.
    KByPos,
    /// A value head's values, by layer and key-value head.
    V,
    /// The same at one position, by key-value head and position.
    VByPos,
    /// A head's attention pattern, by layer and head.
    Pattern,
    /// Its pattern from one position (the destination), by head and position.
    PatternByPos,
    /// Its attention from one position (destination) to another (source), by head and both: TransformerLens'
    /// `pattern_dest_src_pos`.
    PatternByPair,
}

/// What the numbers of a patching experiment are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PatchScale {
    /// The share of the way from the corrupted run (0) to the clean one (1).
    #[default]
    Normalised,
    /// The metric itself.
    Raw,
}

/// One patch of a point: which head, which position (destination), which key (source); all of them if absent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Slot {
    pub(super) head: Option<usize>,
    pub(super) position: Option<usize>,
    pub(super) key: Option<usize>,
}

impl PatchKind {
    /// Every kind.
    pub const ALL: [Self; 15] = [
        Self::ResidPre,
        Self::ResidMid,
        Self::AttnOut,
        Self::MlpOut,
        Self::Z,
        Self::ZByPos,
        Self::Q,
        Self::QByPos,
        Self::K,
        Self::KByPos,
        Self::V,
        Self::VByPos,
        Self::Pattern,
        Self::PatternByPos,
        Self::PatternByPair,
    ];

    pub(super) fn usual() -> Vec<Self> {
        vec![Self::ResidPre, Self::AttnOut, Self::MlpOut, Self::Z]
    }

    pub(super) const fn site(self) -> Site {
        match self {
            Self::ResidPre => Site::RESID_PRE,
            Self::ResidMid => Site::RESID_MID,
            Self::AttnOut => Site::ATTN_OUT,
            Self::MlpOut => Site::MLP_OUT,
            Self::Z | Self::ZByPos => Site::Z,
            Self::Q | Self::QByPos => Site::Q,
            Self::K | Self::KByPos => Site::K,
            Self::V | Self::VByPos => Site::V,
            Self::Pattern | Self::PatternByPos | Self::PatternByPair => Site::PATTERN,
        }
    }

    /// The name of its part of an answer.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::ResidPre => "resid_pre",
            Self::ResidMid => "resid_mid",
            Self::AttnOut => "attn_out",
            Self::MlpOut => "mlp_out",
            Self::Z => "z",
            Self::ZByPos => "z_by_pos",
            Self::Q => "q",
            Self::QByPos => "q_by_pos",
            Self::K => "k",
            Self::KByPos => "k_by_pos",
            Self::V => "v",
            Self::VByPos => "v_by_pos",
            Self::Pattern => "pattern",
            Self::PatternByPos => "pattern_by_pos",
            Self::PatternByPair => "pattern_by_pair",
        }
    }

    /// Whether a patch is of one position.
    pub(super) const fn by_position(self) -> bool {
        !matches!(self, Self::Z | Self::Q | Self::K | Self::V | Self::Pattern)
    }

    /// Whether a patch is of one head.
    pub(super) fn by_head(self) -> bool {
        self.site().head_dimension().is_some()
    }

    /// What is counted where a patch is of one head, and how many there are.
    pub(super) fn heads(self, cx: &Context<'_>) -> (&'static str, usize) {
        let dims = cx.model().dims();
        match self.site() {
            Site::K | Site::V if dims.n_kv_heads != dims.n_heads => ("kv_head", dims.n_kv_heads),
            _ => ("head", dims.n_heads),
        }
    }

    /// The patches of one layer, in the order of the answer: by head, then position, then key.
    pub(super) fn slots(self, cx: &Context<'_>, positions: usize) -> Vec<Slot> {
        let all = |count: usize, wanted: bool| -> Vec<Option<usize>> {
            if wanted { (0..count).map(Some).collect() } else { vec![None] }
        };
        let mut slots = Vec::new();
        for head in all(self.heads(cx).1, self.by_head()) {
            for position in all(positions, self.by_position()) {
                let keys = all(positions, self == Self::PatternByPair);
                slots.extend(keys.into_iter().map(|key| Slot { head, position, key }));
            }
        }
        slots
    }

    /// The axes of its grid: `[layer, position]`, `[layer, head]`, or `[layer and head, position]`.
    pub(super) fn axes(self, cx: &Context<'_>, layers: &[usize], pair: &Pair) -> Result<(Axis, Axis)> {
        let by_layer = Axis::new("layer", index::labels(layers));
        let (name, heads) = self.heads(cx);
        if !self.by_position() {
            return Ok((by_layer, Axis::indices(name, heads)));
        }
        let positions = pair.positions(cx.model())?;
        if !self.by_head() {
            return Ok((by_layer, positions));
        }
        let names = layers.iter().flat_map(|layer| (0..heads).map(|head| index::head_label(*layer, head)));
        Ok((Axis::new(name, names.collect::<Vec<_>>()), positions))
    }
}

impl Slot {
    /// The whole activation.
    pub(super) const EVERY: Self = Self { head: None, position: None, key: None };

    /// Which patch it is, in words.
    pub(super) fn label(self, layer: usize) -> String {
        let head = self.head.map_or_else(|| format!("layer {layer}"), |head| index::head_label(layer, head));
        let position = self.position.map(|position| format!(", position {position}")).unwrap_or_default();
        let key = self.key.map(|key| format!(" to {key}")).unwrap_or_default();
        format!("{head}{position}{key}")
    }

    /// What another run had there, in the place of what this one has; nothing differs before position `from`.
    pub(super) fn edit(self, source: &Tensor, from: i64) -> Edit<'static> {
        let mut edit = edit::patch(source);
        if let Some(key) = self.key {
            edit = edit::key(key as i64, edit);
        }
        if let Some(head) = self.head {
            edit = edit::head(head, edit);
        }
        match self.position {
            Some(position) => edit::position(position as i64, edit),
            None => edit::from_position(from, edit),
        }
    }
}

/// Where the values of two runs at one point differ in any bit.
pub(super) struct Differing {
    cells: Vec<bool>,
    /// Heads, positions and keys; 1 where the value has none.
    sizes: [usize; 3],
}

impl Differing {
    pub(super) fn of(point: HookPoint, source: &Tensor, base: &Tensor) -> Result<Self> {
        let differing = source.f_ne_tensor(base)?.f_any_dim(0, false)?;
        let differing = match point.site {
            // [head, query, key]
            Site::PATTERN => differing,
            // [pos, head, d] and [pos, d]
            _ if differing.dim() == 3 => differing.f_any_dim(2, true)?.f_transpose(0, 1)?,
            _ => differing.f_any_dim(1, true)?.f_unsqueeze(0)?,
        };
        let size = differing.size();
        let sizes = [size[0] as usize, size[1] as usize, size[2] as usize];
        let cells = Vec::try_from(differing.f_to_device(Device::Cpu)?.f_contiguous()?.f_view([-1])?)?;
        Ok(Self { cells, sizes })
    }

    /// Whether a patch changes anything.
    pub(super) fn touches(&self, slot: Slot) -> bool {
        let [_, positions, keys] = self.sizes;
        let covers =
            |wanted: Option<usize>, own: usize, count: usize| count == 1 || wanted.is_none_or(|wanted| wanted == own);
        self.cells.iter().enumerate().any(|(place, differs)| {
            *differs
                && covers(slot.head, place / (positions * keys), self.sizes[0])
                && covers(slot.position, place / keys % positions, positions)
                && covers(slot.key, place % keys, keys)
        })
    }
}

//! The hook points of an architecture, in the order in which a pass visits them.

use arrakis_core::{HookPoint, Residual, Site};

use crate::architecture::{Architecture, MlpKind, MlpNorm, Positions};

/// Every hook point, in order.
pub(crate) fn points(architecture: &Architecture) -> Vec<HookPoint> {
    let exists = |site: Site| match site {
        Site::POS_EMBED => matches!(architecture.positions, Positions::Learned),
        Site::ROT_Q | Site::ROT_K => matches!(architecture.positions, Positions::Rotary(_)),
        // Grouped heads share keys and values, so no head has a whole input of its own.
        Site::ATTN_IN => architecture.dims.n_kv_heads == architecture.dims.n_heads,
        Site::RESID_MID => architecture.dims.residual == Residual::Serial,
        Site::MLP_IN | Site::LN2_SCALE | Site::LN2_NORMALIZED => architecture.mlp_norm == MlpNorm::Own,
        Site::MLP_PRE_LINEAR => architecture.mlp == MlpKind::Gated,
        _ => true,
    };
    let sites = Site::ALL.iter().copied().filter(|site| exists(*site));
    let (before, rest): (Vec<Site>, Vec<Site>) =
        sites.partition(|site| matches!(*site, Site::TOKENS | Site::EMBED | Site::POS_EMBED));
    let (after, inside): (Vec<Site>, Vec<Site>) =
        rest.into_iter().partition(|site| matches!(*site, Site::LN_FINAL_SCALE | Site::LN_FINAL_NORMALIZED));
    let layers = 0..architecture.dims.n_layers;
    let blocks = layers.flat_map(|layer| inside.iter().map(move |site| site.at(layer)));
    before.into_iter().map(Site::global).chain(blocks).chain(after.into_iter().map(Site::global)).collect()
}

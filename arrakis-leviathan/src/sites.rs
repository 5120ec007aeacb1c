//! The sites that only models of this crate have, and the order in which a pass visits all of them.

use arrakis_core::{AxisKind, HookPoint, Site};

use crate::config::{Config, FeedForward, Mixer, Positions};

/// The lag matrix of each head, once for each row: `[batch, head, query lag, key lag]`.
pub const LAG: Site = Site::LAG;
/// The kernels of an involution, the present position first: `[batch, pos, head, kernel]`.
pub const KERNEL: Site = Site::KERNEL;
/// Queries correlated with keys over all axes, where the score is the one first published: `[batch, head, pos, d_head]`.
pub const CORRELATION: Site =
    Site::new("attn.hook_correlation", &[AxisKind::Batch, AxisKind::Head, AxisKind::Pos, AxisKind::DHead]);
/// The scores of the experts before the softmax: `[batch, pos, expert]`.
pub const ROUTER_SCORES: Site =
    Site::new("mlp.hook_router_scores", &[AxisKind::Batch, AxisKind::Pos, AxisKind::Named("expert")]);
/// How much each expert counts, 0 where it is not used: `[batch, pos, expert]`.
pub const ROUTER: Site = Site::new("mlp.hook_router", &[AxisKind::Batch, AxisKind::Pos, AxisKind::Named("expert")]);

/// Every hook point, in order.
pub(crate) fn points(config: &Config) -> Vec<HookPoint> {
    let correlates = matches!(config.mixer, Mixer::Correlation { .. });
    let correlates_all = config.mixer == Mixer::Original;
    let involves = matches!(config.mixer, Mixer::Involution { .. });
    let rotates = config.positions == Positions::Rotary;
    let mixture = matches!(config.feed_forward, FeedForward::Mixture { .. });
    let inside = [
        (Site::RESID_PRE, true),
        (Site::ATTN_IN, !involves),
        (Site::Q_INPUT, !involves),
        (Site::K_INPUT, !involves),
        (Site::V_INPUT, !involves),
        (Site::LN1_SCALE, true),
        (Site::LN1_NORMALIZED, true),
        (Site::Q, !involves),
        (Site::K, !involves),
        (Site::V, true),
        (Site::ROT_Q, rotates),
        (Site::ROT_K, rotates),
        (LAG, correlates),
        (CORRELATION, correlates_all),
        (KERNEL, involves),
        (Site::ATTN_SCORES, !involves),
        (Site::PATTERN, true),
        (Site::Z, true),
        (Site::RESULT, true),
        (Site::ATTN_OUT, true),
        (Site::RESID_MID, true),
        (Site::MLP_IN, true),
        (Site::LN2_SCALE, true),
        (Site::LN2_NORMALIZED, true),
        (ROUTER_SCORES, mixture),
        (ROUTER, mixture),
        (Site::MLP_PRE, true),
        (Site::MLP_POST, true),
        (Site::MLP_OUT, true),
        (Site::RESID_POST, true),
    ];
    let inside = inside.into_iter().filter_map(|(site, there)| there.then_some(site)).collect::<Vec<Site>>();
    let learned = (config.positions == Positions::Learned).then_some(Site::POS_EMBED);
    let before = [Site::TOKENS, Site::EMBED].into_iter().chain(learned).map(Site::global);
    let blocks = (0..config.n_layers).flat_map(|layer| inside.iter().map(move |site| site.at(layer)));
    before.chain(blocks).chain([Site::LN_FINAL_SCALE.global(), Site::LN_FINAL_NORMALIZED.global()]).collect()
}

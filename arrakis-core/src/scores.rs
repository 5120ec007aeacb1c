//! What attention scores are made of, as the hook points of a model tell.

use crate::{HookPoint, Site};

/// What the attention scores of a layer are made of.
///
/// Points are declared in the order of a pass, so whatever lies between the keys and the scores takes part in making
/// them. A model need say nothing more, and one behind the boundary of plugins cannot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scores {
    /// The dot product of the query and the key of a pair of positions.
    Pairs,
    /// Dot products of queries and keys of earlier positions too, weighed by the lag matrix of the head: [`Site::LAG`].
    Lagged,
    /// Something else, which has this hook point.
    Others(HookPoint),
    /// There are none: the pattern is made without them, and its rows need not sum to 1.
    None,
}

/// What lies between the projections and the scores of a Transformer.
const KNOWN: [Site; 5] = [Site::Q, Site::K, Site::V, Site::ROT_Q, Site::ROT_K];

impl Scores {
    /// What the scores of a layer are made of, from all points of its model.
    pub(crate) fn of(points: &[HookPoint], layer: usize) -> Self {
        let place = |site: Site| points.iter().position(|point| *point == site.at(layer));
        let Some(scores) = place(Site::ATTN_SCORES) else { return Self::None };
        let keys = place(Site::K).unwrap_or(scores);
        let between = points.get(keys..scores).unwrap_or_default();
        let mut others = between.iter().filter(|point| !KNOWN.contains(&point.site));
        match others.next() {
            None => Self::Pairs,
            Some(point) if point.site == Site::LAG && others.next().is_none() => Self::Lagged,
            Some(point) => Self::Others(*point),
        }
    }
}

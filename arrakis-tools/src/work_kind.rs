//! The kind of number in which logits and weights are worked with.

use arrakis_core::Model;
use tch::Kind;

/// The model's own if it is double, else single: half precision would lose small parts, and double would copy the
/// unembedding at twice its size.
pub(crate) fn work_kind(model: &dyn Model) -> Kind {
    if model.kind() == Kind::Double { Kind::Double } else { Kind::Float }
}

//! Questions about attention: where heads look, what kind they are, and what they are needed for.

mod ablate;
mod detection;
mod heads;
mod knockout;
mod merge;
mod patterns;
mod repeat;
mod rerun;
mod top;

pub use ablate::{AblatedPart, AblationKind, Ablations, AttentionAblation};
pub use detection::HeadMethod;
pub use heads::{AttentionHeads, HeadScores};
pub use knockout::{AttentionKnockout, Knockout};
pub use merge::{AttentionMerge, Merged};
pub use patterns::{AttentionPatterns, Patterns, RowPatterns};
pub use repeat::RepeatLoss;
pub use top::{AttentionTop, RowTop, TopAttended};

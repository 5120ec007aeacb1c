//! Questions about which activations carry an answer, asked by moving them from one run into another.

mod activation;
mod attribution;
mod frozen;
mod kind;
mod pair;
mod path;
mod steer;
mod tables;

pub use activation::{ActivationPatching, Patches};
pub use attribution::{AttributionPatching, Attributions, SpotCheck};
pub use frozen::{Mlps, Receiver};
pub use kind::{PatchKind, PatchScale};
pub use path::{DirectPath, PathPatching, Paths};
pub use steer::{Steer, Steered};

//! Questions about heads that read what earlier heads write.

mod blend;
mod grams;
mod parts;
mod path;
mod receiver;
mod scores;
mod turned;
mod virtual_head;

pub use blend::{BlendOf, Blended, BlendedHead};
pub use path::{HeadPath, HeadPaths, RowPath};
pub use scores::{CompositionScores, Compositions, InputScores};
pub use virtual_head::{VirtualCircuit, VirtualHead};

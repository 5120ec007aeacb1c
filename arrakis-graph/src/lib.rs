//! Pictures of the result shapes of [`arrakis_core::answer`]: SVG and PNG, with the font they need.
//!
//! A [`Grid`](arrakis_core::Grid) is a heatmap, a [`Series`](arrakis_core::Series) is lines,
//! a [`Ranking`](arrakis_core::Ranking) is bars, a [`Stack`](arrakis_core::Stack) is small multiples of heatmaps.
//! The same input gives the same bytes.
//!
//! ```
//! use arrakis_core::Ranking;
//! use arrakis_graph::{Style, render_svg};
//!
//! let ranking = Ranking::new("Next token", "probability", [(" Paris", 0.62), (" the", 0.08)]);
//! let svg = render_svg(&ranking.into(), &Style::default())?;
//! assert!(svg.contains("·Paris"));
//! # Ok::<(), arrakis_graph::Error>(())
//! ```

mod axes;
mod bars;
mod colour;
mod colour_bar;
mod draw;
mod error;
mod field;
mod font;
mod heatmap;
mod label;
mod lines;
mod multiples;
mod paint;
mod picture;
mod raster;
mod save;
mod scene;
mod theme;
mod ticks;

pub use draw::{draw, draw_answer, drawable, render_png, render_svg};
pub use error::{Error, Result};
pub use theme::Style;

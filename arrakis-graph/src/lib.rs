//! Pictures of the result shapes of [`arrakis_core::answer`] and of what runs keep: SVG, PNG, and pages of HTML that
//! can be explored, with the font they need.
//!
//! A [`Grid`](arrakis_core::Grid) is a heatmap, a [`Series`](arrakis_core::Series) is lines,
//! a [`Ranking`](arrakis_core::Ranking) is bars, a [`Stack`](arrakis_core::Stack) is small multiples of heatmaps.
//! A [`PlotSpec`](arrakis_core::PlotSpec) names one of the [`kinds`] and draws hook points of a run.
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
mod backend;
mod bars;
mod chart;
mod colour;
mod colour_bar;
mod coloured_text;
mod compared;
mod draw;
mod error;
mod feature;
mod field;
mod font;
mod head_graph;
mod heatmap;
mod histogram;
mod intervals;
mod kinds;
mod label;
mod lines;
mod measure;
mod multiples;
mod page;
mod picture;
mod png;
mod raster;
mod save;
mod scatter;
mod scene;
mod spread;
mod svg;
mod theme;
mod ticks;
mod violins;
mod waterfall;

pub use backend::{Backend, Html, Png, Svg, backend_of};
pub use colour::Colour;
pub use draw::{draw, draw_answer, draw_picture, drawable, file_name, render_png, render_svg};
pub use error::{Error, Result};
pub use kinds::{Kind, kind, kinds, plot, plot_parts, reads};
pub use page::{Cell, Page, Widget};
pub use picture::{Picture, picture_of};
pub use png::Pixels;
pub use save::save;
pub use scene::{Anchor, Mark, Scene};
pub use theme::{Style, Theme};

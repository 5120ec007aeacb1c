//! Sites, hooks, traces, edits, the `Model` trait and the `Tool` trait: what models, tools and plugins share.

pub mod answer;
mod cache;
mod context;
mod corpus;
pub mod device;
mod dims;
mod draw;
pub mod edit;
mod error;
mod hooks;
mod metric;
mod model;
pub mod number;
mod pass;
mod pos_slice;
pub mod print;
mod select;
mod site;
mod stream;
mod tokens;
mod tool;
mod trace;
mod weight;

pub use answer::{Answer, Axis, Entry, Grid, Line, Part, Ranking, Scale, Series, Stack};
pub use cache::Cache;
pub use context::{Context, Host, Silent};
pub use corpus::{Corpus, Window};
pub use dims::{Dims, NormKind, Residual};
pub use draw::Draw;
pub use edit::{Edit, Text};
pub use error::{Error, Result, nearest_name};
pub use hooks::{Hooks, Tap, Unwatched};
#[doc(hidden)]
pub use inventory;
pub use metric::{Measure, Metric, RowTokens, loss_by_row};
pub use model::{Model, ModelExt, unknown_weight};
pub use pass::{Input, KeyValues, Output, Pass, unwatched};
pub use pos_slice::PosSlice;
pub use select::Selector;
pub use site::{AxisKind, HookPoint, Site};
pub use stream::Stream;
pub use tokens::{Prompt, TokenChoice, Tokens, last_real};
pub use tool::{Field, Tool, ToolEntry, tool, tools};
pub use trace::{Plan, PlannedValue, Run, Trace};
pub use weight::{Weight, WeightPoint};

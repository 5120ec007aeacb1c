//! What a picture shows, and who draws it: plugged in by whoever knows a plotting crate, so that tools and the bench
//! know none.

use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Answer, Cache, HookPoint, Model, Result, Tokens};

/// What a picture shows: a kind of plot, and the hook points of a run that it reads.
///
/// ```
/// use arrakis_core::PlotSpec;
/// let spec = PlotSpec::new("attention").points(["blocks.5.attn.hook_pattern"]).titled("Layer 5");
/// assert_eq!(serde_json::to_value(&spec)?["kind"], "attention");
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PlotSpec {
    /// The kind: `attention`, `residual_stream` …; whoever draws knows which there are.
    pub kind: String,
    /// The hook points that it reads, by name with `*`; those that the kind is made for, in every layer, if empty.
    #[serde(default)]
    pub points: Vec<String>,
    /// The heads that it shows; all of them if empty. An error for a kind that shows no heads.
    #[serde(default)]
    pub heads: Vec<usize>,
    /// The row of the batch that it shows.
    #[serde(default)]
    pub row: usize,
    /// What the picture is called; the kind's own words if absent.
    #[serde(default)]
    pub title: Option<String>,
}

impl PlotSpec {
    /// A picture of that kind, of the points that the kind is made for.
    #[must_use]
    pub fn new(kind: impl Into<String>) -> Self {
        Self { kind: kind.into(), ..Self::default() }
    }

    /// The same picture of other hook points, by name with `*`.
    #[must_use]
    pub fn points(mut self, points: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.points = points.into_iter().map(Into::into).collect();
        self
    }

    /// The same picture of some heads only.
    #[must_use]
    pub fn heads(mut self, heads: impl IntoIterator<Item = usize>) -> Self {
        self.heads = heads.into_iter().collect();
        self
    }

    /// The same picture under another title.
    #[must_use]
    pub fn titled(mut self, title: impl Into<String>) -> Self {
        self.title = Some(title.into());
        self
    }
}

/// What a picture of hook points is drawn from: the kept values of a run, and what its positions hold.
#[derive(Debug, Clone, Copy)]
pub struct Kept<'a> {
    /// The values.
    pub cache: &'a Cache,
    /// The texts of the positions of the row that is shown; they label the axes.
    pub labels: &'a [String],
    /// The token ids of those positions.
    pub ids: &'a [i64],
    /// Where those positions lie in the row, padding left out.
    pub places: &'a [i64],
}

/// The texts and ids of one row of tokens and where they lie, for [`Kept`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowLabels {
    /// The texts.
    pub labels: Vec<String>,
    /// The ids.
    pub ids: Vec<i64>,
    /// The positions in the row.
    pub places: Vec<i64>,
}

impl RowLabels {
    /// Those of a row of `tokens`; padding is left out.
    pub fn of(tokens: &Tokens, row: usize, model: &dyn Model) -> Result<Self> {
        let ids = tokens.row(row)?;
        let places = match tokens.mask() {
            Some(mask) => Vec::try_from(mask.f_get(row as i64)?.f_nonzero()?.f_reshape([-1])?)?,
            None => (0..ids.len() as i64).collect(),
        };
        Ok(Self { labels: ids.iter().map(|id| model.token(*id)).collect(), ids, places })
    }

    /// These labels beside the values of a run.
    #[must_use]
    pub fn beside<'a>(&'a self, cache: &'a Cache) -> Kept<'a> {
        Kept { cache, labels: &self.labels, ids: &self.ids, places: &self.places }
    }
}

/// Draws the parts of an answer, and what a spec says of a run.
pub trait Draw {
    /// Draws every part that has a picture into `folder`, one file each, and gives the files.
    fn draw(&self, answer: &Answer, folder: &Path) -> Result<Vec<PathBuf>>;

    /// The points among `known` that a spec reads; a run must keep them.
    ///
    /// An error names an unknown kind's nearest, or the points that a model lacks.
    fn reads(&self, spec: &PlotSpec, known: &[HookPoint]) -> Result<Vec<HookPoint>>;

    /// Draws a spec over what a run kept, to a file whose ending says how.
    fn plot(&self, spec: &PlotSpec, kept: Kept<'_>, file: &Path) -> Result<()>;
}

//! The kinds of plots by name: those over the hook points of a run, and those over parts of answers.

mod attention;
mod attention_stats;
mod comparison;
mod composition;
mod feature;
mod grids;
mod induction_heads;
mod layer_norms;
mod neuron_activation;
mod neuron_activation_trajectories;
mod qk_dot_product;
mod rankings;
mod readings;
mod residual_stream;
mod spread;
mod text;
mod training_curves;

use arrakis_core::{HookPoint, Kept, Part, PlotSpec, Selector, Site, nearest_name};

use crate::picture::Picture;
use crate::{Error, Result};

/// The parts that a picture is made of, each with its name.
pub(crate) type Parts<'a> = [(&'a str, &'a Part)];

/// A kind of plot.
#[derive(Debug)]
pub struct Kind {
    name: &'static str,
    about: &'static str,
    source: Source,
}

/// What a kind is drawn from.
#[derive(Debug)]
enum Source {
    /// The hook points of a run: the sites that it needs, those that it shows where a model has them, and how.
    Points {
        needs: &'static [Site],
        may: &'static [Site],
        /// Whether heads may be chosen.
        heads: bool,
        draw: fn(&PlotSpec, Kept<'_>) -> Result<Box<dyn Picture>>,
    },
    /// Parts of answers, and the title if there is one.
    Parts(fn(&PlotSpec, &Parts<'_>) -> Result<Box<dyn Picture>>),
}

/// Every kind, those over hook points first.
static KINDS: &[Kind] = &[
    attention::KIND,
    neuron_activation::KIND,
    attention_stats::KIND,
    induction_heads::KIND,
    neuron_activation_trajectories::KIND,
    qk_dot_product::KIND,
    residual_stream::KIND,
    layer_norms::KIND,
    grids::LOGIT_LENS,
    grids::PATCHING,
    grids::HEAD_LAYER,
    rankings::WATERFALL,
    rankings::PROFILE,
    training_curves::KIND,
    spread::INTERVALS,
    spread::HISTOGRAM,
    spread::SCATTER,
    composition::KIND,
    comparison::KIND,
    text::KIND,
    feature::KIND,
];

impl Kind {
    /// The name.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// What it shows, in a sentence.
    #[must_use]
    pub const fn about(&self) -> &'static str {
        self.about
    }

    /// Whether it is drawn from the hook points of a run; else from parts of answers.
    #[must_use]
    pub const fn reads_points(&self) -> bool {
        matches!(self.source, Source::Points { .. })
    }
}

/// Every kind of plot.
#[must_use]
pub fn kinds() -> &'static [Kind] {
    KINDS
}

/// The kind of that name; an error names the nearest.
pub fn kind(name: &str) -> Result<&'static Kind> {
    KINDS.iter().find(|kind| kind.name == name).ok_or_else(|| Error::UnknownKind {
        name: name.to_owned(),
        nearest: nearest_name(name, KINDS.iter().map(|kind| kind.name)),
    })
}

/// The points among `known` that a spec reads; a run must keep them.
pub fn reads(spec: &PlotSpec, known: &[HookPoint]) -> Result<Vec<HookPoint>> {
    let kind = kind(&spec.kind)?;
    let Source::Points { needs, may, .. } = kind.source else { return Err(refused(kind.name, OVER_PARTS)) };
    if spec.points.is_empty() {
        let mut points = Vec::new();
        for site in needs {
            points.extend(Selector::Site(*site).resolve(known)?);
        }
        points.extend(known.iter().filter(|point| may.contains(&point.site)));
        return Ok(points);
    }
    let mut points: Vec<HookPoint> = Vec::new();
    for name in &spec.points {
        for point in Selector::from(name).resolve(known)? {
            if !points.contains(&point) {
                points.push(point);
            }
        }
    }
    points.retain(|point| needs.contains(&point.site) || may.contains(&point.site));
    // Scores are not known without it, so that it comes along unasked.
    let lags = known.iter().filter(|point| point.site == Site::LAG && may.contains(&Site::LAG));
    let lags: Vec<HookPoint> = lags
        .filter(|lag| !points.contains(lag) && points.iter().any(|point| point.layer == lag.layer))
        .copied()
        .collect();
    points.extend(lags);
    for site in needs {
        if !points.iter().any(|point| point.site == *site) {
            let named = spec.points.join("`, `");
            return Err(refused(kind.name, format!("reads `{site}`, and `{named}` matches no such point")));
        }
    }
    Ok(points)
}

const OVER_PARTS: &str = "is drawn from parts of an answer and reads no hook points";

/// The picture that a spec makes of what a run kept.
pub fn plot(spec: &PlotSpec, kept: Kept<'_>) -> Result<Box<dyn Picture>> {
    let kind = kind(&spec.kind)?;
    let Source::Points { heads, draw, .. } = kind.source else { return Err(refused(kind.name, OVER_PARTS)) };
    if !heads && !spec.heads.is_empty() {
        return Err(refused(kind.name, "shows no heads, so that none can be chosen"));
    }
    if kept.labels.is_empty() {
        return Err(Error::Empty { title: kind.name.to_owned(), why: "there are no positions".into() });
    }
    draw(spec, kept)
}

/// The picture that a kind makes of parts of answers; of parts that it cannot show it takes none.
pub fn plot_parts(spec: &PlotSpec, parts: &Parts<'_>) -> Result<Box<dyn Picture>> {
    let kind = kind(&spec.kind)?;
    let Source::Parts(draw) = kind.source else {
        return Err(refused(kind.name, "is drawn from hook points of a run, not from an answer"));
    };
    draw(spec, parts)
}

fn refused(kind: &str, why: impl Into<String>) -> Error {
    Error::Kind { kind: kind.to_owned(), why: why.into() }
}

/// The title of a spec, or the kind's own.
fn title(spec: &PlotSpec, own: impl Into<String>) -> String {
    spec.title.clone().unwrap_or_else(|| own.into())
}

//! The covariance of activations over a corpus.

use arrakis_core::{
    Answer, Axis, Context, Corpus, Error, HookPoint, Result, Series, Stack, Tool, answer, register_tools,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::Kind;

use crate::corpus_pass::CorpusPass;
use crate::moments::{Moments, Principal};
use crate::{gap, token_vectors};

/// Measures mean and covariance of the activations at a hook point over a corpus, and in how many dimensions they vary.
///
/// Every token gives one vector (heads are laid side by side). Batches are merged by the pairwise update of Chan et al.
/// (1979), so that memory does not grow with the corpus; the covariance divides by one less than the tokens.
/// The participation ratio `(Σλ)² / Σλ²` of the eigenvalues counts the dimensions that are in use, from 1 to the width.
/// Identities: the eigenvalues sum to the variances, which are merged apart (`trace_gap`), and `covariance · v = λ v`
/// (`eigen_gap`), both divided by the greatest eigenvalue.
/// Source: Chan et al., "Updating formulae and a pairwise algorithm for computing sample variances" (1979);
/// Gao et al., "A theory of multineuronal dimensionality, dynamics and measurement" (2017), for the participation ratio.
///
/// ```
/// # use arrakis_core::{Context, Corpus, Tool};
/// # use arrakis_tools::ActivationCovariance;
/// # let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/golden/llama");
/// # let model = arrakis_models::load(folder, &arrakis_models::LoadOptions::default()).unwrap();
/// let corpus = Corpus::Rows(vec![vec![9, 3, 17, 4], vec![5, 8, 2]]);
/// let found = ActivationCovariance::new(corpus, "blocks.0.hook_resid_post").run(&Context::new(&model)).unwrap();
/// assert!(found.participation_ratio <= 6.0);
/// ```
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ActivationCovariance {
    /// The texts to read.
    pub corpus: Corpus,
    /// The hook point, by its printed name: `blocks.3.hook_resid_post`.
    pub point: String,
    /// Tokens read at once; 256 if absent, or what the context holds.
    #[serde(default)]
    pub window: Option<usize>,
    /// Tokens at the start of each window that are left out; the first ones are often unlike all others.
    #[serde(default)]
    pub skip: usize,
}

impl ActivationCovariance {
    /// The covariance at `point` over `corpus`.
    pub fn new(corpus: impl Into<Corpus>, point: impl Into<String>) -> Self {
        Self { corpus: corpus.into(), point: point.into(), window: None, skip: 0 }
    }
}

/// How activations vary.
#[derive(Debug, Clone)]
pub struct Covariance {
    /// Tokens that were read.
    pub tokens: usize,
    /// The sum of the variances.
    pub trace: f64,
    /// The dimensions in use: `(Σλ)² / Σλ²`; NaN where nothing varies.
    pub participation_ratio: f64,
    /// The variance along each principal direction, greatest first.
    pub eigenvalues: Series,
    /// The share of the variance that the first directions hold together.
    pub share: Series,
    /// The mean of each entry.
    pub mean: Series,
    /// The covariance: `[entry, entry]`.
    pub covariance: Stack,
    /// Difference between the eigenvalues' sum and the variances' sum, over the greatest eigenvalue.
    pub trace_gap: f64,
    /// Greatest absolute entry of `covariance · v - λ v`, over the greatest eigenvalue.
    pub eigen_gap: f64,
}

impl From<Covariance> for Answer {
    fn from(found: Covariance) -> Self {
        Self::new()
            .with("participation_ratio", found.participation_ratio)
            .with("trace", found.trace)
            .with("tokens", found.tokens as f64)
            .with("eigenvalues", found.eigenvalues)
            .with("share", found.share)
            .with("mean", found.mean)
            .with("covariance", found.covariance)
            .with("trace_gap", found.trace_gap)
            .with("eigen_gap", found.eigen_gap)
    }
}

impl Tool for ActivationCovariance {
    const NAME: &'static str = "superposition.covariance";
    type Output = Covariance;

    fn run(&self, cx: &Context<'_>) -> Result<Covariance> {
        let point = token_vectors::point(cx.model(), &self.point)?;
        let width = token_vectors::width(cx.model(), point)?;
        let pass = CorpusPass::of(&bounded(cx, point, width)?, &self.corpus, self.window, 2 * width)?;
        let pass = pass.without_first(self.skip)?;
        let moments = moments(cx, &pass, point, width)?;
        let covariance = moments.covariance()?;
        let principal = Principal::of(&covariance)?;
        let eigenvalues = answer::numbers(&principal.variances)?;
        let trace = moments.summed_variance()?;
        // Where nothing varies, the gaps are those of rounding.
        let greatest = eigenvalues[0].max(moments.rounding()?);

        let sum: f64 = eigenvalues.iter().sum();
        let squares: f64 = eigenvalues.iter().map(|value| value * value).sum();
        let scaled = principal.directions.f_mul(&principal.variances.f_unsqueeze(1)?)?;
        let eigen_gap = gap::gap(&principal.directions.f_matmul(&covariance)?, &scaled)? / greatest;
        let share = eigenvalues.iter().scan(0.0, |held, value| {
            *held += value / sum;
            Some(*held)
        });
        let share: Vec<f64> = share.collect();
        let components = Axis::new("component", (1..=width).map(|component| component.to_string()));
        let entries = Axis::indices("entry", width);
        let title = |what: &str| format!("{what} at {point}");
        Ok(Covariance {
            tokens: pass.tokens(),
            trace,
            participation_ratio: sum * sum / squares,
            share: Series::new(title("variance held"), "share", components.clone(), [("share", share)])?,
            mean: Series::new(
                title("mean"),
                "activation",
                entries.clone(),
                [("mean", answer::numbers(moments.mean())?)],
            )?,
            covariance: Stack::new(
                title("covariance"),
                "covariance",
                vec![entries.clone(), Axis { name: "other entry".into(), ..entries }],
                covariance,
            )?,
            trace_gap: (sum - trace).abs() / greatest,
            eigen_gap,
            eigenvalues: Series::new(title("variance"), "variance", components, [("variance", eigenvalues)])?,
        })
    }
}

/// A context with the memory that the moments of vectors of that width leave for batches.
pub(crate) fn bounded<'a>(cx: &Context<'a>, point: HookPoint, width: usize) -> Result<Context<'a>> {
    let Some(limit) = cx.memory_limit() else { return Ok(*cx) };
    // The moments, what a batch adds to them, and the eigenvectors.
    let bytes = (4 * width * width * Kind::Double.elt_size_in_bytes()) as u64;
    let left = limit.checked_sub(bytes).ok_or_else(|| Error::Invalid {
        what: format!("the covariance at `{point}`"),
        why: format!("it takes {bytes} bytes where {limit} are allowed; choose a narrower point"),
    })?;
    Ok(cx.with_memory_limit(left))
}

/// The moments at a point over a corpus.
pub(crate) fn moments(cx: &Context<'_>, pass: &CorpusPass, point: HookPoint, width: usize) -> Result<Moments> {
    let model = cx.model();
    let mut moments = Moments::new(width, model.device())?;
    pass.each(cx, |batch| token_vectors::read(model, batch, &[point], |_, vectors| moments.add(&vectors)))?;
    Ok(moments)
}

register_tools!(ActivationCovariance);

//! How sparse activations are over a corpus.

use arrakis_core::{Answer, Axis, Context, Corpus, Error, Grid, Result, Series, Tool, answer, register_tools};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use super::four_moments::FourMoments;
use crate::corpus_pass::CorpusPass;
use crate::{gap, token_vectors};

/// Measures how sparse the activations at hook points are over a corpus.
///
/// For each threshold `t`: the share of entries with `|x| <= t`, the mean count of entries with `|x| > t` of a token
/// (`L0`), and the share of entries that are never above it. Hoyer's measure of a token's vector of `n` entries is
/// `(√n - |x|₁ / |x|₂) / (√n - 1)`, from 0 where all are equal to 1 where one is not zero; the mean is over tokens whose
/// vector is not zero, and NaN for a single entry. Kurtosis is `E (x - μ)⁴ / σ⁴` over all entries, 3 for a normal law.
/// Identity: counted apart, the inactive share and `L0 / n` sum to 1 (`count_gap`).
/// Source: Hoyer, "Non-negative matrix factorization with sparseness constraints" (2004); Hurley & Rickard, "Comparing
/// measures of sparsity" (2009); Pébay, "Formulas for robust, one-pass parallel computation of covariances and
/// arbitrary-order statistical moments" (2008), for the merging of moments.
///
/// ```
/// # use arrakis_core::{Context, Corpus, Tool};
/// # use arrakis_tools::ActivationSparsity;
/// # let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/golden/llama");
/// # let model = arrakis_models::load(folder, &arrakis_models::LoadOptions::default()).unwrap();
/// let corpus = Corpus::Rows(vec![vec![9, 3, 17, 4], vec![5, 8, 2]]);
/// let found = ActivationSparsity::new(corpus).run(&Context::new(&model)).unwrap();
/// assert!(found.hoyer.lines[0].values.iter().all(|value| (0.0..=1.0).contains(value)));
/// ```
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ActivationSparsity {
    /// The texts to read.
    pub corpus: Corpus,
    /// The hook points, by printed name, `*` standing for anything.
    #[serde(default = "neurons")]
    pub points: String,
    /// Absolute values up to which an entry counts as inactive.
    #[serde(default = "thresholds")]
    pub thresholds: Vec<f64>,
    /// Tokens read at once; 256 if absent, or what the context holds.
    #[serde(default)]
    pub window: Option<usize>,
    /// Tokens at the start of each window that are left out; the first ones are often unlike all others.
    #[serde(default)]
    pub skip: usize,
}

fn neurons() -> String {
    "blocks.*.mlp.hook_post".into()
}

fn thresholds() -> Vec<f64> {
    vec![0.0, 0.01, 0.1]
}

impl ActivationSparsity {
    /// The sparsity of the neurons of every layer over `corpus`.
    pub fn new(corpus: impl Into<Corpus>) -> Self {
        Self { corpus: corpus.into(), points: neurons(), thresholds: thresholds(), window: None, skip: 0 }
    }
}

/// How sparse activations are.
#[derive(Debug, Clone)]
pub struct Sparsity {
    /// Share of entries that are inactive: `[point, threshold]`.
    pub inactive: Grid,
    /// Mean count of active entries of a token: `[point, threshold]`.
    pub l0: Grid,
    /// Share of entries that are never active: `[point, threshold]`.
    pub dead: Grid,
    /// Mean of Hoyer's measure, by point.
    pub hoyer: Series,
    /// Kurtosis over all entries, by point; NaN where nothing varies.
    pub kurtosis: Series,
    /// Greatest absolute difference of the inactive share and the active one, counted apart, from 1 together.
    pub count_gap: f64,
}

impl From<Sparsity> for Answer {
    fn from(found: Sparsity) -> Self {
        Self::new()
            .with("inactive", found.inactive)
            .with("l0", found.l0)
            .with("dead", found.dead)
            .with("hoyer", found.hoyer)
            .with("kurtosis", found.kurtosis)
            .with("count_gap", found.count_gap)
    }
}

impl Tool for ActivationSparsity {
    const NAME: &'static str = "sparsity.activations";
    type Output = Sparsity;

    fn run(&self, cx: &Context<'_>) -> Result<Sparsity> {
        let model = cx.model();
        let points = token_vectors::points(model, &self.points)?;
        if self.thresholds.is_empty() {
            return Err(Error::Invalid { what: "thresholds".into(), why: "the list is empty; give one".into() });
        }
        if let Some(threshold) = self.thresholds.iter().find(|threshold| threshold.is_nan() || **threshold < 0.0) {
            let why = "an absolute value is compared with it; give 0 or more".into();
            return Err(Error::Invalid { what: format!("threshold {threshold}"), why });
        }
        let widest = points.iter().map(|point| token_vectors::width(model, *point)).collect::<Result<Vec<_>>>()?;
        let pass = CorpusPass::of(cx, &self.corpus, self.window, 4 * widest.into_iter().max().unwrap_or(1))?;
        let pass = pass.without_first(self.skip)?;
        let mut counts: Vec<Counts> = points.iter().map(|_| Counts::default()).collect();
        pass.each(cx, |batch| {
            token_vectors::read(model, batch, &points, |point, vectors| {
                let place = points.iter().position(|known| *known == point).unwrap_or(0);
                counts[place].add(&vectors, &self.thresholds)
            })
        })?;

        let rows = Axis::new("point", points.iter().map(ToString::to_string));
        let columns = Axis::new("threshold", self.thresholds.iter().map(ToString::to_string));
        let grid = |title: &str, value: &str, of: &dyn Fn(&Counts, usize) -> f64| {
            let each = |counts| (0..self.thresholds.len()).map(move |threshold| of(counts, threshold));
            let values = counts.iter().flat_map(each).collect();
            Grid::new(title, value, rows.clone(), columns.clone(), values)
        };
        let series = |title: &str, of: &dyn Fn(&Counts) -> f64| {
            Series::new(title, title, rows.clone(), [(title, counts.iter().map(of).collect())])
        };
        let inactive = grid("inactive entries", "share", &|counts, t| counts.inactive[t] / counts.entries())?;
        let l0 = grid("active entries of a token", "count", &|counts, t| counts.active[t] / counts.tokens)?;
        let mut count_gap = 0.0;
        for (place, counts) in counts.iter().enumerate() {
            for threshold in 0..self.thresholds.len() {
                let at = place * self.thresholds.len() + threshold;
                let together = inactive.values[at] + l0.values[at] / counts.width;
                count_gap = gap::worse(count_gap, (together - 1.0).abs());
            }
        }
        Ok(Sparsity {
            dead: grid("entries that are never active", "share", &|counts, t| counts.dead(t))?,
            hoyer: series("Hoyer sparsity", &|counts| counts.hoyer / counts.nonzero)?,
            kurtosis: series("kurtosis", &|counts| counts.moments.kurtosis())?,
            inactive,
            l0,
            count_gap,
        })
    }
}

/// What is counted at one point.
#[derive(Default)]
struct Counts {
    tokens: f64,
    width: f64,
    /// Entries up to each threshold.
    inactive: Vec<f64>,
    /// Entries above each threshold.
    active: Vec<f64>,
    /// The greatest absolute value of each entry.
    greatest: Option<Tensor>,
    thresholds: Vec<f64>,
    /// Sum of Hoyer's measure over the vectors that are not zero, and how many they are.
    hoyer: f64,
    nonzero: f64,
    moments: FourMoments,
}

impl Counts {
    fn add(&mut self, vectors: &Tensor, thresholds: &[f64]) -> Result<()> {
        let (tokens, width) = vectors.size2()?;
        (self.width, self.tokens) = (width as f64, self.tokens + tokens as f64);
        let sizes = vectors.f_abs()?;
        self.thresholds = thresholds.to_vec();
        self.inactive.resize(thresholds.len(), 0.0);
        self.active.resize(thresholds.len(), 0.0);
        for (place, threshold) in thresholds.iter().enumerate() {
            self.inactive[place] += sizes.f_le(*threshold)?.f_sum(Kind::Int64)?.f_double_value(&[])?;
            self.active[place] += sizes.f_gt(*threshold)?.f_sum(Kind::Int64)?.f_double_value(&[])?;
        }
        let greatest = sizes.f_amax([0], false)?;
        self.greatest = Some(match &self.greatest {
            Some(known) => known.f_maximum(&greatest)?,
            None => greatest,
        });
        let length = vectors.f_square()?.f_sum_dim_intlist(1, false, Kind::Double)?.f_sqrt()?;
        let nonzero = length.f_gt(0.0)?;
        let ratio = sizes.f_sum_dim_intlist(1, false, Kind::Double)?.f_div(&length)?;
        let root = self.width.sqrt();
        let hoyer = ratio.f_neg()?.f_add_scalar(root)?.f_div_scalar(root - 1.0)?;
        self.hoyer += hoyer.f_masked_select(&nonzero)?.f_sum(Kind::Double)?.f_double_value(&[])?;
        self.nonzero += nonzero.f_sum(Kind::Int64)?.f_double_value(&[])?;
        self.moments = self.moments.merged(FourMoments::of(vectors)?);
        Ok(())
    }

    fn entries(&self) -> f64 {
        self.tokens * self.width
    }

    /// Share of entries whose greatest absolute value is not above a threshold.
    fn dead(&self, threshold: usize) -> f64 {
        let Some(Ok(greatest)) = self.greatest.as_ref().map(answer::numbers) else { return f64::NAN };
        let dead = greatest.iter().filter(|value| **value <= self.thresholds[threshold]).count();
        dead as f64 / self.width
    }
}

register_tools!(ActivationSparsity);

//! Principal directions with the tokens and contexts that show what they are.

use arrakis_core::{
    Answer, Axis, Context, Corpus, Error, Grid, Model, Result, Series, Stack, Tool, answer, register_tools,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use super::covariance;
use crate::corpus_pass::CorpusPass;
use crate::moments::{Moments, Principal};
use crate::most_active::{self, MostActive};
use crate::token_effects::{self, Chosen};
use crate::{gap, index, token_vectors};

/// Through which map a direction is read as tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Through {
    /// The unembedding, with the final norm's weight folded in: what the direction makes the model say.
    #[default]
    Unembed,
    /// The token embedding: what the model has read.
    Embed,
}

/// Finds the principal directions of activations over a corpus, and shows the tokens and contexts at both their ends.
///
/// The directions are the eigenvectors of the covariance (PCA), their sign such that the greatest entry is positive.
/// Tokens are those whose vectors have the greatest and the least cosine with the direction, as far as the point writes
/// to the residual stream (neurons through `W_out`, head outputs through `W_O`); contexts are the tokens of the corpus
/// with the greatest and the least score `(x - mean) · v`.
/// Identities: the variance of the scores, read anew, is the eigenvalue (`variance_gap`, over the greatest), and the
/// directions are orthonormal (`orthonormal_gap`).
/// Source: Pearson, "On lines and planes of closest fit to systems of points in space" (1901), for the directions;
/// Zou et al., "Representation engineering" (2023), for reading them as concepts.
///
/// ```
/// # use arrakis_core::{Context, Corpus, Tool};
/// # use arrakis_tools::PrincipalConcepts;
/// # let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/golden/llama");
/// # let model = arrakis_models::load(folder, &arrakis_models::LoadOptions::default()).unwrap();
/// let corpus = Corpus::Rows(vec![vec![9, 3, 17, 4], vec![5, 8, 2]]);
/// let found = PrincipalConcepts::new(corpus, "blocks.0.hook_resid_post").run(&Context::new(&model)).unwrap();
/// assert_eq!(found.contexts_high.rows.len(), 5);
/// ```
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PrincipalConcepts {
    /// The texts to read.
    pub corpus: Corpus,
    /// The hook point, by its printed name: `blocks.3.hook_resid_post`.
    pub point: String,
    /// How many directions are shown.
    #[serde(default = "five")]
    pub components: usize,
    /// How many tokens and contexts are shown at each end.
    #[serde(default = "five")]
    pub top: usize,
    /// Through which map directions are read as tokens.
    #[serde(default)]
    pub through: Through,
    /// Tokens of context shown on each side.
    #[serde(default = "five")]
    pub around: usize,
    /// Tokens read at once; 256 if absent, or what the context holds.
    #[serde(default)]
    pub window: Option<usize>,
    /// Tokens at the start of each window that are left out; the first ones are often unlike all others.
    #[serde(default)]
    pub skip: usize,
}

const fn five() -> usize {
    5
}

impl PrincipalConcepts {
    /// The first five directions at `point` over `corpus`.
    pub fn new(corpus: impl Into<Corpus>, point: impl Into<String>) -> Self {
        Self {
            corpus: corpus.into(),
            point: point.into(),
            components: five(),
            top: five(),
            through: Through::default(),
            around: five(),
            window: None,
            skip: 0,
        }
    }
}

/// Principal directions and what they look like.
#[derive(Debug, Clone)]
pub struct Concepts {
    /// Share of the variance along each direction.
    pub share: Series,
    /// Contexts with the greatest scores: `[component, rank]`.
    pub contexts_high: Grid,
    /// Contexts with the least scores: `[component, rank]`.
    pub contexts_low: Grid,
    /// Tokens with the greatest cosine, if the point writes to the residual stream: `[component, rank]`.
    pub tokens_high: Option<Grid>,
    /// Tokens with the least cosine, if the point writes to the residual stream: `[component, rank]`.
    pub tokens_low: Option<Grid>,
    /// The directions, of length 1: `[component, entry]`.
    pub directions: Stack,
    /// Greatest absolute difference of a score's variance from the eigenvalue, over the greatest eigenvalue.
    pub variance_gap: f64,
    /// Greatest absolute entry of `V Vᵀ - 1`.
    pub orthonormal_gap: f64,
}

impl From<Concepts> for Answer {
    fn from(found: Concepts) -> Self {
        let mut answer =
            Self::new().with("contexts_high", found.contexts_high).with("contexts_low", found.contexts_low);
        if let Some(tokens) = found.tokens_high {
            answer = answer.with("tokens_high", tokens);
        }
        if let Some(tokens) = found.tokens_low {
            answer = answer.with("tokens_low", tokens);
        }
        answer
            .with("share", found.share)
            .with("directions", found.directions)
            .with("variance_gap", found.variance_gap)
            .with("orthonormal_gap", found.orthonormal_gap)
    }
}

impl Tool for PrincipalConcepts {
    const NAME: &'static str = "superposition.concepts";
    type Output = Concepts;

    fn run(&self, cx: &Context<'_>) -> Result<Concepts> {
        let model = cx.model();
        let point = token_vectors::point(model, &self.point)?;
        let width = token_vectors::width(model, point)?;
        let components = index::count("components", self.components, width)?;
        let cx = &covariance::bounded(cx, point, width)?;
        let pass = CorpusPass::of(cx, &self.corpus, self.window, 2 * width)?.without_first(self.skip)?;
        let top = index::count("top", self.top, pass.tokens().min(model.dims().vocab))?;

        let moments = covariance::moments(cx, &pass, point, width)?;
        let principal = Principal::of(&moments.covariance()?)?;
        let directions = principal.directions.f_narrow(0, 0, components as i64)?;
        let [mut high, mut low] = [MostActive::new(top), MostActive::new(top)];
        let mut scored = Moments::new(components, model.device())?;
        pass.each(cx, |batch| {
            token_vectors::read(model, batch, &[point], |_, vectors| {
                let scores = vectors.f_sub(moments.mean())?.f_matmul(&directions.f_transpose(0, 1)?)?;
                high.add(&scores, batch.first)?;
                low.add(&scores.f_neg()?, batch.first)?;
                scored.add(&scores)
            })
        })?;

        let variances = principal.variances.f_narrow(0, 0, components as i64)?;
        let greatest = variances.f_double_value(&[0])?;
        if greatest <= moments.rounding()? {
            let why = "they do not vary over the corpus, so they have no principal directions".into();
            return Err(Error::Invalid { what: format!("activations at `{point}`"), why });
        }
        let variance_gap = gap::gap(&scored.covariance()?.f_diag(0)?, &variances)? / greatest;
        let gram = directions.f_matmul(&directions.f_transpose(0, 1)?)?;
        let unit = Tensor::f_eye(components as i64, (Kind::Double, gram.device()))?;
        let axis = Axis::new("component", (1..=components).map(|component| component.to_string()));
        let share = variances.f_div(&principal.variances.f_sum(Kind::Double)?)?;
        let tokens = match token_vectors::written(model, point, &directions)? {
            Some(written) => Some(self.cosines(model, &written)?),
            None => None,
        };
        let nearest = |greatest: bool, title: &str| -> Result<Option<Grid>> {
            let Some(cosines) = &tokens else { return Ok(None) };
            Ok(Some(Chosen::of(cosines, top, greatest)?.grid(model, title, "cosine", axis.clone())?.diverging()))
        };
        Ok(Concepts {
            share: Series::new(
                format!("variance at {point}"),
                "share of the variance",
                axis.clone(),
                [("share", answer::numbers(&share)?)],
            )?,
            contexts_high: self.contexts(model, &pass, &high, 1.0, "contexts that score highest", &axis)?,
            contexts_low: self.contexts(model, &pass, &low, -1.0, "contexts that score lowest", &axis)?,
            tokens_high: nearest(true, "tokens nearest the direction")?,
            tokens_low: nearest(false, "tokens nearest its opposite")?,
            orthonormal_gap: gap::gap(&gram, &unit)?,
            variance_gap,
            directions: Stack::new(
                "principal directions",
                "entry of a unit vector",
                vec![axis, Axis::indices("entry", width)],
                directions,
            )?,
        })
    }
}

impl PrincipalConcepts {
    /// Cosines of directions (`[component, d_model]`) with every token's vector: `[component, vocab]`.
    fn cosines(&self, model: &dyn Model, directions: &Tensor) -> Result<Tensor> {
        let vectors = match self.through {
            Through::Unembed => {
                let ids: Vec<i64> = (0..model.dims().vocab as i64).collect();
                token_effects::folded(model, &ids)?
            }
            Through::Embed => token_effects::embeddings(model)?,
        };
        token_effects::cosines(directions, &vectors)
    }

    fn contexts(
        &self,
        model: &dyn Model,
        pass: &CorpusPass,
        found: &MostActive,
        sign: f64,
        title: &str,
        rows: &Axis,
    ) -> Result<Grid> {
        let (mut values, mut cells) = (Vec::new(), Vec::new());
        for (value, token) in found.lists()?.into_iter().flatten() {
            let (window, place) = pass.place(token);
            values.push(sign * value);
            cells.push(most_active::context(model, window, place, self.around));
        }
        let ranks = Axis::new("rank", (1..=values.len() / rows.len()).map(|rank| rank.to_string()));
        Ok(Grid::new(title, "score", rows.clone(), ranks, values)?.with_cells(cells)?.diverging())
    }
}

register_tools!(PrincipalConcepts);

//! The question which heads relate the tokens of a named relation.

use std::collections::HashSet;

use arrakis_core::{Answer, Axis, Context, Error, Grid, Model, Ranking, Result, TokenChoice, Tool, register_tools};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::pairs::{HeadScore, Pairs};
use super::queries_and_keys;
use crate::{Circuit, gap, index, lags};

/// Scores how well each head tells the true pairs of a relation from shuffled ones, by its weights alone.
///
/// A head's score of a pair is its bilinear form: `W_E[subject] W_Q W_Kᵀ W_E[object]ᵀ` (QK: the subject is the query and
/// the object the key; give the pairs the other way round for the converse) or `W_E[subject] W_V W_O W_U[object]` (OV:
/// the object is promoted where the subject is read), unscaled. Shuffled pairs are every subject with every object of
/// the relation that is not its own. The AUC is the chance that a true pair scores above a shuffled one, ties counted
/// half: 1/2 says nothing, 1 is a head that holds the relation, 0 one that avoids it. Embeddings are taken as they are:
/// positions, norms and rotations are no part of it. Where scores compare queries and keys of earlier positions too, a
/// QK form is of a pair of `lags`, and times the entry of the head's lag matrix there: a head that looks for what its
/// key's neighbour was holds its relation at a key lag of 1. The AUC takes the sign of the entry alone, the means its size.
/// Identity: the form is bilinear, so its mean over all subjects and objects is that of their mean embeddings, and
/// `mean_gap` is the greatest absolute difference of the two.
/// Source: Elhage et al., "A mathematical framework for transformer circuits" (2021), for the forms; Hanley and
/// `McNeil`, "The meaning and use of the area under a receiver operating characteristic (ROC) curve" (1982).
///
/// ```
/// # use arrakis_core::{Context, Tool};
/// # use arrakis_tools::{TypedRelation, TypedRelations};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/golden/llama");
/// let model = arrakis_models::load(folder, &arrakis_models::LoadOptions::default())?;
/// let capitals = TypedRelation::new("capital", [(9, 3), (17, 40), (5, 8)]);
/// let found = TypedRelations::new(vec![capitals]).run(&Context::new(&model))?;
/// assert!((0.0..=1.0).contains(&found.relations[0].heads.entries[0].value));
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TypedRelations {
    /// The relations.
    pub relations: Vec<TypedRelation>,
    /// The circuit whose form is taken.
    #[serde(default = "queries_and_keys")]
    pub circuit: Circuit,
    /// Lags of query and key, wanted for a QK circuit where scores compare those of earlier positions too: how far before
    /// the attending position the query's token lies, and how far before the position attended to the key's.
    #[serde(default)]
    pub lags: Option<[usize; 2]>,
    /// Layers to look at; all of them if absent.
    #[serde(default)]
    pub layers: Option<Vec<usize>>,
    /// How many heads are ranked.
    #[serde(default = "ten")]
    pub top: usize,
}

const fn ten() -> usize {
    10
}

/// A relation between tokens, by examples.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TypedRelation {
    /// Its name.
    pub name: String,
    /// Its pairs of subject and object.
    pub pairs: Vec<(TokenChoice, TokenChoice)>,
}

impl TypedRelation {
    /// A relation of that name with these pairs of subject and object.
    pub fn new(
        name: impl Into<String>,
        pairs: impl IntoIterator<Item = (impl Into<TokenChoice>, impl Into<TokenChoice>)>,
    ) -> Self {
        let pairs = pairs.into_iter().map(|(subject, object)| (subject.into(), object.into())).collect();
        Self { name: name.into(), pairs }
    }
}

impl TypedRelations {
    /// How each head's QK circuit holds these relations.
    #[must_use]
    pub const fn new(relations: Vec<TypedRelation>) -> Self {
        Self { relations, circuit: queries_and_keys(), lags: None, layers: None, top: ten() }
    }
}

/// How heads hold relations.
#[derive(Debug, Clone)]
pub struct RelationScores {
    /// One set of scores for each relation.
    pub relations: Vec<Relation>,
    /// Greatest absolute difference of a form's mean from the form of the mean embeddings.
    pub mean_gap: f64,
}

/// How heads hold one relation.
#[derive(Debug, Clone)]
pub struct Relation {
    /// Its name.
    pub name: String,
    /// The heads with the greatest AUC.
    pub heads: Ranking,
    /// The chance that a true pair scores above a shuffled one: `[layer, head]`.
    pub auc: Grid,
    /// Mean score of true pairs less that of shuffled ones: `[layer, head]`.
    pub difference: Grid,
    /// Mean score of true pairs: `[layer, head]`.
    pub true_mean: Grid,
    /// Mean score of shuffled pairs: `[layer, head]`.
    pub shuffled_mean: Grid,
}

impl From<RelationScores> for Answer {
    fn from(found: RelationScores) -> Self {
        let answer = found.relations.into_iter().fold(Self::new(), |answer, relation| {
            let name = |part: &str| format!("{}.{part}", relation.name);
            answer
                .with(name("auc"), relation.auc)
                .with(name("heads"), relation.heads)
                .with(name("difference"), relation.difference)
                .with(name("true_mean"), relation.true_mean)
                .with(name("shuffled_mean"), relation.shuffled_mean)
        });
        answer.with("mean_gap", found.mean_gap)
    }
}

impl Tool for TypedRelations {
    const NAME: &'static str = "relations.typed";
    type Output = RelationScores;

    fn run(&self, cx: &Context<'_>) -> Result<RelationScores> {
        let model = cx.model();
        let layers = index::chosen("layer", self.layers.as_deref(), model.dims().n_layers)?;
        let heads = layers.len() * model.dims().n_heads;
        index::count("top", self.top.min(heads), heads)?;
        if self.relations.is_empty() {
            return Err(Error::Invalid {
                what: "relations".into(),
                why: "the list is empty; give at least one".into(),
            });
        }
        let mut names = HashSet::new();
        if let Some(twice) = self.relations.iter().find(|relation| !names.insert(&relation.name)) {
            let why = "there are two of that name; join their pairs or name one anew".into();
            return Err(Error::Invalid { what: format!("relation `{}`", twice.name), why });
        }
        let pairs: Vec<Pairs> =
            self.relations.iter().map(|relation| Pairs::of(model, relation)).collect::<Result<_>>()?;
        let total = (pairs.len() * layers.len()) as u64;
        let mut mean_gap = 0.0;
        let mut relations = Vec::with_capacity(pairs.len());
        for (done, (relation, pairs)) in self.relations.iter().zip(pairs).enumerate() {
            let mut scores = Vec::new();
            for (step, layer) in layers.iter().enumerate() {
                cx.progress((done * layers.len() + step) as u64, total)?;
                let (of_layer, gap) = pairs.scores(model, self.circuit, *layer, self.lags)?;
                scores.extend(of_layer);
                mean_gap = gap::worse(mean_gap, gap);
            }
            relations.push(self.shown(model, &relation.name, &layers, &scores)?);
        }
        Ok(RelationScores { relations, mean_gap })
    }
}

impl TypedRelations {
    fn shown(&self, model: &dyn Model, name: &str, layers: &[usize], scores: &[HeadScore]) -> Result<Relation> {
        let heads = model.dims().n_heads;
        let circuit = format!("{}{}", self.circuit.name(), lags::suffix(self.lags));
        let grid = |title: &str, value: &str, number: fn(&HeadScore) -> f64| {
            let (rows, columns) = (Axis::new("layer", index::labels(layers)), Axis::indices("head", heads));
            Grid::new(
                format!("{title} of `{name}` by {circuit}"),
                value,
                rows,
                columns,
                scores.iter().map(number).collect(),
            )
        };
        let labels = layers.iter().flat_map(|layer| (0..heads).map(|head| index::head_label(*layer, head)));
        let ranked = labels.zip(scores.iter().map(|score| score.auc));
        Ok(Relation {
            name: name.to_owned(),
            heads: Ranking::new(format!("heads that hold `{name}` by {circuit}"), "AUC", ranked).sorted().top(self.top),
            auc: grid("AUC", "AUC", |score| score.auc)?,
            difference: grid("true less shuffled pairs", "score", |score| score.true_mean - score.shuffled_mean)?
                .diverging(),
            true_mean: grid("true pairs", "score", |score| score.true_mean)?.diverging(),
            shuffled_mean: grid("shuffled pairs", "score", |score| score.shuffled_mean)?.diverging(),
        })
    }
}

register_tools!(TypedRelations);

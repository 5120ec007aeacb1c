//! Which neurons answer to several categories of texts.

use arrakis_core::{
    Answer, Axis, Context, Grid, HookPoint, Prompt, Ranking, Result, Site, Tool, answer, register_tools,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use super::labelled::Labelled;
use crate::{gap, index, token_vectors};

/// Scores how many of the given categories of texts each neuron answers to.
///
/// A neuron's response to a category is the mean over its texts of the activation after the activation function, negative
/// ones counted as 0. `entropy` is that of the responses' shares over the logarithm of the number of categories: 0 where
/// one category has all, 1 where all have the same. `selectivity` is `(r_max - r_rest) / (r_max + r_rest)`, `r_rest` the
/// mean response to the others. `explained` is the share of the raw activation's variance over texts that lies between
/// the categories (η²), NaN where it does not vary. A neuron that answers to no text has no entropy and no selectivity
/// (NaN); the entropy has no single published form, and says nothing of categories that were not given.
/// Identity: the variance between categories and that within them sum to the whole (`variance_gap`, of the variances
/// divided by the greatest one).
/// Source: Morcos et al., "On the importance of single directions for generalization" (2018), for selectivity; Fisher,
/// "Statistical methods for research workers" (1925), for the share of the variance.
///
/// ```
/// # use arrakis_core::{Context, Prompt, Tool};
/// # use arrakis_tools::CategoryNeurons;
/// # let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/golden/llama");
/// # let model = arrakis_models::load(folder, &arrakis_models::LoadOptions::default()).unwrap();
/// let texts = Prompt::Rows(vec![vec![9, 3], vec![5, 3], vec![9, 4], vec![5, 4]]);
/// let found = CategoryNeurons::new(texts, ["a", "a", "b", "b"]).run(&Context::new(&model)).unwrap();
/// assert!(found.variance_gap < 1e-9);
/// ```
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CategoryNeurons {
    /// The texts.
    pub texts: Prompt,
    /// The category of each text.
    pub labels: Vec<String>,
    /// Which layers; all of them if absent.
    #[serde(default)]
    pub layers: Option<Vec<usize>>,
    /// Position that is read; the mean over each text's tokens if absent.
    #[serde(default)]
    pub position: Option<i64>,
    /// How many neurons are ranked at each end.
    #[serde(default = "ten")]
    pub top: usize,
}

const fn ten() -> usize {
    10
}

impl CategoryNeurons {
    /// The neurons of every layer, averaged over each text.
    pub fn new(texts: impl Into<Prompt>, labels: impl IntoIterator<Item = impl Into<String>>) -> Self {
        let labels = labels.into_iter().map(Into::into).collect();
        Self { texts: texts.into(), labels, layers: None, position: None, top: ten() }
    }
}

/// How neurons answer to categories.
#[derive(Debug, Clone)]
pub struct CategoryScores {
    /// Normalised entropy of the responses: `[layer, neuron]`.
    pub entropy: Grid,
    /// Selectivity for the category of greatest response: `[layer, neuron]`.
    pub selectivity: Grid,
    /// Share of the variance between categories: `[layer, neuron]`.
    pub explained: Grid,
    /// Neurons with the greatest entropy.
    pub polysemantic: Ranking,
    /// Neurons with the greatest selectivity, with their category; where equal, of greater share of the variance first.
    pub selective: Ranking,
    /// Responses of the neurons in `selective`: `[neuron, category]`.
    pub responses: Grid,
    /// Greatest absolute difference of the variance's parts from the whole, over the greatest variance.
    pub variance_gap: f64,
}

impl From<CategoryScores> for Answer {
    fn from(found: CategoryScores) -> Self {
        Self::new()
            .with("polysemantic", found.polysemantic)
            .with("selective", found.selective)
            .with("responses", found.responses)
            .with("entropy", found.entropy)
            .with("selectivity", found.selectivity)
            .with("explained", found.explained)
            .with("variance_gap", found.variance_gap)
    }
}

impl Tool for CategoryNeurons {
    const NAME: &'static str = "knowledge.polysemanticity";
    type Output = CategoryScores;

    fn run(&self, cx: &Context<'_>) -> Result<CategoryScores> {
        let model = cx.model();
        let dims = model.dims();
        let layers = index::chosen("layer", self.layers.as_deref(), dims.n_layers)?;
        let top = index::count("top", self.top, layers.len() * dims.d_mlp)?;
        let texts = Labelled::of(model, &self.texts, &self.labels, 1)?;
        let points: Vec<HookPoint> = layers.iter().map(|layer| Site::MLP_POST.at(*layer)).collect();
        let vectors = match self.position {
            Some(position) => token_vectors::at_position(cx, &texts.rows, Some(position), &points)?,
            None => token_vectors::means(cx, &texts.rows, &points)?,
        };
        // Layers side by side: `[text, layer * neuron]`.
        let all = Tensor::f_cat(&vectors, 1)?;
        let parts = Parts::of(&all, &texts)?;
        let categories = texts.classes.len();
        let columns = all.size()[1] as usize;
        let responses = answer::numbers(&parts.responses)?;
        let of_neuron = |place: usize| (0..categories).map(|class| responses[class * columns + place]).collect();
        let scored: Vec<(f64, f64, usize)> = (0..columns).map(|place| scores(of_neuron(place))).collect();

        let rows = Axis::new("layer", index::labels(&layers));
        let neurons = Axis::indices("neuron", dims.d_mlp);
        let grid =
            |title: &str, value: &str, values: Vec<f64>| Grid::new(title, value, rows.clone(), neurons.clone(), values);
        let label = |place: usize| format!("L{}N{}", layers[place / dims.d_mlp], place % dims.d_mlp);
        let explained = answer::numbers(&parts.explained)?;
        let order = |key: &dyn Fn(usize) -> f64| -> Vec<usize> {
            let mut order: Vec<usize> = (0..columns).filter(|place| !key(*place).is_nan()).collect();
            // Many neurons answer to one category alone, some of them to a single text by a hair.
            order.sort_by(|a, b| key(*b).total_cmp(&key(*a)).then(explained[*b].total_cmp(&explained[*a])));
            order.truncate(top);
            order
        };
        let wide = order(&|place| scored[place].0);
        let narrow = order(&|place| scored[place].1);
        let polysemantic = wide.iter().map(|place| (label(*place), scored[*place].0));
        let selective = narrow.iter().map(|place| {
            let (_, selectivity, class) = scored[*place];
            (format!("{}: {}", label(*place), texts.classes[class]), selectivity)
        });
        let shown: Vec<f64> = narrow.iter().flat_map(|place| of_neuron(*place)).collect();
        Ok(CategoryScores {
            polysemantic: Ranking::new("neurons that answer to many categories", "normalised entropy", polysemantic),
            selective: Ranking::new("neurons that answer to one category", "selectivity", selective),
            responses: Grid::new(
                "responses of selective neurons",
                "mean activation above 0",
                Axis::new("neuron", narrow.iter().map(|place| label(*place))),
                Axis::new("category", texts.classes.clone()),
                shown,
            )?,
            entropy: grid("entropy over categories", "normalised entropy", scored.iter().map(|s| s.0).collect())?,
            selectivity: grid("selectivity", "selectivity", scored.iter().map(|s| s.1).collect())?,
            explained: grid("variance between categories", "share", explained)?,
            variance_gap: parts.gap,
        })
    }
}

/// Responses and variances of every neuron.
struct Parts {
    /// `[category, neuron]`
    responses: Tensor,
    /// `[neuron]`
    explained: Tensor,
    gap: f64,
}

impl Parts {
    /// Of activations `[text, neuron]`.
    fn of(all: &Tensor, texts: &Labelled) -> Result<Self> {
        let count = texts.labels.len() as f64;
        let mean = all.f_mean_dim(0, true, Kind::Double)?;
        let variance = |of: &Tensor| of.f_square()?.f_sum_dim_intlist(0, false, Kind::Double)?.f_div_scalar(count);
        let whole = variance(&all.f_sub(&mean)?)?;
        let [mut between, mut within] = [whole.f_zeros_like()?, whole.f_zeros_like()?];
        let mut responses = Vec::new();
        for class in 0..texts.classes.len() {
            let own = (0..texts.labels.len()).filter(|text| texts.labels[*text] == class);
            let places: Vec<i64> = own.map(|text| text as i64).collect();
            let own = all.f_index_select(0, &Tensor::f_from_slice(&places)?.f_to_device(all.device())?)?;
            let centre = own.f_mean_dim(0, true, Kind::Double)?;
            let apart = centre.f_sub(&mean)?.f_squeeze_dim(0)?.f_square()?;
            between = between.f_add(&apart.f_mul_scalar(places.len() as f64 / count)?)?;
            within = within.f_add(&variance(&own.f_sub(&centre)?)?)?;
            responses.push(own.f_relu()?.f_mean_dim(0, false, Kind::Double)?);
        }
        let greatest = gap::greatest(&whole)?.max(f64::MIN_POSITIVE);
        let gap = gap::gap(&between.f_add(&within)?, &whole)? / greatest;
        Ok(Self { responses: Tensor::f_stack(&responses, 0)?, explained: between.f_div(&whole)?, gap })
    }
}

/// Normalised entropy, selectivity and greatest category of a neuron's responses.
fn scores(responses: Vec<f64>) -> (f64, f64, usize) {
    let sum: f64 = responses.iter().sum();
    let count = responses.len() as f64;
    let best = (0..responses.len()).max_by(|a, b| responses[*a].total_cmp(&responses[*b])).unwrap_or(0);
    let greatest = responses[best];
    let rest = (sum - greatest) / (count - 1.0);
    let shares = responses.into_iter().map(|response| response / sum);
    // A share of 0 has no part in the entropy.
    let entropy: f64 = shares.map(|share| if share == 0.0 { 0.0 } else { -share * share.ln() }).sum();
    (entropy / count.ln(), (greatest - rest) / (greatest + rest), best)
}

register_tools!(CategoryNeurons);

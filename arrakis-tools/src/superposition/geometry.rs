//! How the features of a weight matrix share its dimensions.

use arrakis_core::{Answer, Axis, Context, Error, Grid, Model, Ranking, Result, Series, Tool, answer, register_tools};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use crate::{gap, index};

/// Which side of a matrix the features are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    /// Each row is a feature's vector.
    Rows,
    /// Each column is a feature's vector.
    Columns,
}

/// Measures how many dimensions each feature of a weight matrix has to itself, and how features interfere.
///
/// A feature `i` has a vector `W_i`; its dimensionality is `D_i = |W_i|² / Σ_j (Ŵ_i · W_j)²`, with `Ŵ_i` of length 1:
/// 1 where it is orthogonal to all others, 1/2 for each of an antipodal pair, 2/5 for each of a pentagon, 0 where the
/// vector is zero. The interference of `i` with `j` is `Ŵ_i · W_j`.
/// `Σ_j` is taken through the frame operator `Σ_j W_j W_jᵀ`, so that a vocabulary needs no `vocab × vocab` table.
/// Identities: `Σ_i |W_i|⁴ / D_i` is the frame operator's squared norm (`frame_gap`), and for the features shown, `D`
/// through the table of their interference is the same (`dimensionality_gap`); the matrix is scaled to norm 1 for them.
/// Source: Elhage et al., "Toy models of superposition" (2022).
///
/// ```
/// # use arrakis_core::{Context, Tool};
/// # use arrakis_tools::FeatureGeometry;
/// # let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/golden/llama");
/// # let model = arrakis_models::load(folder, &arrakis_models::LoadOptions::default()).unwrap();
/// let found = FeatureGeometry::new("blocks.0.mlp.W_in").run(&Context::new(&model)).unwrap();
/// assert!(found.dimensionality.iter().all(|d| (0.0..=1.0 + 1e-9).contains(d)));
/// ```
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FeatureGeometry {
    /// The weight, by its printed name: `blocks.3.mlp.W_in`, `embed.W_E`.
    pub weight: String,
    /// Which side the features are; the one that is not the residual stream if absent.
    #[serde(default)]
    pub features: Option<Side>,
    /// The head, where the weight has heads.
    #[serde(default)]
    pub head: Option<usize>,
    /// How many features are ranked at each end, and shown in the table of interference.
    #[serde(default = "ten")]
    pub top: usize,
}

const fn ten() -> usize {
    10
}

impl FeatureGeometry {
    /// The geometry of a weight without heads.
    pub fn new(weight: impl Into<String>) -> Self {
        Self { weight: weight.into(), features: None, head: None, top: ten() }
    }
}

/// The geometry of the features of a matrix.
#[derive(Debug, Clone)]
pub struct Geometry {
    /// `D_i` of each feature.
    pub dimensionality: Vec<f64>,
    /// `|W_i|` of each feature.
    pub length: Vec<f64>,
    /// `Σ_{j≠i} (Ŵ_i · W_j)²` of each feature.
    pub interference: Vec<f64>,
    /// The dimensions for each feature: those of the space over the matrix' squared norm.
    pub dimensions_per_feature: f64,
    /// Features with the least dimensionality that are not zero.
    pub most_shared: Ranking,
    /// Features with the greatest dimensionality.
    pub least_shared: Ranking,
    /// `Ŵ_i · W_j` of the features in `most_shared`: `[feature, other feature]`.
    pub table: Grid,
    /// Absolute difference between the two ways to the frame operator's squared norm, of the matrix scaled to norm 1.
    pub frame_gap: f64,
    /// Greatest absolute difference of the shown features' `D` from the one through all their interferences.
    pub dimensionality_gap: f64,
}

impl From<Geometry> for Answer {
    fn from(found: Geometry) -> Self {
        let features = Axis::indices("feature", found.dimensionality.len());
        let series = |title: &str, value: &str, line: Vec<f64>| Series {
            title: title.into(),
            axis: features.clone(),
            value: value.into(),
            lines: vec![arrakis_core::Line { name: title.into(), values: line }],
        };
        Self::new()
            .with("dimensions_per_feature", found.dimensions_per_feature)
            .with("most_shared", found.most_shared)
            .with("least_shared", found.least_shared)
            .with("table", found.table)
            .with("dimensionality", series("dimensionality", "dimensions", found.dimensionality))
            .with("length", series("length", "length", found.length))
            .with("interference", series("interference", "squared dot products", found.interference))
            .with("frame_gap", found.frame_gap)
            .with("dimensionality_gap", found.dimensionality_gap)
    }
}

impl Geometry {
    /// The geometry of features that are the rows of `matrix` (`[feature, dimension]`), with `top` of them ranked.
    ///
    /// ```
    /// use arrakis_tools::Geometry;
    /// let pair = tch::Tensor::from_slice2(&[[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0]]);
    /// let found = Geometry::of(&pair, 3).unwrap();
    /// assert_eq!(found.dimensionality, [0.5, 0.5, 1.0]);
    /// ```
    pub fn of(matrix: &Tensor, top: usize) -> Result<Self> {
        let size = matrix.size();
        if size.len() != 2 || size[0] == 0 || size[1] == 0 {
            let why = format!("shape {size:?} where [feature, dimension] is wanted");
            return Err(Error::Invalid { what: "matrix".into(), why });
        }
        let (features, dimensions) = (size[0] as usize, size[1] as f64);
        let top = index::count("top", top, features)?;
        let matrix = matrix.f_detach()?.f_to_kind(Kind::Double)?;
        let norm = matrix.f_square()?.f_sum(Kind::Double)?.f_double_value(&[])?.sqrt();
        if !norm.is_finite() || norm == 0.0 {
            let why = if norm == 0.0 { "it is zero" } else { "it holds NaN or infinities" };
            return Err(Error::Invalid { what: "matrix".into(), why: why.into() });
        }
        // `D` does not depend on the scale; the gaps shall not either.
        let scaled = matrix.f_div_scalar(norm)?;
        let frame = scaled.f_transpose(0, 1)?.f_matmul(&scaled)?;
        let through = scaled.f_matmul(&frame)?.f_mul(&scaled)?.f_sum_dim_intlist(1, false, Kind::Double)?;
        let squared = scaled.f_square()?.f_sum_dim_intlist(1, false, Kind::Double)?;
        let alive = squared.f_gt(0.0)?;
        let none = squared.f_zeros_like()?;
        let dimensionality = squared.f_square()?.f_div(&through)?.f_where_self(&alive, &none)?;
        let frame_gap = (through.f_sum(Kind::Double)?.f_double_value(&[])?
            - frame.f_square()?.f_sum(Kind::Double)?.f_double_value(&[])?)
        .abs();
        // `Σ_j (Ŵ_i · W_j)²` holds `|W_i|²` of the feature itself.
        let others = through.f_div(&squared)?.f_sub(&squared)?.f_where_self(&alive, &none)?.f_clamp_min(0)?;

        let numbers = answer::numbers(&dimensionality)?;
        let mut order: Vec<usize> = (0..features).filter(|feature| numbers[*feature] > 0.0).collect();
        order.sort_by(|a, b| numbers[*a].total_cmp(&numbers[*b]));
        let ranked = |title: &str, order: &mut dyn Iterator<Item = &usize>| {
            let entries = order.take(top).map(|feature| (feature.to_string(), numbers[*feature]));
            Ranking::new(title, "dimensionality", entries.collect::<Vec<_>>())
        };
        let most_shared = ranked("features that share most", &mut order.iter());
        let least_shared = ranked("features that share least", &mut order.iter().rev());

        let shown: Vec<i64> = order.iter().take(top).map(|feature| *feature as i64).collect();
        let places = Tensor::f_from_slice(&shown)?.f_to_device(scaled.device())?;
        let vectors = scaled.f_index_select(0, &places)?;
        let lengths = squared.f_index_select(0, &places)?.f_sqrt()?.f_unsqueeze(1)?;
        let dots = vectors.f_div(&lengths)?.f_matmul(&scaled.f_transpose(0, 1)?)?;
        let again = lengths.f_squeeze_dim(1)?.f_square()?.f_div(&dots.f_square()?.f_sum_dim_intlist(
            1,
            false,
            Kind::Double,
        )?)?;
        let dimensionality_gap = gap::gap(&again, &dimensionality.f_index_select(0, &places)?)?;
        let labels: Vec<String> = shown.iter().map(ToString::to_string).collect();
        let table = Grid::from_tensor(
            "interference",
            "dot product with the unit vector",
            Axis::new("feature", labels.clone()),
            Axis::new("other feature", labels),
            &dots.f_index_select(1, &places)?.f_mul_scalar(norm)?,
        )?
        .diverging();
        Ok(Self {
            length: answer::numbers(&squared.f_sqrt()?.f_mul_scalar(norm)?)?,
            interference: answer::numbers(&others.f_mul_scalar(norm * norm)?)?,
            dimensionality: numbers,
            dimensions_per_feature: dimensions / (norm * norm),
            most_shared,
            least_shared,
            table,
            frame_gap,
            dimensionality_gap,
        })
    }

    /// Puts tokens behind the numbers of features.
    fn label(&mut self, token: impl Fn(i64) -> String) {
        let rankings = [&mut self.most_shared, &mut self.least_shared];
        let entries = rankings.into_iter().flat_map(|ranking| ranking.entries.iter_mut().map(|entry| &mut entry.label));
        let axes = [&mut self.table.rows, &mut self.table.columns];
        for label in entries.chain(axes.into_iter().flat_map(|axis| axis.labels.iter_mut())) {
            if let Ok(id) = label.parse() {
                *label = format!("{label}: {}", token(id));
            }
        }
    }
}

impl Tool for FeatureGeometry {
    const NAME: &'static str = "superposition.geometry";
    type Output = Geometry;

    fn run(&self, cx: &Context<'_>) -> Result<Geometry> {
        cx.cancelled()?;
        let model = cx.model();
        let matrix = self.matrix(model)?;
        let mut found = Geometry::of(&matrix, self.top.min(matrix.size()[0] as usize))?;
        if matrix.size()[0] == model.dims().vocab as i64 {
            found.label(|token| model.token(token));
        }
        Ok(found)
    }
}

impl FeatureGeometry {
    /// The features' vectors: `[feature, dimension]`.
    fn matrix(&self, model: &dyn Model) -> Result<Tensor> {
        let weight = model.weight_named(&self.weight)?;
        let refuse = |why: String| Error::Invalid { what: format!("weight `{}`", self.weight), why };
        let matrix = match (weight.dim(), self.head) {
            (2, None) => weight,
            (3, Some(head)) => {
                let heads = weight.size()[0];
                if head as i64 >= heads {
                    return Err(Error::OutOfRange { what: "head".into(), index: head as i64, len: heads });
                }
                weight.f_get(head as i64)?
            }
            (3, None) => return Err(refuse("it has heads; choose a `head`".into())),
            (2, Some(_)) => return Err(refuse("it has no heads; leave `head` out".into())),
            _ => return Err(refuse(format!("shape {:?} where a matrix is wanted", weight.size()))),
        };
        let d_model = model.dims().d_model as i64;
        let (rows, columns) = matrix.size2()?;
        let side = match self.features {
            Some(side) => side,
            None if rows == d_model && columns != d_model => Side::Columns,
            None if columns == d_model && rows != d_model => Side::Rows,
            None => return Err(refuse("which side is the features is not clear; say it in `features`".into())),
        };
        match side {
            Side::Rows => Ok(matrix),
            Side::Columns => Ok(matrix.f_transpose(0, 1)?),
        }
    }
}

register_tools!(FeatureGeometry);

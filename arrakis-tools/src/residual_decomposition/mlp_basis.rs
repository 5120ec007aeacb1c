//! The directions that an MLP reads and writes most strongly.

use std::ops::Range;

use arrakis_core::{
    Answer, Axis, Context, Dims, Error, Grid, Model, Result, Series, Stack, Stream, Tool, Weight, answer,
    register_tools,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use crate::work_kind::work_kind;
use crate::{gap, index};

/// Finds the directions of the residual stream that each MLP maps on each other, by the SVD of its two matrices' product.
///
/// `W_in W_out = U S Vᵀ`, with the activation function left out: what lies along `U[:, i]` is read, times `S[i]`, and
/// written along `V[:, i]`. Each direction is shown by the tokens it is most like: read directions by the embedding,
/// written ones by the unembedding (inner products; of the two signs, the one with the greatest written token). Both
/// matrices are first taken apart by QR where that makes the product smaller. A gated MLP reads through two matrices;
/// `side` chooses one. Of a mixture of experts one is taken apart, since no position uses all.
/// Identity: the factors map random vectors as the two matrices do, and `product_gap` is the greatest absolute difference.
/// Source: Millidge and Black, "The singular value decompositions of transformer weight matrices are highly
/// interpretable" (2022).
///
/// ```
/// # use arrakis_core::{Context, Tool};
/// # use arrakis_tools::MlpBasis;
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/golden/llama");
/// # let model = arrakis_models::load(folder, &arrakis_models::LoadOptions::default())?;
/// let bases = MlpBasis { top: 3, ..MlpBasis::default() }.run(&Context::new(&model))?;
/// assert_eq!(bases.layers[0].written.rows.len(), 3);
/// assert!(bases.product_gap < 1e-10);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MlpBasis {
    /// Layers whose MLP is taken apart; all of them if absent.
    #[serde(default)]
    pub layers: Option<Vec<usize>>,
    /// Through which matrix a gated MLP reads.
    #[serde(default)]
    pub side: MlpSide,
    /// Which expert is taken apart, where MLPs are mixtures of experts.
    #[serde(default)]
    pub expert: Option<usize>,
    /// How many directions are shown of each layer, strongest first; no more than there are.
    #[serde(default = "five")]
    pub top: usize,
    /// How many tokens are shown of each direction.
    #[serde(default = "five")]
    pub tokens: usize,
}

/// A matrix through which an MLP reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum MlpSide {
    /// `W_in`: the only one, or the linear side.
    #[default]
    In,
    /// `W_gate`: the activated side of a gated MLP.
    Gate,
}

const fn five() -> usize {
    5
}

impl Default for MlpBasis {
    fn default() -> Self {
        Self { layers: None, side: MlpSide::default(), expert: None, top: five(), tokens: five() }
    }
}

/// The bases of several MLPs.
#[derive(Debug, Clone)]
pub struct MlpBases {
    /// Singular values of each layer, greatest first.
    pub singular_values: Series,
    /// One basis for each layer.
    pub layers: Vec<LayerBasis>,
    /// Greatest absolute difference, over the layers, of the factors' map of random vectors from the matrices' own.
    pub product_gap: f64,
}

/// The strongest directions of one MLP.
#[derive(Debug, Clone)]
pub struct LayerBasis {
    /// The layer.
    pub layer: usize,
    /// The tokens most like each read direction: `[direction, rank]`.
    pub read: Grid,
    /// The tokens most like each written direction: `[direction, rank]`.
    pub written: Grid,
    /// The directions themselves, unit vectors: `[side, direction, d_model]`, read before written.
    pub directions: Stack,
}

impl From<MlpBases> for Answer {
    fn from(bases: MlpBases) -> Self {
        let answer = Self::new().with("singular_values", bases.singular_values);
        let answer = bases.layers.into_iter().fold(answer, |answer, basis| {
            let name = |name: &str| format!("layer{}.{name}", basis.layer);
            answer
                .with(name("written"), basis.written)
                .with(name("read"), basis.read)
                .with(name("directions"), basis.directions)
        });
        answer.with("product_gap", bases.product_gap)
    }
}

impl Tool for MlpBasis {
    const NAME: &'static str = "residual_decomposition.mlp_basis";
    type Output = MlpBases;

    fn run(&self, cx: &Context<'_>) -> Result<MlpBases> {
        let model = cx.model();
        let dims = model.dims();
        let layers = index::chosen("layer", self.layers.as_deref(), dims.n_layers)?;
        let neurons = self.neurons(dims)?;
        let rank = dims.d_model.min(neurons.len());
        let top = index::count("top", self.top.min(rank), rank)?;
        let tokens = index::count("tokens", self.tokens, dims.vocab)?;
        let mut random = cx.stream(Self::NAME);
        let (mut bases, mut lines, mut product_gap) = (Vec::new(), Vec::new(), 0.0);
        for (done, layer) in layers.iter().enumerate() {
            cx.progress(done as u64, layers.len() as u64)?;
            let factors = Factors::of(model, *layer, self.side, &neurons)?;
            product_gap = gap::worse(product_gap, factors.product_gap(&mut random)?);
            lines.push((format!("layer {layer}"), answer::numbers(&factors.values)?));
            bases.push(factors.shown(model, *layer, top, tokens)?);
        }
        let axis = Axis::indices("direction", rank);
        let singular_values = Series::new("singular values of the MLPs", "singular value", axis, lines)?;
        Ok(MlpBases { singular_values, layers: bases, product_gap })
    }
}

impl MlpBasis {
    /// The neurons of the MLP, or of the expert.
    fn neurons(&self, dims: &Dims) -> Result<Range<usize>> {
        let refused = |why: String| Err(Error::Invalid { what: "expert".into(), why });
        let experts = dims.others.get("expert").copied();
        match (experts, self.expert) {
            (None, None) => Ok(0..dims.d_mlp),
            (None, Some(_)) => refused("the MLPs of this model are no mixtures; leave it out".into()),
            (Some(experts), None) => {
                refused(format!("each position uses some of {experts} experts, and none all; give the number of one"))
            }
            (Some(experts), Some(expert)) => {
                index::chosen("expert", Some(&[expert]), experts)?;
                let each = dims.d_mlp / experts;
                Ok(expert * each..(expert + 1) * each)
            }
        }
    }
}

/// `W_in W_out` in singular vectors, in double.
struct Factors {
    /// `[d_model, d_mlp]`.
    into: Tensor,
    /// `[d_mlp, d_model]`.
    out: Tensor,
    /// Directions read, as columns: `[d_model, rank]`.
    read: Tensor,
    /// `[rank]`.
    values: Tensor,
    /// Directions written, as columns: `[d_model, rank]`.
    written: Tensor,
}

impl Factors {
    fn of(model: &dyn Model, layer: usize, side: MlpSide, neurons: &Range<usize>) -> Result<Self> {
        let weight = match side {
            MlpSide::In => Weight::IN,
            MlpSide::Gate => Weight::GATE,
        };
        let into = model.weight_if_any(weight.at(layer))?.ok_or_else(|| Error::Invalid {
            what: "side `gate`".into(),
            why: "the MLPs of this model have no gate; ask for `in`".into(),
        })?;
        let (into, out) =
            (into.f_to_kind(Kind::Double)?, model.weight(Weight::OUT.at(layer))?.f_to_kind(Kind::Double)?);
        let (first, count) = (neurons.start as i64, neurons.len() as i64);
        Self::taken_apart(into.f_narrow(1, first, count)?, out.f_narrow(0, first, count)?)
    }

    /// The factors of the product of `[d_model, d_mlp]` and `[d_mlp, d_model]`.
    fn taken_apart(into: Tensor, out: Tensor) -> Result<Self> {
        let (d_model, d_mlp) = into.size2()?;
        let (read, values, written) = if d_mlp < d_model {
            let ((q_in, r_in), (q_out, r_out)) =
                (Tensor::f_linalg_qr(&into, "reduced")?, Tensor::f_linalg_qr(&out.f_transpose(0, 1)?, "reduced")?);
            let (u, s, v) = r_in.f_matmul(&r_out.f_transpose(0, 1)?)?.f_svd(true, true)?;
            (q_in.f_matmul(&u)?, s, q_out.f_matmul(&v)?)
        } else {
            // With more neurons than d_model the product is itself the smallest matrix with these singular values.
            into.f_matmul(&out)?.f_svd(true, true)?
        };
        Ok(Self { into, out, read, values, written })
    }

    fn product_gap(&self, random: &mut Stream) -> Result<f64> {
        let vectors = random.normals(&[4, self.into.size()[0]])?.f_to_device(self.into.device())?;
        let expected = vectors.f_matmul(&self.into)?.f_matmul(&self.out)?;
        let found = vectors.f_matmul(&self.read)?.f_mul(&self.values)?.f_matmul(&self.written.f_transpose(0, 1)?)?;
        gap::gap(&found, &expected)
    }

    fn shown(self, model: &dyn Model, layer: usize, top: usize, tokens: usize) -> Result<LayerBasis> {
        let first = |columns: &Tensor| columns.f_narrow(1, 0, top as i64)?.f_transpose(0, 1);
        let (read, written) = (first(&self.read)?, first(&self.written)?);
        let kind = work_kind(model);
        let to_unembed = written.f_to_kind(kind)?.f_matmul(&model.weight(Weight::U.global())?.f_to_kind(kind)?)?;
        // The sign of a pair of singular vectors is free.
        let (greatest, least) = (to_unembed.f_amax([-1], true)?, to_unembed.f_amin([-1], true)?);
        let sign = greatest.f_add(&least)?.f_ge(0.0)?.f_to_kind(Kind::Double)?.f_mul_scalar(2.0)?.f_sub_scalar(1.0)?;
        let (read, written, to_unembed) = (read.f_mul(&sign)?, written.f_mul(&sign)?, to_unembed.f_mul(&sign)?);
        let embed = model.weight(Weight::E.global())?.f_to_kind(kind)?;
        let to_embed = read.f_to_kind(kind)?.f_matmul(&embed.f_transpose(0, 1)?)?;

        let rows = Axis::indices("direction", top);
        let grid = |title: String, products: &Tensor| -> Result<Grid> {
            let (values, ids) = products.f_topk(tokens as i64, -1, true, true)?;
            let ids: Vec<i64> = Vec::try_from(ids.f_to_device(tch::Device::Cpu)?.f_contiguous()?.f_reshape([-1])?)?;
            let columns = Axis::new("rank", (1..=tokens).map(|rank| rank.to_string()));
            let cells = ids.into_iter().map(|id| model.token(id)).collect();
            Grid::from_tensor(title, "inner product", rows.clone(), columns, &values)?.with_cells(cells)
        };
        let axes =
            vec![Axis::new("side", ["read", "written"]), rows.clone(), Axis::indices("d_model", model.dims().d_model)];
        let vectors = Tensor::f_stack(&[&read, &written], 0)?;
        Ok(LayerBasis {
            layer,
            read: grid(format!("what MLP {layer} reads"), &to_embed)?,
            written: grid(format!("what MLP {layer} writes"), &to_unembed)?,
            directions: Stack::new(format!("directions of MLP {layer}"), "entry of a unit vector", axes, vectors)?,
        })
    }
}

register_tools!(MlpBasis);

#[cfg(test)]
mod tests {
    use super::{Factors, Stream};

    #[test]
    fn fewer_neurons_than_d_model_are_taken_apart_by_qr() {
        // No family at hand has so few; the product is of rank 3, and only 3 factors are found.
        let mut stream = Stream::new(0, "matrices");
        let (into, out) = (stream.normals(&[7, 3]).unwrap(), stream.normals(&[3, 7]).unwrap());
        let dense = into.matmul(&out).f_svd(true, true).unwrap().1;
        let factors = Factors::taken_apart(into, out).unwrap();
        assert_eq!(factors.values.size(), [3]);
        assert!((&factors.values - dense.narrow(0, 0, 3)).abs().max().double_value(&[]) < 1e-12);
        assert!(factors.product_gap(&mut stream).unwrap() < 1e-12);
    }
}

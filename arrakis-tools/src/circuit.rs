//! The two circuits of a head: what it looks for and what it moves, each a product of two thin matrices.

use arrakis_core::{Error, Model, Result, Weight};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use crate::lags::{self, Lags};
use crate::{FactoredMatrix, index};

/// A head, by its layer and its place among the query heads there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HeadPlace {
    /// The layer.
    pub layer: usize,
    /// The query head.
    pub head: usize,
}

impl HeadPlace {
    /// The head `head` of the layer `layer`.
    #[must_use]
    pub const fn new(layer: usize, head: usize) -> Self {
        Self { layer, head }
    }

    /// An error if the model has no such head.
    pub(crate) fn check(self, model: &dyn Model) -> Result<()> {
        let dims = model.dims();
        index::chosen("layer", Some(&[self.layer]), dims.n_layers)?;
        index::chosen("head", Some(&[self.head]), dims.n_heads)?;
        Ok(())
    }

    /// The key-value head that it reads: `n_heads / n_kv_heads` query heads share one.
    pub(crate) fn kv_head(self, model: &dyn Model) -> i64 {
        let dims = model.dims();
        (self.head / (dims.n_heads / dims.n_kv_heads)) as i64
    }

    /// Its name, as in TransformerLens.
    pub(crate) fn label(self) -> String {
        index::head_label(self.layer, self.head)
    }
}

/// A circuit of a head. Vectors are rows: a stream `x` becomes `x W_V W_O`, and scores are `x W_Q W_Kᵀ yᵀ`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Circuit {
    /// What the head moves: `W_V W_O`, from the stream to the stream.
    Ov,
    /// What the head looks for: `W_Q W_Kᵀ`, from the query's stream to the key's.
    Qk,
}

impl Circuit {
    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ov => "OV",
            Self::Qk => "QK",
        }
    }

    /// The circuits of every query head of a layer, in double: `[head, d_model, d_model]`, without the product.
    ///
    /// Under grouped-query attention a query head takes its group's keys and values. Biases, norms and rotations are not
    /// part of a circuit. Where scores compare queries and keys of earlier positions too, a head has a QK circuit for
    /// each pair of `lags`, of query and key; the OV circuit has none.
    ///
    /// # Errors
    /// Lags that are missing there or given where there are none; a QK circuit where scores are not made of queries and
    /// keys.
    pub fn of_layer(self, model: &dyn Model, layer: usize, lags: Option<[usize; 2]>) -> Result<FactoredMatrix> {
        index::chosen("layer", Some(&[layer]), model.dims().n_layers)?;
        match self.weights(model, layer, lags)? {
            None => self.of_layer_in(model, layer, Kind::Double),
            Some(weights) => {
                let (a, b) = self.of_layer_in(model, layer, Kind::Double)?.into_factors();
                FactoredMatrix::new(a.f_mul(&weights.f_view([-1, 1, 1])?)?, b)
            }
        }
    }

    /// The circuits of every query head of a layer that there is, in `kind`, not multiplied by what lags weigh.
    pub(crate) fn of_layer_in(self, model: &dyn Model, layer: usize, kind: Kind) -> Result<FactoredMatrix> {
        let weight = |weight: Weight| -> Result<Tensor> { Ok(model.weight(weight.at(layer))?.f_to_kind(kind)?) };
        match self {
            Self::Ov => FactoredMatrix::new(by_query_head(model, &weight(Weight::V)?)?, weight(Weight::O)?),
            Self::Qk => {
                lags::check(model, layer)?;
                let keys = by_query_head(model, &weight(Weight::K)?)?;
                FactoredMatrix::new(weight(Weight::Q)?, keys.f_transpose(1, 2)?)
            }
        }
    }

    /// The circuit of one head, in double: `[d_model, d_model]`, without the product; lags and errors as in
    /// [`of_layer`](Self::of_layer).
    pub fn of_head(self, model: &dyn Model, place: HeadPlace, lags: Option<[usize; 2]>) -> Result<FactoredMatrix> {
        place.check(model)?;
        match self.weights(model, place.layer, lags)? {
            None => self.of_head_unweighed(model, place),
            Some(weights) => {
                let (a, b) = self.of_head_unweighed(model, place)?.into_factors();
                FactoredMatrix::new(a.f_mul(&weights.f_get(place.head as i64)?)?, b)
            }
        }
    }

    /// The circuit of one head that there is, not multiplied by what lags weigh.
    pub(crate) fn of_head_unweighed(self, model: &dyn Model, place: HeadPlace) -> Result<FactoredMatrix> {
        let slice = |weight: Weight, head: i64| -> Result<Tensor> {
            Ok(model.weight(weight.at(place.layer))?.f_get(head)?.f_to_kind(Kind::Double)?)
        };
        let (head, kv_head) = (place.head as i64, place.kv_head(model));
        match self {
            Self::Ov => FactoredMatrix::new(slice(Weight::V, kv_head)?, slice(Weight::O, head)?),
            Self::Qk => {
                lags::check(model, place.layer)?;
                FactoredMatrix::new(slice(Weight::Q, head)?, slice(Weight::K, kv_head)?.f_transpose(0, 1)?)
            }
        }
    }

    /// The circuit of one head from token to token, in double: `[vocab, vocab]`, without the product; lags and errors as
    /// in [`of_layer`](Self::of_layer).
    ///
    /// `W_E W_V W_O W_U` says which tokens a token promotes where it is attended to, and `W_E W_Q W_Kᵀ W_Eᵀ` which
    /// tokens it attends to.
    pub fn of_vocabulary(
        self,
        model: &dyn Model,
        place: HeadPlace,
        lags: Option<[usize; 2]>,
    ) -> Result<FactoredMatrix> {
        let (a, b) = self.of_head(model, place, lags)?.into_factors();
        let right = match self {
            Self::Ov => unembedded(model, &b)?,
            Self::Qk => embedded(model, &b.f_transpose(0, 1)?)?.f_transpose(0, 1)?,
        };
        FactoredMatrix::new(embedded(model, &a)?, right)
    }

    /// What the circuits of a layer's heads are multiplied by: `[head]`.
    fn weights(self, model: &dyn Model, layer: usize, lags: Option<Lags>) -> Result<Option<Tensor>> {
        match (self, lags) {
            (Self::Qk, lags) => lags::weights(model, layer, lags),
            (Self::Ov, None) => Ok(None),
            (Self::Ov, Some(_)) => {
                let why = "values do not lag; leave them out, or ask for queries and keys".into();
                Err(Error::Invalid { what: "lags".into(), why })
            }
        }
    }
}

/// What a head reads with, of the residual stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum HeadInput {
    /// Its queries.
    Q,
    /// Its keys.
    K,
    /// Its values.
    V,
}

impl HeadInput {
    /// All three.
    pub const ALL: [Self; 3] = [Self::Q, Self::K, Self::V];

    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Q => "q",
            Self::K => "k",
            Self::V => "v",
        }
    }

    /// What a head makes of this input, in double: `W_Q W_Kᵀ` of queries, `W_K W_Qᵀ` of keys, `W_V W_O` of values; lags
    /// and errors as in [`Circuit::of_layer`].
    pub fn of_head(self, model: &dyn Model, place: HeadPlace, lags: Option<[usize; 2]>) -> Result<FactoredMatrix> {
        self.at_left(self.circuit().of_head(model, place, lags)?)
    }

    /// The same of a head that there is, not multiplied by what lags weigh.
    pub(crate) fn of_head_unweighed(self, model: &dyn Model, place: HeadPlace) -> Result<FactoredMatrix> {
        self.at_left(self.circuit().of_head_unweighed(model, place)?)
    }

    /// The same of every query head of a layer that there is, in `kind`.
    pub(crate) fn of_layer_in(self, model: &dyn Model, layer: usize, kind: Kind) -> Result<FactoredMatrix> {
        self.at_left(self.circuit().of_layer_in(model, layer, kind)?)
    }

    const fn circuit(self) -> Circuit {
        match self {
            Self::Q | Self::K => Circuit::Qk,
            Self::V => Circuit::Ov,
        }
    }

    fn at_left(self, circuit: FactoredMatrix) -> Result<FactoredMatrix> {
        if self == Self::K { circuit.transpose() } else { Ok(circuit) }
    }
}

/// Tokens whose weights are in double at once.
const CHUNK: i64 = 8192;

/// `W_E` times a matrix (`[d_model, n]`), in double: `[vocab, n]`.
pub(crate) fn embedded(model: &dyn Model, matrix: &Tensor) -> Result<Tensor> {
    let embedding = model.weight(Weight::E.global())?;
    let pieces = chunks(embedding.size()[0]).map(|(start, len)| {
        let rows = embedding.f_narrow(0, start, len)?.f_to_kind(Kind::Double)?;
        Ok::<_, Error>(rows.f_matmul(matrix)?)
    });
    Ok(Tensor::f_cat(&pieces.collect::<Result<Vec<_>>>()?, 0)?)
}

/// A matrix (`[n, d_model]`) times `W_U`, in double: `[n, vocab]`.
pub(crate) fn unembedded(model: &dyn Model, matrix: &Tensor) -> Result<Tensor> {
    let unembedding = model.weight(Weight::U.global())?;
    let pieces = chunks(unembedding.size()[1]).map(|(start, len)| {
        let columns = unembedding.f_narrow(1, start, len)?.f_to_kind(Kind::Double)?;
        Ok::<_, Error>(matrix.f_matmul(&columns)?)
    });
    Ok(Tensor::f_cat(&pieces.collect::<Result<Vec<_>>>()?, 1)?)
}

fn chunks(len: i64) -> impl Iterator<Item = (i64, i64)> {
    (0..len).step_by(CHUNK as usize).map(move |start| (start, CHUNK.min(len - start)))
}

/// Keys or values (`[kv_head, …]`) once for each query head: `[head, …]`.
fn by_query_head(model: &dyn Model, shared: &Tensor) -> Result<Tensor> {
    let dims = model.dims();
    if dims.n_heads == dims.n_kv_heads {
        return Ok(shared.shallow_clone());
    }
    let group = (dims.n_heads / dims.n_kv_heads) as i64;
    Ok(shared.f_repeat_interleave_self_int(group, 0, None::<i64>)?)
}

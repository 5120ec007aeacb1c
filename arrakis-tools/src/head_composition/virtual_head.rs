//! The question what two heads in a row do together.

use arrakis_core::{
    Answer, Axis, Context, Error, Grid, Model, Result, Series, TokenChoice, Tool, Weight, answer, register_tools,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor};

use crate::circuit::{embedded, unembedded};
use crate::factored_matrix::{eigenvalue_grid, sorted};
use crate::{Circuit, FactoredMatrix, HeadInput, HeadPlace, index, lags};

/// Describes the head that an earlier and a later head make together, by the product of their circuits.
///
/// Through the later head's values it is a head of its own, `W_V W_O W_V' W_O'`, which moves what the one moves to where
/// the other moves it. Through its queries it is the QK circuit for what the earlier head has written at the query,
/// `W_V W_O W_Q' W_K'ᵀ`; through its keys the same at the key, `W_V W_O W_K' W_Q'ᵀ`. All are `[d_model, d_model]` and
/// kept as factors. With `tokens` it is also shown what each does once the earlier head has moved it: which tokens it
/// promotes through `v` (by `W_E … W_U`), which keys it looks for through `q`, and by which queries it is found through
/// `k` (by `W_E … W_Eᵀ`). Norms, rotations and biases are no part of it. Where the later head's scores compare queries
/// and keys of earlier positions too, `q` and `k` are of a pair of `lags`, and times the entry of its lag matrix.
/// Identity: `product_gap` is the greatest absolute difference of the singular value decomposition from the product of
/// the four matrices.
/// Source: Elhage et al., "A mathematical framework for transformer circuits" (2021).
///
/// ```
/// # use arrakis_core::{Context, Tool};
/// # use arrakis_tools::{HeadInput, HeadPlace, VirtualHead};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/golden/llama");
/// let model = arrakis_models::load(folder, &arrakis_models::LoadOptions::default())?;
/// let mut asked = VirtualHead::new(HeadPlace::new(0, 1), HeadPlace::new(1, 3), HeadInput::V);
/// asked.tokens = vec![9.into()];
/// let found = asked.run(&Context::new(&model))?;
/// assert!(found.composition < 1.0 && found.effect.is_some());
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct VirtualHead {
    /// The head that writes.
    pub earlier: HeadPlace,
    /// The head that reads, in a later layer.
    pub later: HeadPlace,
    /// What the later head reads with.
    pub input: HeadInput,
    /// Lags of query and key, wanted for `q` and `k` where the later head's scores compare those of earlier positions too:
    /// how far before the attending position the query's token lies, and how far before the one attended to the key's.
    #[serde(default)]
    pub lags: Option<[usize; 2]>,
    /// Tokens whose effect is shown.
    #[serde(default)]
    pub tokens: Vec<TokenChoice>,
    /// How many tokens are listed for each of `tokens`.
    #[serde(default = "ten")]
    pub top: usize,
}

const fn ten() -> usize {
    10
}

impl VirtualHead {
    /// The virtual head of two heads through an input, without tokens.
    #[must_use]
    pub const fn new(earlier: HeadPlace, later: HeadPlace, input: HeadInput) -> Self {
        Self { earlier, later, input, lags: None, tokens: Vec::new(), top: ten() }
    }
}

/// A virtual head as a matrix.
#[derive(Debug, Clone)]
pub struct VirtualCircuit {
    /// The Frobenius norm.
    pub norm: f64,
    /// The norm over the product of the two circuits' norms, in 0..=1.
    pub composition: f64,
    /// The sum of the eigenvalues' real parts over that of their absolute values, in -1..=1.
    pub copying_score: f64,
    /// Singular values, greatest first.
    pub singular_values: Series,
    /// Eigenvalues that may differ from 0, by absolute value: `[eigenvalue, real and imaginary part]`.
    pub eigenvalues: Grid,
    /// The tokens with the greatest entries for each token asked about, with their texts: `[token, rank]`.
    pub effect: Option<Grid>,
    /// Greatest absolute difference of the decomposition from the product.
    pub product_gap: f64,
}

impl From<VirtualCircuit> for Answer {
    fn from(found: VirtualCircuit) -> Self {
        let answer = Self::new()
            .with("norm", found.norm)
            .with("composition", found.composition)
            .with("copying_score", found.copying_score)
            .with("singular_values", found.singular_values)
            .with("eigenvalues", found.eigenvalues);
        let answer = match found.effect {
            Some(effect) => answer.with("effect", effect),
            None => answer,
        };
        answer.with("product_gap", found.product_gap)
    }
}

impl Tool for VirtualHead {
    const NAME: &'static str = "head_composition.virtual_head";
    type Output = VirtualCircuit;

    fn run(&self, cx: &Context<'_>) -> Result<VirtualCircuit> {
        let model = cx.model();
        let top = index::count("top", self.top, model.dims().vocab)?;
        in_order(model, self.earlier, self.later)?;
        let tokens: Vec<i64> = self.tokens.iter().map(|token| token.id(model)).collect::<Result<_>>()?;
        cx.progress(0, 1)?;
        let first = Circuit::Ov.of_head(model, self.earlier, None)?;
        let second = self.input.of_head(model, self.later, self.lags)?;
        let matrix = first.chain(&second)?;

        let input = self.input.name();
        let (earlier, later) = (self.earlier.label(), self.later.label());
        let name = format!("virtual head {earlier} → {later} through {input}{}", lags::suffix(self.lags));
        let svd = matrix.svd()?;
        let values = answer::numbers(&svd.singular_values)?;
        let eigenvalues = sorted(&matrix.eigenvalues()?)?;
        let norm = matrix.norm()?.f_double_value(&[])?;
        let effect = if tokens.is_empty() { None } else { Some(self.effect(model, &matrix, &tokens, top, &name)?) };
        let ranks = Axis::new("rank", (1..=values.len()).map(|rank| rank.to_string()));
        Ok(VirtualCircuit {
            norm,
            composition: norm / (first.norm()?.f_double_value(&[])? * second.norm()?.f_double_value(&[])?),
            copying_score: matrix.copying_score()?.f_double_value(&[])?,
            singular_values: Series::new(
                format!("singular values of the {name}"),
                "singular value",
                ranks,
                [(input, values)],
            )?,
            eigenvalues: eigenvalue_grid(&name, &eigenvalues)?,
            effect,
            product_gap: svd.product_gap(matrix.rows(), |rows| second.apply(&first.select_rows(rows)?.dense()?))?,
        })
    }
}

impl VirtualHead {
    /// The greatest entries of the rows of tokens, from token to token.
    fn effect(
        &self,
        model: &dyn Model,
        matrix: &FactoredMatrix,
        tokens: &[i64],
        top: usize,
        name: &str,
    ) -> Result<Grid> {
        let ids = Tensor::f_from_slice(tokens)?.f_to_device(model.device())?;
        let rows = model.weight(Weight::E.global())?.f_index_select(0, &ids)?.f_to_kind(Kind::Double)?;
        let moved = matrix.apply(&rows)?;
        let (entries, value) = match self.input {
            HeadInput::V => (unembedded(model, &moved)?, "logit"),
            HeadInput::Q | HeadInput::K => {
                (embedded(model, &moved.f_transpose(0, 1)?)?.f_transpose(0, 1)?, "score, unscaled")
            }
        };
        let (values, ids) = entries.f_topk(top as i64, -1, true, true)?;
        let ids: Vec<i64> = Vec::try_from(ids.f_to_device(Device::Cpu)?.f_reshape([-1])?)?;
        let texts = |ids: &[i64]| ids.iter().map(|id| model.token(*id)).collect::<Vec<_>>();
        let title = match self.input {
            HeadInput::V => format!("tokens promoted by the {name}"),
            HeadInput::Q => format!("keys looked for by the {name}"),
            HeadInput::K => format!("queries that find a token by the {name}"),
        };
        let (rows, ranks) =
            (Axis::new("token", texts(tokens)), Axis::new("rank", (1..=top).map(|rank| rank.to_string())));
        Grid::from_tensor(title, value, rows, ranks, &values)?.with_cells(texts(&ids))
    }
}

/// An error unless there are two such heads and the first lies in an earlier layer.
pub(super) fn in_order(model: &dyn Model, earlier: HeadPlace, later: HeadPlace) -> Result<()> {
    earlier.check(model)?;
    later.check(model)?;
    if earlier.layer < later.layer {
        return Ok(());
    }
    let why = format!("it is not in a layer before that of {}, so nothing flows from it to there", later.label());
    Err(Error::Invalid { what: format!("head {}", earlier.label()), why })
}

register_tools!(VirtualHead);
